"""Tasks in several processes: the same answers, errors that arrive, steps that are counted."""

from __future__ import annotations

import os

import pytest
import torch

from thumbnet.errors import ThumbnetError
from thumbnet.search.executors import OnStep, cores, run_tasks, threads_of


def product(shared: torch.Tensor, seed: int, on_step: OnStep) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 200, generator=generator)
    for _ in range(4):
        x = torch.tanh(x @ shared)
        on_step(1, "")
    return x


def failing(shared: object, item: int, on_step: OnStep) -> int:
    if item == 2:
        raise ValueError("the second")
    return item


def test_the_answers_do_not_depend_on_the_number_of_workers() -> None:
    shared = torch.randn(200, 200, generator=torch.Generator().manual_seed(9)) / 14
    heard: dict[int, int] = {}

    def answers(workers: int) -> list[torch.Tensor]:
        def count(steps: int, info: str) -> None:
            heard[workers] = heard.get(workers, 0) + steps

        return run_tasks(product, shared, [3, 1, 2], workers=workers, on_step=count)

    alone, together = answers(1), answers(3)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert heard == {1: 12, 3: 12}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_here(workers: int) -> None:
    with pytest.raises(ValueError, match="the second"):
        run_tasks(failing, None, [1, 2, 3], workers=workers, on_step=lambda steps, info: None)


def test_a_process_that_ends_by_itself_is_told_without_a_traceback() -> None:
    with pytest.raises(ThumbnetError, match="ended by itself") as told:
        run_tasks(lambda s, item, on: os._exit(9), None, [1, 2], workers=2, on_step=lambda s, i: None)
    assert "--workers 1" in told.value.hint
    assert run_tasks(product, torch.eye(200), [1, 2], workers=2, on_step=lambda s, i: None)  # the next call works


def test_functions_that_no_module_has_travel_too() -> None:
    offset = 5
    found = run_tasks(lambda shared, item, on_step: item + offset, None, [1, 2], workers=2, on_step=lambda s, i: None)
    assert found == [6, 7]


def test_threads_depend_on_the_tasks_and_come_back() -> None:
    before = torch.get_num_threads()
    seen = run_tasks(lambda s, item, on: torch.get_num_threads(), None, [0], workers=1, on_step=lambda s, i: None)
    assert seen == [cores()]
    assert torch.get_num_threads() == before
    assert threads_of(10_000) == 1
    assert threads_of(1) == cores()
