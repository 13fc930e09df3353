"""What Thumbnet did not expect keeps its traceback, and says where to send it."""

from __future__ import annotations

import errno

import pytest

from thumbnet import cli


def broken(error: BaseException) -> object:
    def targets() -> list[str]:
        raise error

    return targets


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> tuple[object, str]:
    monkeypatch.setattr("thumbnet.targets.available_targets", broken(error))
    monkeypatch.setattr("sys.argv", ["thumbnet", "targets"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code, capsys.readouterr().err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run(monkeypatch, capsys, ZeroDivisionError("oops"))
    assert code == 70
    assert "Traceback" in error
    assert "oops" in error
    assert error.rstrip().splitlines()[-1].startswith("This is a bug in thumbnet ")


def test_a_full_disk_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run(monkeypatch, capsys, OSError(errno.ENOSPC, "No space left on device", "r/model.c"))
    assert code == 1
    assert error.strip() == "Error: The disk is full (r/model.c). Free some space and run again."


def test_too_little_memory_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = run(monkeypatch, capsys, MemoryError())
    assert code == 1
    assert error.startswith("Error: Not enough memory.")
