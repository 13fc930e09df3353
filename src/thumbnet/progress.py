"""Progress of long work: what is being done, how far, and how long it will still take."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

PLAIN_SECONDS = 5.0  # between two lines where there is no terminal


@dataclass(eq=False)
class Stage:
    """One stage's counter."""

    name: str
    total: int
    on_change: _Sink
    done: int = 0
    info: str = ""
    started: float = field(default_factory=lambda: time.monotonic())
    _first: tuple[float, int] | None = None  # when the first steps were counted, and how many

    def advance(self, steps: int = 1, info: str = "") -> None:
        """Counts `steps` more; an empty `info` leaves the last one standing."""
        self.done += steps
        self.info = info or self.info
        self._first = self._first or (time.monotonic(), self.done)
        self.on_change.changed(self)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step since the first steps were counted; None before there are others.

        What comes before is preparation (a build, the steps that an earlier process made) and says nothing of the rest.
        """
        if self._first is None or self.done <= self._first[1]:
            return None
        since, counted = self._first
        return (time.monotonic() - since) / (self.done - counted)

    @property
    def remaining(self) -> float | None:
        """Seconds left at that rate."""
        step = self.step_seconds
        return None if step is None else step * max(0, self.total - self.done)


class _Sink:
    """Where progress is shown; this one shows nothing."""

    def begin(self, stage: Stage) -> None: ...

    def changed(self, stage: Stage) -> None: ...

    def end(self, stage: Stage, finished: bool) -> None: ...

    def note(self, text: str) -> None: ...


class _Terminal(_Sink):
    """A live bar for each stage under way, replaced by a line when it ends. Texts are never read as markup."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.bars: Bars | None = None
        self.tasks: dict[Stage, TaskID] = {}

    def begin(self, stage: Stage) -> None:
        if self.bars is None:
            self.bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[info]}", markup=False),
                console=self.console,
                transient=True,
            )
            self.bars.start()
        self.tasks[stage] = self.bars.add_task(stage.name, total=stage.total, info="")

    def changed(self, stage: Stage) -> None:
        if self.bars is not None:
            left = stage.remaining
            text = stage.info if left is None else f"{duration(left)} left  {stage.info}"
            self.bars.update(self.tasks[stage], completed=stage.done, info=text)

    def end(self, stage: Stage, finished: bool) -> None:
        if self.bars is not None:
            self.bars.remove_task(self.tasks.pop(stage))
            if not self.tasks:
                self.bars.stop()
                self.bars = None
        self.console.print(_line(stage, finished), highlight=False, markup=False)

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, style="dim")


class _Lines(_Sink):
    """A line now and then, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.last = 0.0

    def begin(self, stage: Stage) -> None:
        self.last = time.monotonic()
        self._print(f"{stage.name} ...")

    def changed(self, stage: Stage) -> None:
        now = time.monotonic()
        if now - self.last >= PLAIN_SECONDS and stage.done < stage.total:
            self.last = now
            left = stage.remaining
            time_left = "" if left is None else f", {duration(left)} left"
            self._print(f"  {stage.done}/{stage.total}{time_left}  {stage.info}".rstrip())

    def end(self, stage: Stage, finished: bool) -> None:
        self._print(f"  {_line(stage, finished)}")

    def note(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class Progress:
    """Passed through all stages; keeps the times of those that came to their end."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self.finished: list[tuple[str, float, str]] = []  # name, seconds, last info

    @staticmethod
    def quiet() -> Progress:
        return Progress(_Sink())

    @staticmethod
    def for_console() -> Progress:
        """A live view on a terminal, plain lines elsewhere; both on standard error."""
        return Progress(_Terminal() if sys.stderr.isatty() else _Lines(sys.stderr))

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Stage]:
        """A stage of `total` steps, to be counted by `advance`."""
        stage = Stage(name, max(1, total), self._sink)
        self._sink.begin(stage)
        try:
            yield stage
        except BaseException:
            self._sink.end(stage, False)
            raise
        self._sink.end(stage, True)
        self.finished.append((name, round(stage.seconds, 1), stage.info))

    def note(self, text: str) -> None:
        """A line of its own."""
        self._sink.note(text)


def duration(seconds: float) -> str:
    """ "45 s", "3 min 20 s", "2 h 05 min"."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    if s < 3600:
        return f"{s // 60} min {s % 60:02d} s"
    return f"{s // 3600} h {s % 3600 // 60:02d} min"


def _line(stage: Stage, finished: bool) -> str:
    if not finished:
        return f"{stage.name}: stopped after {duration(stage.seconds)}, at {stage.done} of {stage.total}"
    return f"{stage.name}: {duration(stage.seconds)}" + (f", {stage.info}" if stage.info else "")
