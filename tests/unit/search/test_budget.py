"""From measured rates to numbers of steps. The clock is the tests' own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_cases import preprocessing, residual_network, stripes

from thumbnet.data import Augmentation
from thumbnet.search import budget
from thumbnet.search.budget import Final, Rate, largest, least_steps, makespan, rungs_seconds, scaled, taught_steps
from thumbnet.search.efforts import EFFORTS, Effort
from thumbnet.search.lesson import Lesson
from thumbnet.training.distill import CrossEntropy
from thumbnet.training.module import GraphModule

SMALL = Effort(12, ((4, 0.1), (2, 0.25)), 1, 10, 0, 0.3, 320, 40)
SECONDS = st.lists(st.floats(0, 100), min_size=1, max_size=12)


@given(SECONDS, st.integers(1, 6))
def test_tasks_take_at_least_the_longest_and_their_share_and_less_than_both(own: list[float], workers: int) -> None:
    taken = makespan(own, workers)
    assert taken >= max(*own, sum(own) / workers) - 1e-6
    assert taken <= max(own) + sum(own) / workers + 1e-6  # Graham's bound for lists


def test_tasks_go_to_the_first_free_worker() -> None:
    assert makespan([4, 1, 1, 1], 2) == 4
    assert makespan([1, 1, 1, 4], 2) == 5
    assert makespan([3, 2], 1) == 5


@given(st.floats(0.001, 10), st.floats(0, 100), st.floats(0, 1000), st.integers(1, 60))
def test_as_many_steps_as_fit_and_no_more(step: float, once: float, left: float, least: int) -> None:
    found = largest(lambda n: once + n * step, left, least)
    assert found >= least
    assert found == least or once + found * step <= left
    assert once + (found + 1) * step > left


@pytest.mark.parametrize("name", EFFORTS)
@pytest.mark.parametrize("steps", [50, 777, 20_000])
def test_the_proportions_of_an_effort_stay(name: str, steps: int) -> None:
    own, planned = EFFORTS[name], scaled(EFFORTS[name], steps)
    assert planned.steps(1000) == planned.steps(50_000) == steps
    for (survivors, part), (s, n) in zip(own.rungs, planned.rung_steps(1000), strict=True):
        assert (s, n) == (survivors, pytest.approx(part * steps, abs=1))
    assert planned.quantized_steps(1000) == pytest.approx(own.quantized * steps, abs=1)
    assert least_steps(planned, 1000) == 50


def test_rungs_take_what_their_candidates_take_side_by_side() -> None:
    effort = scaled(SMALL, 100)  # 4 candidates to 10 steps, 2 to 25
    rates = [Rate(1.0, 2.0, 3.0)] * 4
    first, second = 2 * (10 + 5), 1 * (15 + 5)
    assert rungs_seconds(effort, rates, 500, 2, 0.5) == pytest.approx(first + second + 2 * 0.5)
    assert rungs_seconds(effort, rates, 500, 1, 0.0) == pytest.approx(2 * (first + second))


def test_a_finalist_is_trained_twice_and_judged_along_the_way() -> None:
    assert Final(Rate(1.0, 0.5), Rate(2.0, 1.0)).seconds(100, 30) == 100 + 60 + 5 * 1.5


def test_variants_learn_in_proportion_within_bounds() -> None:
    assert [taught_steps(SMALL, f) for f in (0.0, 0.5, 1.0, 100.0)] == [8, 20, 40, 160]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A quarter of a second passes whenever somebody looks."""
    looks = [0]

    def now() -> float:
        looks[0] += 1
        return 0.25 * looks[0]

    monkeypatch.setattr(budget, "now", now)
    return looks


def test_measuring_changes_nothing(clock: list[int]) -> None:
    data = stripes(16, 16)
    lesson = Lesson(data.train, data.val, preprocessing(16), None, CrossEntropy(), Augmentation.named("none"), 0)
    graph = residual_network()
    before = graph.digest
    torch.manual_seed(5)
    found = budget.graph_rate(lesson, graph, lambda steps, info: None)
    assert found == Rate(step=0.25, judged=0.25, loaded=0.25)
    assert graph.digest == before
    assert GraphModule(graph).to_graph().digest == before
