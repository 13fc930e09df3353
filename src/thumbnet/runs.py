"""The run directory: one process at a time, each finished stage kept, nothing written outside.

Layout: `run.json` (whose run this is), `stages/<name>/` (what a stage left, with `stage.json` = its key and the SHA-256
of each file), and the results beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
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

from thumbnet.errors import RunError, ThumbnetError
from thumbnet.files import read_json, write_json_atomic, write_text_atomic
from thumbnet.progress import Progress
from thumbnet.version import __version__

T = TypeVar("T")
PACKAGES = ("torch", "numpy", "scipy", "ziglang", "unicorn", "tflite-micro", "ai-edge-litert", "pillow")


class RunDirectory:
    """An open run directory. Use `RunDirectory.open` as a context manager."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.path = path
        self.progress = progress
        self._started = time.monotonic()
        self._start_time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._earlier = float(self._stored().get("seconds", 0.0))

    @staticmethod
    @contextmanager
    def open(path: str | Path, identity: Mapping[str, Any], progress: Progress | None = None) -> Iterator[RunDirectory]:
        """Locks `path` for this job. Raises `RunError` when another process or another job has it."""
        folder = Path(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise RunError(
                f"The run directory {folder} cannot be made: {e.strerror}.", "Choose another --run-dir."
            ) from e
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as e:
            pid = _read_text(folder / ".pid")
            raise RunError(
                f"The run directory {folder} is in use{f' by process {pid}' if pid else ''}.",
                "Wait for it to finish, or choose another --run-dir.",
            ) from e
        try:
            write_text_atomic(folder / ".pid", str(os.getpid()))
            _claim(folder, identity)
            run = RunDirectory(folder, progress or Progress.quiet())
            try:
                yield run
            finally:
                run._store({"seconds": round(run.wall_seconds, 1)})
        finally:
            lock.release()

    def stage(
        self,
        name: str,
        key: str,
        compute: Callable[[], T],
        save: Callable[[Path, T], None],
        load: Callable[[Path], T],
    ) -> T:
        """The stage's result: loaded where a whole one with this key is kept, computed and kept otherwise."""
        folder = self.path / "stages" / name
        if _is_whole(folder, key):
            try:
                value = load(folder)
            except (ThumbnetError, OSError, KeyError, ValueError) as e:
                self.progress.note(f"What was kept of '{name}' cannot be read ({e}); computing it again.")
            else:
                self.progress.note(f"{name}: done before, taken from {folder}.")
                return value
        elif folder.exists():
            self.progress.note(f"What was kept of '{name}' is damaged or of another job; computing it again.")
        value = compute()
        self._keep(folder, key, value, save)
        return value

    def _keep(self, folder: Path, key: str, value: T, save: Callable[[Path, T], None]) -> None:
        """Writes into a temporary folder beside, and renames it when whole."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            save(temporary, value)
            sums = {p.name: _sha256(p) for p in sorted(temporary.iterdir())}
            write_json_atomic(temporary / "stage.json", {"key": key, "sha256": sums})
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        except OSError as e:
            raise ThumbnetError(
                f"Cannot write {folder}: {e.strerror or e}.", "Free some disk space and run again."
            ) from e
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    @property
    def wall_seconds(self) -> float:
        """Time spent on this run, earlier sessions included."""
        return round(self._earlier + time.monotonic() - self._started, 1)

    def story(self) -> list[dict[str, Any]]:
        """The stages of this session, for the report."""
        return [{"stage": n, "seconds": s, "note": i} for n, s, i in self.progress.finished]

    def provenance(self) -> dict[str, Any]:
        return {
            "versions": versions(),
            "command": _command(),
            "platform": platform.platform(),
            "started": self._start_time,
        }

    def _stored(self) -> dict[str, Any]:
        path = self.path / "times.json"
        return dict(read_json(path)) if path.exists() else {}

    def _store(self, values: dict[str, Any]) -> None:
        write_json_atomic(self.path / "times.json", values)


def versions() -> dict[str, str]:
    """Versions of Thumbnet, Python and what the figures depend on."""
    found = {"thumbnet": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    path = folder / "run.json"
    wanted = json.loads(json.dumps(identity))
    if not path.exists():
        write_json_atomic(path, wanted)
        return
    stored = read_json(path)
    if stored != wanted:
        other = next((k for k in wanted if stored.get(k) != wanted[k]), "identity")
        raise RunError(
            f"The run directory {folder} belongs to another job (its {other} differs).",
            "Choose another --run-dir, or delete it to start over.",
        )


def _is_whole(folder: Path, key: str) -> bool:
    try:
        stored = read_json(folder / "stage.json")
        return stored["key"] == key and all(_sha256(folder / name) == s for name, s in stored["sha256"].items())
    except (ThumbnetError, OSError, KeyError, TypeError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _command() -> str:
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
