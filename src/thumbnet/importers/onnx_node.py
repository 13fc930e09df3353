"""A node of an ONNX file as both importers read it: what it is given, its attributes, its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.importers.onnx_reader import FileNode
from thumbnet.importers.onnx_tensors import Array

MAX_WINDOW = 4096  # of a kernel, stride, dilation or padding

V = TypeVar("V")


@dataclass(frozen=True, eq=False)
class NodeView(Generic[V]):
    """One node among what has been converted so far: `values` by their names in the file."""

    node: FileNode
    opset: int
    values: dict[str, V]
    where: str

    @property
    def op(self) -> str:
        return self.node.op

    @property
    def name(self) -> str:
        return self.node.name

    # --- errors

    def refuse(self, nearest: str) -> UnsupportedOpError:
        return UnsupportedOpError(self.op, self.name, nearest)

    def broken(self, what: str) -> ModelError:
        return ModelError(f"{self.where}: '{self.name}' ({self.op}) {what}.", "The file may be damaged.")

    # --- inputs

    def has(self, k: int) -> bool:
        return k < len(self.node.inputs) and self.node.inputs[k] != ""

    def value(self, k: int = 0) -> V:
        if not self.has(k):
            raise self.broken(f"lacks its input {k}")
        name = self.node.inputs[k]
        if name not in self.values:
            raise self.broken(f"reads '{name}', which nothing has computed")
        return self.values[name]

    def constant(self, k: int) -> Array:
        """Input `k` as a constant."""
        found = self.value(k)
        if not isinstance(found, np.ndarray):
            raise self.refuse(f"Its input '{self.node.inputs[k]}' must be a constant.")
        return found

    def reals(self, k: int) -> Array:
        """A constant of finite floats, as float32."""
        found = self.constant(k)
        if not np.issubdtype(found.dtype, np.floating) or not np.all(np.isfinite(found)):
            raise self.broken(f"has '{self.node.inputs[k]}', which is not all finite floats")
        return found.astype(np.float32)

    def scalar(self, k: int, default: float) -> float:
        """A constant of one number, `default` where it is left out."""
        if not self.has(k):
            return default
        found = self.constant(k)
        if found.size != 1 or np.isnan(found.astype(np.float32)).any():
            raise self.broken(f"has '{self.node.inputs[k]}', which is not one number")
        return float(found.reshape(-1)[0])

    def listed(self, k: int, attribute: str, default: Sequence[int] | None = None) -> list[int]:
        """A few integers that are input `k` in some opsets and an attribute in others."""
        if self.has(k):
            found = self.constant(k)
            if not np.issubdtype(found.dtype, np.integer) or found.size > 64:
                raise self.broken(f"has '{self.node.inputs[k]}', which is not a few integers")
            return [int(v) for v in found.reshape(-1)]
        if attribute not in self.node.attributes and default is not None:
            return list(default)
        return self.integers(attribute)

    # --- attributes

    def _attribute(self, name: str, kind: type, default: Any) -> Any:
        found = self.node.attributes.get(name, default)
        if not isinstance(found, kind):
            raise self.broken(f"has no usable attribute '{name}'")
        return found

    def integer(self, name: str, default: int | None = None) -> int:
        return int(self._attribute(name, int, default))

    def flag(self, name: str, default: bool = False) -> bool:
        found = self.integer(name, int(default))
        if found not in (0, 1):
            raise self.broken(f"has the attribute '{name}' = {found}")
        return bool(found)

    def number(self, name: str, default: float) -> float:
        found = float(self._attribute(name, float, default))
        if not np.isfinite(found):
            raise self.broken(f"has the attribute '{name}' = {found}")
        return found

    def text(self, name: str, default: str) -> str:
        return str(self._attribute(name, str, default))

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        found = self._attribute(name, tuple, None if default is None else tuple(default))
        if len(found) > 64 or not all(isinstance(v, int) for v in found):
            raise self.broken(f"has no usable attribute '{name}'")
        return list(found)

    def sizes(self, name: str, default: Sequence[int], least: int = 1) -> list[int]:
        """An attribute of as many sizes as `default` has."""
        found = self.integers(name, default)
        if len(found) != len(default) or not all(least <= v <= MAX_WINDOW for v in found):
            raise self.broken(f"has the attribute '{name}' = {found}")
        return found

    def axis(self, axis: int, rank: int) -> int:
        """Axis `axis`, which may count from the end, among `rank`."""
        if not -rank <= axis < rank:
            raise self.broken(f"works along axis {axis} of {rank}")
        return axis % rank

    # --- outputs

    def done(self, made: V, k: int = 0) -> None:
        if k >= len(self.node.outputs):
            raise self.broken(f"lacks its output {k}")
        name = self.node.outputs[k]
        if name in self.values:
            raise self.broken("computes a value for the second time")
        if name:
            self.values[name] = made
