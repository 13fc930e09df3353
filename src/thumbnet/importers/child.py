"""A script in a process of its own: for runtimes that a stranger's model may crash, hang or fill memory with.

Parent and child talk in lines of JSON, one answer for each question; arrays go through files.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class ChildError(Exception):
    """The process refuses, has ended or took too long; the text says which, as a predicate of its name."""


class Child:
    """A running script. It ends with this object, with an error, and with this process."""

    def __init__(
        self, script: Path, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        folder = tempfile.TemporaryDirectory(prefix="thumbnet-")
        self.work = Path(folder.name)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            # -P: a script's own folder has modules named as packages that it imports
            [sys.executable, "-P", str(script), *arguments, folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        self._end = weakref.finalize(self, _end, self._process, folder)

    @property
    def alive(self) -> bool:
        return self._end.alive

    def close(self) -> None:
        self._end()

    def ask(self, seconds: float, **question: Any) -> dict[str, Any]:
        """The answer to a question. Raises `ChildError`; but for a refusal, the process has ended then."""
        with self._lock:
            if not self.alive or self._process.stdin is None:
                raise ChildError("has ended")
            try:
                self._process.stdin.write(json.dumps(question) + "\n")
                self._process.stdin.flush()
            except (OSError, ValueError) as e:
                raise self._ended("has ended") from e
            return self._answer(seconds)

    def compute(self, seconds: float, inputs: Sequence[Array], **question: Any) -> list[Array]:
        """As `ask`, with arrays: float32, read by the script as i0, i1, … of the file `path`, answered as o0, o1, …"""
        path = self.work / "batch.npz"
        np.savez(path, allow_pickle=False, **{f"i{k}": np.asarray(x, np.float32) for k, x in enumerate(inputs)})
        self.ask(seconds, path=str(path), **question)
        try:
            with np.load(path, allow_pickle=False) as made:
                return [np.asarray(made[f"o{k}"], np.float32) for k in range(len(made.files))]
        except (KeyError, ValueError, OSError) as e:
            raise self._ended("gives outputs that are none") from e

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            in_time = timer.is_alive()
            timer.cancel()
        try:
            answer = dict(json.loads(line))
        except (ValueError, TypeError) as e:
            raise self._ended("ends without an answer" if in_time else f"takes longer than {seconds:g} s") from e
        if "error" in answer:
            raise ChildError(f"refuses it: {answer['error']}")
        return answer

    def _ended(self, how: str) -> ChildError:
        self.close()
        return ChildError(how)


def _end(process: subprocess.Popen[str], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # of what was not sent before it ended
                stream.close()
    folder.cleanup()
