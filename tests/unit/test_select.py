"""Which finished network goes on, and what is said where none keeps a limit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from thumbnet.kept import Finished
from thumbnet.progress import Progress, _Sink
from thumbnet.results import Constraints, Costs, Kind, Metric
from thumbnet.stages import select

COSTS = Costs(Kind.ESTIMATED, 30 << 10, 9000, 20000, 12 << 10, 11000, 0, 1288, 400_000, 900_000, 1_200_000, 18.75)
ACCURACY, ERROR = Metric("accuracy", "Accuracy"), Metric("mae", "Error", "mm", higher_is_better=False, digits=2)


class Noted(_Sink):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def finished(name: str, score: float, flash: int = 30 << 10) -> Finished:
    unused = cast(Any, None)
    return Finished(name, unused, unused, score, replace(COSTS, flash_bytes=flash), {})


def chosen(metric: Metric, limits: Constraints, *of: Finished, front: bool = False) -> tuple[str, list[str]]:
    job = cast(Any, SimpleNamespace(task=SimpleNamespace(metric=metric), limits=limits, front=front))
    said = Noted()
    best = select(job, list(of), cast(Any, SimpleNamespace(val_accuracy=90.0)), Progress(said))
    return best.recipe_id, said.notes


def test_the_best_metric_wins_and_then_the_smaller_flash() -> None:
    assert chosen(ACCURACY, Constraints(), finished("a", 80), finished("b", 85)) == ("b", [])
    assert chosen(ERROR, Constraints(), finished("a", 80), finished("b", 85)) == ("a", [])
    assert chosen(ACCURACY, Constraints(), finished("a", 80, 2048), finished("b", 80, 1024)) == ("b", [])


def test_what_keeps_its_limits_comes_before_what_is_better_but_does_not_fit() -> None:
    limits = Constraints(flash_bytes=31 << 10, max_drop=20.0)
    assert chosen(ACCURACY, limits, finished("a", 80), finished("b", 85, 32 << 10)) == ("a", [])


def test_a_limit_on_quality_that_one_network_keeps_is_kept() -> None:
    limits = Constraints(metric_limit=84.0, max_drop=6.0)
    assert chosen(ACCURACY, limits, finished("a", 83), finished("b", 84.5)) == ("b", [])
    assert chosen(ERROR, Constraints(metric_limit=1.0), finished("a", 1.5), finished("b", 0.9)) == ("b", [])


def test_of_a_front_the_smallest_that_keeps_a_limit_on_quality_is_chosen() -> None:
    networks = finished("a", 80, 1024), finished("b", 88.5, 2048), finished("c", 91, 8192), finished("d", 93, 64 << 10)
    limits = Constraints(max_drop=2, flash_bytes=32 << 10)
    assert chosen(ACCURACY, limits, *networks, front=True) == ("b", [])
    assert chosen(ACCURACY, limits, *networks) == ("c", [])
    assert chosen(ACCURACY, Constraints(flash_bytes=32 << 10), *networks, front=True) == ("c", [])
    assert chosen(ACCURACY, Constraints(metric_limit=99), *networks, front=True)[0] == "d"


def test_where_none_keeps_it_the_best_goes_on_and_the_miss_is_told() -> None:
    name, notes = chosen(ACCURACY, Constraints(metric_limit=90.0), finished("a", 83), finished("b", 84.5))
    assert name == "b"
    assert len(notes) == 1
    assert "at least 90 % asked for (missed by 5.50 points)" in notes[0]
    assert "verified anyway" in notes[0]
