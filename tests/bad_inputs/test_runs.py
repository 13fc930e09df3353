"""Limits that cannot be met, and run directories that cannot be used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run
from filelock import FileLock

from thumbnet.files import write_json_atomic, write_text_atomic

MODEL = ("models:Small", "images", "--input-size", "12x12")


@pytest.fixture
def in_use(here: Path) -> Iterator[Path]:
    """A run directory that another process has locked."""
    code = (
        "import sys, time\nfrom thumbnet.runs import locked\n"
        "with locked('r'):\n    print('locked', flush=True)\n    sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        yield Path("r")
        assert other.stdin is not None
        other.stdin.close()


def test_limits_that_cannot_be_met_name_the_nearest_that_can(thumbnet: Run, images: Path) -> None:
    outcome = thumbnet("optimize", *MODEL, "--flash", "1KB", "--run-dir", "r")
    assert outcome.code == 6
    assert "nearest" in outcome.error
    assert "flash" in outcome.error


def test_a_run_directory_in_use_names_the_process(thumbnet: Run, images: Path, in_use: Path) -> None:
    for command in (("optimize", *MODEL), ("demo",), ("demo", "--force")):
        outcome = thumbnet(*command, "--run-dir", in_use)
        assert outcome.code == 7
        assert f"in use by process {(in_use / '.pid').read_text()}" in outcome.error
        assert (in_use / ".pid").read_text() != str(os.getpid())


def test_a_run_directory_of_another_job(thumbnet: Run, images: Path) -> None:
    write_json_atomic(Path("r/run.json"), {"seed": 1})
    write_text_atomic(Path("r/stages/baseline/stage.json"), "{}")
    outcome = thumbnet("optimize", *MODEL, "--run-dir", "r")
    assert outcome.code == 7
    assert "its seed is 1, not 0" in outcome.error
    assert "--force" in outcome.error
    outcome = thumbnet("optimize", *MODEL, "--run-dir", "r", "--force", "--flash", "1KB")
    assert outcome.code == 6


def test_a_folder_with_other_peoples_files_is_no_run_directory(thumbnet: Run, images: Path) -> None:
    Path("model.tflite").write_bytes(b"mine")
    for extra in ((), ("--force",)):
        outcome = thumbnet("optimize", *MODEL, "--run-dir", ".", *extra)
        assert outcome.code == 7
        assert "model.tflite" in outcome.error
    assert Path("model.tflite").read_bytes() == b"mine"


def test_a_run_directory_that_is_a_file(thumbnet: Run, images: Path) -> None:
    Path("r").write_text("")
    assert thumbnet("optimize", *MODEL, "--run-dir", "r").code == 7


def test_a_run_that_has_not_finished(thumbnet: Run, here: Path) -> None:
    for command in ("verify", "report"):
        for folder in (".", "nowhere"):
            assert thumbnet(command, folder).code == 7


def test_a_damaged_result(thumbnet: Run, here: Path) -> None:
    Path("result.json").write_text('{"reference": ')
    assert thumbnet("report", ".").code != 0


@pytest.mark.slow
def test_an_interrupted_run_says_what_is_kept_and_how_to_go_on(images: Path) -> None:
    command = [sys.executable, "-m", "thumbnet", "optimize", *MODEL, "--run-dir", "r"]

    def listen() -> None:  # a shell in the background starts its children with SIGINT ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("Fit candidates"):
                run.send_signal(signal.SIGINT)
                break
        error = run.stderr.read()
    assert run.returncode == 130
    assert "Traceback" not in error
    last = error.rstrip().splitlines()[-1]
    assert "Kept in r: baseline, importance, variants." in last
    assert "thumbnet optimize models:Small images --input-size 12x12 --run-dir r" in last


def test_the_lock_goes_with_its_process(here: Path) -> None:
    code = "from thumbnet.runs import locked\nimport os\nwith locked('r'):\n    os._exit(1)\n"
    subprocess.run([sys.executable, "-c", code], check=False)
    with FileLock("r/.lock", timeout=0):
        assert Path("r/.pid").exists()
