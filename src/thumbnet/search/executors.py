"""Where the search's trainings run: in this process one after another, or in several at once, to the same bytes.

A task is a function of one item and of what all tasks share. How many threads it computes with depends on the machine
and on how many tasks there are, never on how many run at once: sums in floating point depend on it.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from thumbnet.training.allocator import keep_freed_memory

Item = TypeVar("Item")
Answer = TypeVar("Answer")
OnStep = Callable[[int, str], None]
Task = Callable[
    [Any, Any, OnStep], Answer
]  # (shared, item, on_step): `on_step` hears of steps done since the last call

POLL_SECONDS = 0.5


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(tasks: int) -> int:
    """Threads for each of so many tasks of about equal length: small networks gain little from a second thread."""
    return max(1, cores() // max(1, tasks))


def run_tasks(task: Task[Answer], shared: Any, items: Sequence[Any], *, workers: int, on_step: OnStep) -> list[Answer]:
    """The answers of `task(shared, item, on_step)`, in the order of the items.

    Tasks, items and answers travel between processes where `workers` is more than 1. An error ends the others and is
    raised here; so does Ctrl-C, after which no process is left.
    """
    threads = threads_of(len(items))
    if workers <= 1 or len(items) <= 1:
        with _threads(threads):
            return [task(shared, item, on_step) for item in items]
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as folder:
        return _spread(task, shared, items, min(workers, len(items)), threads, Path(folder) / "steps", on_step)


def _spread(
    task: Task[Answer], shared: Any, items: Sequence[Any], workers: int, threads: int, counts: Path, on_step: OnStep
) -> list[Answer]:
    # late: a process with one worker does without
    from loky import ProcessPoolExecutor

    # Workers count their steps in a file that all of them have mapped: nothing to lock, nothing to drain.
    steps = np.memmap(counts, np.int64, "w+", shape=(len(items),))
    pool = ProcessPoolExecutor(workers, initializer=_begin, initargs=(task, shared, counts, len(items), threads))
    try:
        futures = [pool.submit(_one, k, item) for k, item in enumerate(items)]
        told = 0
        pending: set[Future[Answer]] = set(futures)
        while pending:
            done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                future.result()  # an error ends the others
            told, before = int(steps.sum()), told
            if told > before:
                on_step(told - before, "")
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, kill_workers=True)


_worker: dict[str, Any] = {}


def _begin(task: Task[Any], shared: Any, counts: Path, items: int, threads: int) -> None:
    """Once in each worker. Ctrl-C is for the process that the user sees; it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    torch.set_num_threads(threads)
    _worker.update(task=task, shared=shared, steps=np.memmap(counts, np.int64, "r+", shape=(items,)))


def _one(position: int, item: Any) -> Any:
    steps = _worker["steps"]

    def count(done: int, info: str) -> None:
        steps[position] += done

    return _worker["task"](_worker["shared"], item, count)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
