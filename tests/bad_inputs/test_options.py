"""Options that cannot be meant, boards that do not exist: told before anything is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--target", "nrf52480"), 5, "nrf52840"),  # the closest name
        (("--target", "no-such.toml"), 5, "no-such.toml"),
        (("--flash", "lots"), 2, "256KB"),
        (("--flash", "0"), 2, "positive"),
        (("--ram", "-3KB"), 2, "-3KB"),
        (("--latency", "-1"), 2, "latency_ms must be positive"),
        (("--cycles", "0"), 2, "cycles must be positive"),
        (("--energy", "0"), 2, "energy_mj must be positive"),
        (("--metric-limit", "nan"), 2, "metric_limit must be a number"),
        (("--energy", "1", "--target", "cortex-m4"), 2, "does not tell what it draws"),
        (("--energy", "1", "--target", "rp2040"), 2, "active_ma and supply_v"),
        (("--input-size", "12"), 2, "HEIGHTxWIDTH"),
        (("--mean", "grey"), 2, "--mean"),
        (("--task", "guessing"), 2, "multi-label"),
        (("--force",), 2, "--run-dir"),
    ],
)
def test_an_option_is_refused_before_the_model_is_opened(
    thumbnet: Run, images: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    outcome = thumbnet("optimize", "no-such-model.pt2", images, *arguments)
    assert outcome.code == code
    assert says in outcome.error
    assert "no-such-model" not in outcome.error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--effort", "heroic"), "quick, standard, thorough"),
        (("--latency", "-1"), "latency_ms must be positive"),
        (("--latency", "nan"), "latency_ms must be positive"),
        (("--macs", "0"), "macs must be positive"),
        (("--max-drop", "-0.5"), "max_drop must be positive"),
        (("--max-drop", "inf"), "max_drop must be positive"),
        (("--metric-limit", "101"), "from 0 to 100"),
        (("--mean", "123.7"), "divide one for 0..255 by 255"),
        (("--std", "0"), "standard deviation 0"),
        (("--mean", "0.4,0.5"), "one value or 1"),
        (("--loss", "my loss"), "package.module:function"),
        (("--metric", "models:nothing"), "has no function 'nothing'"),
        (("--metric", "no_such:metric"), "cannot be imported"),
    ],
)
def test_a_value_is_refused(thumbnet: Run, images: Path, arguments: tuple[str, ...], says: str) -> None:
    outcome = thumbnet("optimize", "models:Small", images, "--input-size", "12x12", *arguments)
    assert outcome.code == 2
    assert says in outcome.error


@pytest.mark.parametrize("arguments", [("--no-such-option",), ("--seed", "x"), ("--seed", "-1"), ("--macs", "1e6")])
def test_what_the_parser_refuses_is_shown_by_it(
    images: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thumbnet.cli import main

    monkeypatch.setattr("sys.argv", ["thumbnet", "optimize", "m.pt2", str(images), *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert arguments[0] in error
    assert "Traceback" not in error


def test_a_board_that_cannot_be_is_refused(thumbnet: Run, images: Path) -> None:
    Path("board.toml").write_text('name = "b"\ntitle = "B"\ncore = "cortex-m4"\nflash = "256KB"\nram = "lots"\n')
    outcome = thumbnet("optimize", "models:Small", images, "--target", "board.toml")
    assert outcome.code == 5
    assert "ram" in outcome.error


def test_targets_can_be_read_by_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from thumbnet.cli import main

    monkeypatch.setattr("sys.argv", ["thumbnet", "targets", "--json"])
    with pytest.raises(SystemExit) as exit_:
        main()
    boards = json.loads(capsys.readouterr().out)
    assert exit_.value.code == 0
    assert {"nrf52840"} <= {b["name"] for b in boards}
    assert len(boards) >= 12
