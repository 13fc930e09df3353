"""The run directory: kept stages, damage, locks, identity."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from thumbnet.errors import RunError
from thumbnet.files import read_json, write_json_atomic
from thumbnet.runs import RunDirectory

JOB = {"model": "m", "seed": 0}


def counted(run: RunDirectory, key: str, calls: list[int]) -> int:
    def compute() -> int:
        calls.append(1)
        return 40 + len(calls)

    return run.stage(
        "count",
        key,
        compute,
        lambda folder, value: write_json_atomic(folder / "value.json", value),
        lambda folder: int(read_json(folder / "value.json")),
    )


def test_a_stage_is_computed_once_and_again_only_for_another_key(tmp_path: Path) -> None:
    calls: list[int] = []
    with RunDirectory.open(tmp_path / "r", JOB) as run:
        assert counted(run, "k", calls) == 41
    with RunDirectory.open(tmp_path / "r", JOB) as run:
        assert counted(run, "k", calls) == 41
        assert counted(run, "other", calls) == 42
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["flip", "remove", "torn"])
def test_a_damaged_stage_is_computed_again(tmp_path: Path, damage: str) -> None:
    calls: list[int] = []
    with RunDirectory.open(tmp_path / "r", JOB) as run:
        counted(run, "k", calls)
        value = run.path / "stages" / "count" / "value.json"
        if damage == "flip":
            value.write_text("99\n")
        elif damage == "remove":
            value.unlink()
        else:
            (value.parent / "stage.json").write_text('{"key": "k"')
        assert counted(run, "k", calls) == 42


def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "r", JOB) as run:
        with pytest.raises(KeyboardInterrupt):
            run.stage("s", "k", lambda: 1, lambda folder, value: (_ for _ in ()).throw(KeyboardInterrupt), lambda f: 1)
        assert list((run.path / "stages").iterdir()) == []


def test_another_job_is_refused_and_told_what_differs(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "r", JOB):
        pass
    with (
        pytest.raises(RunError, match=r"belongs to another job \(its seed is 0, not 1\).*--run-dir"),
        RunDirectory.open(tmp_path / "r", {**JOB, "seed": 1}),
    ):
        pass


def test_a_second_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom thumbnet.errors import RunError\nfrom thumbnet.runs import RunDirectory\n"
        "try:\n    RunDirectory.open(sys.argv[1], {'model': 'm', 'seed': 0}).__enter__()\n"
        "except RunError as e:\n    print(e)\n"
    )
    with RunDirectory.open(tmp_path / "r", JOB):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "r")], capture_output=True, text=True, check=True
        )
    assert "is in use by process" in done.stdout


def test_a_run_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("")
    with pytest.raises(RunError, match="cannot be made"), RunDirectory.open(tmp_path / "r", JOB):
        pass
