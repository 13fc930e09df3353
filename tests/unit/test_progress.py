"""Progress: lines for logs, honest times."""

from __future__ import annotations

import io

import pytest

from thumbnet.progress import Progress, Stage, _Lines, _Sink, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_time_left_follows_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("s", 10, _Sink())
    assert stage.remaining is None
    monkeypatch.setattr("thumbnet.progress.time.monotonic", lambda: stage.started + 6.0)
    stage.done = 4
    assert stage.remaining == pytest.approx(9.0)


def test_a_log_gets_a_line_at_the_start_and_the_end_of_a_stage() -> None:
    stream = io.StringIO()
    progress = Progress(_Lines(stream))
    with progress.stage("Train", total=2) as stage:
        stage.advance(1)
        stage.advance(1, info="loss 0.1")
    assert stream.getvalue().splitlines() == ["Train ...", "  Train: 0 s, loss 0.1"]
    assert progress.finished[0][0] == "Train"
