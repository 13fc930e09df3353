"""Code sizes, stack depths and speed coefficients of the kernels, measured once per core, shipped as `measured.json`.

`benchmarks/fit_latency.py` writes the file, `benchmarks/fit_latency_mve.py` that of the Helium kernels,
`measured_mve.json`. They hold the hash of the kernels' sources, and a test compares that with the sources at hand:
whoever changes a kernel measures again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import TargetError


@dataclass(frozen=True)
class KernelCost:
    """One kernel on one core. `functions`: bytes of each function it brings along, shared ones included."""

    functions: Mapping[str, int]
    rodata_bytes: int
    stack_bytes: int  # deepest, start-up and `model_invoke` included
    instructions: tuple[float, ...]
    cycles: tuple[float, ...]
    error: float  # largest relative error of the instruction formula on its probes

    @cached_property
    def coefficients(self) -> npt.NDArray[np.float64]:
        """[2, loop counts]: instructions, cycles."""
        return np.array([self.instructions, self.cycles], np.float64)


@dataclass(frozen=True)
class Measured:
    """All kernels on one core, and what a firmware without kernels takes."""

    base_functions: Mapping[str, int]  # start-up, main, accessors; without `model_invoke`
    base_bytes: int  # vectors and padding
    kernels: Mapping[str, KernelCost]

    @staticmethod
    def of(data: Mapping[str, Any]) -> Measured:
        """From one core's part of the file."""
        kernels = {
            k: KernelCost(
                v["functions"], v["rodata"], v["stack"], tuple(v["instructions"]), tuple(v["cycles"]), v["error"]
            )
            for k, v in data["kernels"].items()
        }
        return Measured(data["base_functions"], data["base_bytes"], kernels)


_STAND_INS = {"cortex-m55": "cortex-m33"}  # for all but Helium kernels


@lru_cache(maxsize=2)
def _file(helium: bool) -> dict[str, Any]:
    name = "measured_mve.json" if helium else "measured.json"
    data: dict[str, Any] = json.loads((files("thumbnet.cost") / name).read_text(encoding="utf-8"))
    return data


def source_hash(helium: bool = False) -> str:
    """SHA-256 over the kernels' sources as they are now: those for Helium, or all others."""
    h = hashlib.sha256()
    folder = files("thumbnet") / "exporters" / "c" / "kernels"
    measured = {"mve"} if helium else {"generic", "v7m", "dsp"}
    for family in sorted((f for f in folder.iterdir() if f.name in measured), key=lambda f: f.name):
        for source in sorted(family.iterdir(), key=lambda f: f.name):
            h.update(f"{family.name}/{source.name}\n".encode())
            h.update(source.read_bytes())
    return h.hexdigest()


def measured_sources(helium: bool = False) -> str:
    """Hash of the kernel sources that were measured."""
    return str(_file(helium)["sources"])


@lru_cache(maxsize=16)
def measured(core: str) -> Measured:
    """Raises `TargetError` for a core without measurements."""
    cores, helium = _file(False)["cores"], _file(True)["cores"]
    name = _STAND_INS.get(core, core)
    if name not in cores:
        raise TargetError(f"There are no kernel measurements for the core '{core}'.", f"Known: {', '.join(cores)}.")
    own = helium.get(core, {})
    return Measured.of({**cores[name], **own, "kernels": {**cores[name]["kernels"], **own.get("kernels", {})}})
