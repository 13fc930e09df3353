"""Progress: lines for logs, honest times."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from thumbnet.progress import PLAIN_SECONDS, Progress, Stage, _Lines, _Sink, _Terminal, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_time_left_follows_the_rate_after_the_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("s", 10, _Sink())
    clock = stage.started
    monkeypatch.setattr("thumbnet.progress.time.monotonic", lambda: clock)
    assert stage.remaining is None
    clock += 60.0  # a build before the first step
    stage.advance()
    assert stage.remaining is None
    clock += 4.5
    stage.advance(3)
    assert stage.remaining == pytest.approx(9.0)


def test_a_log_gets_a_line_at_the_start_and_the_end_of_a_stage() -> None:
    stream = io.StringIO()
    progress = Progress(_Lines(stream))
    with progress.stage("Train", total=2) as stage:
        stage.advance(1)
        stage.advance(1, info="loss 0.1")
    assert stream.getvalue().splitlines() == ["Train ...", "  Train: 0 s, loss 0.1"]
    assert progress.finished[0][0] == "Train"


def test_a_stage_that_fails_is_told_apart() -> None:
    stream = io.StringIO()
    progress = Progress(_Lines(stream))

    def failing() -> None:
        with progress.stage("Train", total=5) as stage:
            stage.advance(2)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert "Train: stopped after 0 s, at 2 of 5" in stream.getvalue()
    assert progress.finished == []


def test_long_stages_get_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("thumbnet.progress.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(_Lines(stream))
    with progress.stage("Train", total=100) as stage:
        for _ in range(100):
            clock[0] += 1.0
            stage.advance(1, info="loss 1")
    lines = stream.getvalue().splitlines()
    assert lines[1] == f"  {round(PLAIN_SECONDS)}/100, 1 min 35 s left  loss 1"
    assert len(lines) == 100 // round(PLAIN_SECONDS) + 1
    assert lines[-1] == "  Train: 1 min 40 s, loss 1"


def test_a_terminal_shows_bars_of_nested_stages_and_no_markup() -> None:
    stream = io.StringIO()
    progress = Progress(_Terminal(Console(file=stream, force_terminal=True, width=100)))
    with progress.stage("[bold]Outer", total=2) as outer:
        with progress.stage("Inner", total=1) as inner:
            inner.advance(1, info="[red]x")
        outer.advance(1)
        progress.note("[link]note")
    text = stream.getvalue()
    for part in ("[bold]Outer: 0 s", "Inner: 0 s, [red]x", "[link]note"):
        assert part in text
    assert [name for name, _, _ in progress.finished] == ["Inner", "[bold]Outer"]
