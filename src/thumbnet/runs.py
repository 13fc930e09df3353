"""The run directory: one process at a time, each finished stage kept, nothing written outside.

Layout: `run.json` (whose run this is), `stages/<name>/` (what a stage left, with `stage.json` = its key and the SHA-256
of each file), `times.json`, and the results beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from thumbnet.errors import RunError, ThumbnetError
from thumbnet.files import read_json, write_json_atomic, write_text_atomic
from thumbnet.progress import Progress
from thumbnet.version import __version__

T = TypeVar("T")
_UNFINISHED = ".unfinished"
PACKAGES = ("torch", "numpy", "scipy", "ziglang", "unicorn", "tflite-micro", "ai-edge-litert", "pillow")
RESULTS = ("result.json", "details.json", "report.html", "model.tflite", "firmware", "integer.json", "exports", "front")
STATE = ("times.json", "stages", "reference.json", "reference.safetensors", "integer.safetensors", "proof_inputs.npy")


class RunDirectory:
    """An open run directory. Use `RunDirectory.open` as a context manager."""

    def __init__(self, path: Path, progress: Progress, workers: int = 1) -> None:
        self.path = path
        self.workers = workers  # processes that stages may use
        self.progress = progress
        # stages that came before this run under the same progress, such as the demo's fine-tuning, count
        self._started = time.monotonic() - sum(seconds for _, seconds, _ in progress.finished)
        self._start_time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        stored = _stored_times(path)
        self._earlier = float(stored["seconds"])
        self._earlier_stages = [(str(n), float(s), str(i)) for n, s, i in stored["stages"]]

    @staticmethod
    @contextmanager
    def open(
        path: str | Path, identity: Mapping[str, Any], progress: Progress | None = None, workers: int = 1
    ) -> Iterator[RunDirectory]:
        """Locks `path` for this job. Raises `RunError` when another process or another job has it.

        `identity` is what makes two jobs the same (JSON values). A `KeyboardInterrupt` that passes through carries a
        note of what has been kept.
        """
        folder = Path(path)
        with locked(folder):
            _claim(folder, identity)
            run = RunDirectory(folder, progress or Progress.quiet(), workers)
            try:
                yield run
            except KeyboardInterrupt as e:
                e.add_note(run.kept())
                raise
            finally:
                run._store_times()

    def stage(
        self,
        name: str,
        key: str,
        compute: Callable[[], T],
        save: Callable[[Path, T], None],
        load: Callable[[Path], T],
    ) -> T:
        """The stage's result: loaded where a whole one with this key is kept, computed and kept otherwise.

        `save` writes into an empty folder, `load` reads from it; what is there is checked by SHA-256 first. Damaged or
        outdated results are computed again, with a note. Raises `ThumbnetError` where the disk is full.
        """
        folder = self.path / "stages" / name
        state = _state(folder, key)
        if state == "whole":
            try:
                value = load(folder)
            except (ThumbnetError, OSError, KeyError, ValueError, TypeError, SafetensorError) as e:
                self.progress.note(f"What was kept of '{name}' cannot be read ({e}); computing it again.")
            else:
                self.progress.note(f"{name}: done before, taken from {folder}.")
                return value
        elif state:
            self.progress.note(f"What was kept of '{name}' {state}; computing it again.")
        value = compute()
        self._keep(name, key, value, save)
        return value

    def _keep(self, name: str, key: str, value: T, save: Callable[[Path, T], None]) -> None:
        """Writes into a temporary folder beside, and renames it when whole."""
        folder = self.path / "stages" / name
        temporary: Path | None = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
            save(temporary, value)
            files = sorted(p for p in temporary.rglob("*") if p.is_file())
            sums = {p.relative_to(temporary).as_posix(): _sha256(p) for p in files}
            write_json_atomic(temporary / "stage.json", {"key": key, "sha256": sums})
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
            shutil.rmtree(self.unfinished(name), ignore_errors=True)
            self._store_times()  # a process that is killed has spent its time, too
        except (OSError, SafetensorError) as e:
            reason = getattr(e, "strerror", None) or e
            raise ThumbnetError(f"Cannot write {folder}: {reason}.", "Free some disk space and run again.") from e
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)

    def unfinished(self, name: str) -> Path:
        """Where a stage may keep its own state while it runs; gone once the stage is kept."""
        return self.path / "stages" / f"{name}{_UNFINISHED}"

    def kept(self) -> str:
        """A sentence on what an interrupted run leaves to go on from."""
        found = sorted((self.path / "stages").glob("*/stage.json"), key=lambda p: (p.stat().st_mtime_ns, p))
        names = ", ".join(p.parent.name for p in found)
        begun = " The stage that was under way goes on where it was." if self._has_unfinished() else ""
        return (f"Kept in {self.path}: {names}." if names else f"No stage had finished in {self.path}.") + begun

    def _has_unfinished(self) -> bool:
        return any((self.path / "stages").glob(f"*{_UNFINISHED}/*"))

    @property
    def wall_seconds(self) -> float:
        """Time spent on this run, earlier sessions included."""
        return round(self._earlier + time.monotonic() - self._started, 1)

    def story(self) -> list[dict[str, Any]]:
        """The stages that made this run, those of earlier sessions included, for the report."""
        return [{"stage": n, "seconds": s, "note": i} for n, s, i in self._stages()]

    def _stages(self) -> list[tuple[str, float, str]]:
        again = {name for name, _, _ in self.progress.finished}
        return [s for s in self._earlier_stages if s[0] not in again] + self.progress.finished

    def provenance(self) -> dict[str, Any]:
        """Versions, command, platform and start of this session."""
        return {
            "versions": versions(),
            "command": command(),
            "platform": platform.platform(),
            "started": self._start_time,
        }

    def _store_times(self) -> None:
        stages = [list(s) for s in self._stages()]
        write_json_atomic(self.path / "times.json", {"seconds": self.wall_seconds, "stages": stages})


@contextmanager
def locked(folder: str | Path) -> Iterator[Path]:
    """Makes `folder` where it is missing and keeps other processes out; may be nested within one process.

    Raises `RunError` when another process has it, naming that one.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.resolve() / ".lock", is_singleton=True)
        lock.acquire(timeout=0)
    except Timeout as e:
        pid = _read_text(folder / ".pid")
        raise RunError(
            f"The run directory {folder} is in use{f' by process {pid}' if pid else ''}.",
            "Wait for it to finish, or choose another --run-dir.",
        ) from e
    except OSError as e:
        raise RunError(
            f"The run directory {folder} cannot be made or locked: {e.strerror or e}.", "Choose another --run-dir."
        ) from e
    try:
        write_text_atomic(folder / ".pid", str(os.getpid()))
        yield folder
    finally:
        lock.release()


def forget(folder: str | Path) -> None:
    """Empties a run directory for whatever job comes next, results included; files that are not ours stay.

    Raises `RunError` where `folder` is in use, or is no run directory but holds files that a run would overwrite.
    """
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        if folder.exists():
            _refuse_foreign(folder)
        return
    with locked(folder):
        for name in (*STATE, *RESULTS, "run.json"):  # run.json last: until then it stays ours
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Versions of Thumbnet, Python and what the figures depend on."""
    found = {"thumbnet": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def command() -> str:
    """The command line of this process, as it can be typed again."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    start = ["python", "-m", "thumbnet"] if program == "__main__.py" else [program]
    return shlex.join([*start, *sys.argv[1:]])


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    path = folder / "run.json"
    wanted = json.loads(json.dumps(identity))
    if not path.exists():
        _refuse_foreign(folder)
        write_json_atomic(path, wanted)
        return
    try:
        stored = read_json(path)
        same = stored == wanted
        changes = [
            _change(k, stored.get(k), wanted.get(k)) for k in {**stored, **wanted} if stored.get(k) != wanted.get(k)
        ]
    except (ThumbnetError, AttributeError, TypeError) as e:
        raise RunError(f"The run directory {folder} is damaged (run.json).", _NEW_JOB) from e
    if not same:
        raise RunError(f"The run directory {folder} belongs to another job ({'; '.join(changes)}).", _NEW_JOB)


_NEW_JOB = "Choose another --run-dir, or start over in this one with --force."


def _change(name: str, stored: Any, wanted: Any) -> str:
    """ "its seed is 0, not 1"; digests and the like are not spelled out."""
    texts = [json.dumps(v) for v in (stored, wanted)]
    if any(len(t) > 40 and not t.startswith("{") for t in texts):
        return f"its {name} differs"
    if isinstance(stored, dict) and isinstance(wanted, dict):
        inner = [k for k in {**stored, **wanted} if stored.get(k) != wanted.get(k)]
        return "; ".join(_change(k, stored.get(k), wanted.get(k)) for k in inner)
    return f"its {name} is {texts[0]}, not {texts[1]}"


def _refuse_foreign(folder: Path) -> None:
    """A folder that is not ours but holds files of the names we write would lose them."""
    taken = [name for name in RESULTS if (folder / name).exists()]
    if taken:
        raise RunError(
            f"{folder} is not a run directory, but holds '{taken[0]}', which a run would overwrite.",
            "Choose another --run-dir.",
        )


def _state(folder: Path, key: str) -> str:
    """ "whole", "" for nothing, or what is wrong with it."""
    if not folder.exists():
        return ""
    try:
        stored = read_json(folder / "stage.json")
        if stored["key"] != key:
            return "is of another job"
        whole = all(_sha256(folder / name) == s for name, s in stored["sha256"].items())
    except (ThumbnetError, OSError, KeyError, TypeError, AttributeError):
        whole = False
    return "whole" if whole else "is damaged"


def _stored_times(folder: Path) -> dict[str, Any]:
    try:
        stored = read_json(folder / "times.json")
        return {"seconds": float(stored["seconds"]), "stages": [(n, s, i) for n, s, i in stored["stages"]]}
    except (ThumbnetError, KeyError, TypeError, ValueError):
        return {"seconds": 0.0, "stages": []}


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
