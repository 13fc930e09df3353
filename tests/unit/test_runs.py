"""The run directory: kept stages, damage, locks, identity."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from thumbnet.errors import RunError
from thumbnet.files import read_json, write_json_atomic
from thumbnet.progress import Progress, _Lines
from thumbnet.runs import RunDirectory, command, forget, locked

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


def test_a_stage_may_leave_folders(tmp_path: Path) -> None:
    def keep(folder: Path, value: int) -> None:
        write_json_atomic(folder / "deep" / "value.json", value)

    def load(folder: Path) -> int:
        return int(read_json(folder / "deep" / "value.json"))

    with RunDirectory.open(tmp_path / "r", JOB) as run:
        run.stage("s", "k", lambda: 1, keep, load)
        assert run.stage("s", "k", lambda: 2, keep, load) == 1
        (run.path / "stages" / "s" / "deep" / "value.json").write_text("7\n")
        assert run.stage("s", "k", lambda: 3, keep, load) == 3


def test_what_another_version_wrote_is_computed_again(tmp_path: Path) -> None:
    notes = io.StringIO()
    with RunDirectory.open(tmp_path / "r", JOB, Progress(_Lines(notes))) as run:
        run.stage("s", "k", lambda: {"old": 1}, lambda f, v: write_json_atomic(f / "v.json", v), lambda f: None)
        value = run.stage(
            "s",
            "k",
            lambda: {"new": 2},
            lambda f, v: write_json_atomic(f / "v.json", v),
            lambda f: read_json(f / "v.json")["new"],
        )
    assert value == {"new": 2}
    assert "cannot be read ('new'); computing it again" in notes.getvalue()


def test_every_difference_of_another_job_is_told(tmp_path: Path) -> None:
    job = {"model": "a" * 64, "limits": {"flash_bytes": 1024}, "effort": "quick"}
    with RunDirectory.open(tmp_path / "r", job):
        pass
    other = {"model": "b" * 64, "limits": {"flash_bytes": 2048, "macs": 7}, "effort": "quick"}
    with pytest.raises(RunError) as e, RunDirectory.open(tmp_path / "r", other):
        pass
    assert "(its model differs; its flash_bytes is 1024, not 2048; its macs is null, not 7)" in str(e.value)


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"seed": '])
def test_a_damaged_identity_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"damaged \(run\.json\)"), RunDirectory.open(tmp_path, JOB):
        pass


def test_forgetting_removes_state_and_results_but_no_other_files(tmp_path: Path) -> None:
    calls: list[int] = []
    with RunDirectory.open(tmp_path / "r", JOB) as run:
        counted(run, "k", calls)
        (run.path / "result.json").write_text("{}")
        (run.path / "notes.txt").write_text("mine")
    forget(tmp_path / "r")
    assert not (tmp_path / "r" / "result.json").exists()
    with RunDirectory.open(tmp_path / "r", JOB | {"seed": 5}) as run:
        assert counted(run, "k", calls) == 42
        assert (run.path / "notes.txt").read_text() == "mine"


def test_forgetting_leaves_alone_what_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(RunError, match=r"holds 'report\.html'"):
        forget(tmp_path)
    assert (tmp_path / "stages").exists()
    forget(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_one_process_may_lock_twice_and_is_free_only_after_both(tmp_path: Path) -> None:
    code = "import sys\nfrom thumbnet.runs import locked\nwith locked(sys.argv[1]):\n    print('free')\n"

    def other() -> bool:
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
        return done.stdout == "free\n"

    with locked(tmp_path):
        with locked(tmp_path):
            pass
        assert not other()
    assert other()


def test_an_interruption_says_what_is_kept(tmp_path: Path) -> None:
    def interrupted() -> None:
        with RunDirectory.open(tmp_path / "r", JOB) as run:
            counted(run, "k", [])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as e:
        interrupted()
    assert e.value.__notes__ == [f"Kept in {tmp_path / 'r'}: count."]


def test_times_and_stages_of_earlier_sessions_count(tmp_path: Path) -> None:
    for session, names in enumerate((("a", "b"), ("b", "c"))):
        progress = Progress.quiet()
        with RunDirectory.open(tmp_path / "r", JOB, progress) as run:
            for name in names:
                with progress.stage(name, total=1) as stage:
                    stage.advance(1, info=f"session {session}")
            story = run.story()
    assert [(s["stage"], s["note"]) for s in story] == [("a", "session 0"), ("b", "session 1"), ("c", "session 1")]
    before = read_json(tmp_path / "r" / "times.json")
    write_json_atomic(tmp_path / "r" / "times.json", before | {"seconds": 1000.0})
    with RunDirectory.open(tmp_path / "r", JOB) as run:
        assert run.wall_seconds >= 1000.0


def test_nothing_is_written_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunDirectory.open("r", JOB) as run:
        counted(run, "k", [])
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/thumbnet", "optimize", "my model.pt2"])
    assert command() == "thumbnet optimize 'my model.pt2'"
    monkeypatch.setattr("sys.argv", ["/x/thumbnet/__main__.py", "demo"])
    assert command() == "python -m thumbnet demo"
