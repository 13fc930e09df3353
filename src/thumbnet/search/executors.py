"""Where the search's trainings run: in this process one after another, or in several at once, to the same bytes.

A task is a function of one item and of what all tasks share. How many threads it computes with depends on the machine
and on how many tasks there are, never on how many run at once: sums in floating point depend on it.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.errors import ThumbnetError
from thumbnet.training.allocator import keep_freed_memory

Answer = TypeVar("Answer")
OnStep = Callable[[int, str], None]
Task = Callable[[Any, Any, OnStep], Answer]  # (shared, item, on_step), which hears of steps since it heard last

POLL_SECONDS = 0.2
IDLE_SECONDS = 20


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
        return _spread(task, shared, items, workers, _Room(Path(folder), len(items), threads), on_step)


@dataclass(frozen=True)
class _Room:
    """Where the processes of one call meet: what all tasks share, and a counter of steps for each."""

    folder: Path
    items: int
    threads: int  # for each task

    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    def steps(self, mode: Literal["w+", "r+"]) -> npt.NDArray[np.int64]:
        """Mapped by all processes: nothing to lock, nothing to drain."""
        return np.memmap(self.folder / "steps", np.int64, mode, shape=(self.items,))


def _spread(
    task: Task[Answer], shared: Any, items: Sequence[Any], workers: int, room: _Room, on_step: OnStep
) -> list[Answer]:
    # late: a process with one worker does without
    import cloudpickle
    from loky import get_reusable_executor

    with room.shared.open("wb") as file:  # for processes of our own, and gone with the call
        cloudpickle.dump((task, shared), file)
    steps, told = room.steps("w+"), 0
    # The same processes serve call after call; they end when nothing comes for a while.
    pool = get_reusable_executor(workers, timeout=IDLE_SECONDS, initializer=_begin)
    try:
        futures: list[Future[Answer]] = [pool.submit(_one, room, k, item) for k, item in enumerate(items)]
        pending = set(futures)
        while pending:
            done, pending = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            for future in done:
                future.result()  # an error ends the others
            told, before = int(steps.sum()), told
            if told > before:
                on_step(told - before, "")
        return [future.result() for future in futures]
    except BrokenProcessPool as e:
        pool.shutdown(wait=True, kill_workers=True)
        raise ThumbnetError(
            "A process of the search ended by itself, most likely for want of memory.",
            "Run again with --workers 1, which takes less; what was finished is kept.",
        ) from e
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)
        raise


_worker: dict[str, Any] = {}


def _begin() -> None:
    """Once in each worker. Ctrl-C is for the process that the user sees; it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()


def _one(room: _Room, position: int, item: Any) -> Any:
    if _worker.get("room") != room:
        _worker.clear()  # before the next is loaded, so that there are never two
        with room.shared.open("rb") as file:
            task, shared = pickle.load(file)
        _worker.update(room=room, task=task, shared=shared, steps=room.steps("r+"))
    torch.set_num_threads(room.threads)

    def count(done: int, info: str) -> None:
        _worker["steps"][position] += done

    return _worker["task"](_worker["shared"], item, count)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
