"""Trainings that were interrupted and go on where they stopped, to the bit."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from thumbnet.errors import ThumbnetError
from thumbnet.files import write_bytes_atomic

SECONDS = 20.0  # between two checkpoints: at most so much work is lost

Tensors = dict[str, torch.Tensor]


@dataclass(eq=False)
class Checkpoint:
    """One training's state in one file. `key` says whose: a file of another key is as good as none."""

    path: Path
    key: str
    seconds: float = SECONDS
    _last: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= self.seconds

    def save(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Replaces the file. Raises `ThumbnetError` where the disk is full."""
        metadata = {"key": self.key, "facts": json.dumps(facts)}
        write_bytes_atomic(self.path, save({k: v.contiguous() for k, v in tensors.items()}, metadata))
        self._last = time.monotonic()

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """What was saved; None where there is nothing, or nothing that can be read."""
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != self.key:
                    return None
                return {k: file.get_tensor(k) for k in file.keys()}, json.loads(metadata["facts"])  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError, ThumbnetError):
            return None


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one stage; `none()` keeps nothing."""

    folder: Path | None
    key: str = ""

    @staticmethod
    def none() -> Checkpoints:
        return Checkpoints(None)

    def named(self, name: str) -> Checkpoint | None:
        return None if self.folder is None else Checkpoint(self.folder / f"{name}.safetensors", f"{self.key}/{name}")
