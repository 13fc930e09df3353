"""int8 TFLite files for Arm's Ethos-U NPUs, through Arm's own compiler Vela (package `ethos-u-vela`)."""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from thumbnet.errors import ToolchainError, UsageError

ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
DEFAULT = "ethos-u55-128"
SECONDS = 600  # after which Vela is stopped
_NPU = b"ethos-u"  # custom operator: a command stream for the NPU
_KEPT_LOG = 400  # characters of what Vela printed


@dataclass(frozen=True)
class EthosU:
    """What Vela made, and its own figures (cycles are of its model of the NPU with its default memories)."""

    model: bytes  # TFLite with the NPU's parts as custom operators
    accelerator: str
    sram_bytes: int
    flash_bytes: int
    cycles: int
    npu_operators: int
    cpu_operators: tuple[str, ...]  # those left to the CPU, by their names in TFLite

    @property
    def npu_share(self) -> float:
        """Percent of the operators that the NPU computes."""
        count = self.npu_operators + len(self.cpu_operators)
        return 100.0 * self.npu_operators / count if count else 0.0

    def json(self) -> dict[str, Any]:
        """Everything but the file."""
        figures = {k: v for k, v in asdict(self).items() if k != "model"}
        return {**figures, "cpu_operators": list(self.cpu_operators), "npu_share": self.npu_share}

    def lines(self) -> tuple[str, ...]:
        """The same as sentences."""
        left = f" On the CPU: {', '.join(sorted(set(self.cpu_operators)))}." if self.cpu_operators else ""
        return (
            f"{self.accelerator}: {self.npu_operators} operators on the NPU, {len(self.cpu_operators)} on the CPU "
            f"({self.npu_share:.0f} % on the NPU).{left}",
            f"Vela's model: SRAM {self.sram_bytes / 1024:.1f} KB, flash {self.flash_bytes / 1024:.1f} KB, "
            f"{self.cycles:,} cycles.",
        )


def compile_for_ethos_u(model: bytes, accelerator: str = DEFAULT) -> EthosU:
    """Compiles an int8 TFLite file in a process of its own.

    Raises `UsageError` for an unknown accelerator, `ToolchainError` where Vela is absent, fails, or takes ten minutes.
    """
    if accelerator not in ACCELERATORS:
        raise UsageError(f"There is no accelerator '{accelerator}'.", f"Choose one of {', '.join(ACCELERATORS)}.")
    if importlib.util.find_spec("ethosu") is None:
        raise ToolchainError(
            "The Python package 'ethos-u-vela' is not installed.", "Install it with `pip install 'thumbnet[ethos-u]'`."
        )
    with tempfile.TemporaryDirectory(prefix="thumbnet-") as scratch:
        folder = Path(scratch)
        (folder / "model.tflite").write_bytes(model)
        log = _run(folder, accelerator)
        compiled = (folder / "model_vela.tflite").read_bytes()
        figures = _figures(folder)
    on_npu = re.search(r"NPU operators = (\d+)", log)
    return EthosU(
        model=compiled,
        accelerator=accelerator,
        sram_bytes=round(1024 * figures["sram_memory_used"]),
        flash_bytes=round(1024 * (figures["off_chip_flash_memory_used"] + figures["on_chip_flash_memory_used"])),
        cycles=round(figures["cycles_total"]),
        npu_operators=int(on_npu[1]) if on_npu else 0,
        cpu_operators=_left_on_cpu(compiled),
    )


def _run(folder: Path, accelerator: str) -> str:
    command = [sys.executable, "-m", "ethosu.vela", str(folder / "model.tflite")]
    command += ["--accelerator-config", accelerator, "--output-dir", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as e:
        raise ToolchainError(f"Vela has not finished within {SECONDS} seconds.", "Try a smaller model.") from e
    log = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != 0 or not (folder / "model_vela.tflite").is_file():
        reason = log.strip().replace(str(folder), "")[-_KEPT_LOG:]
        raise ToolchainError(f"Vela cannot compile the model: {reason}", "Please report this model.")
    return log


def _figures(folder: Path) -> Mapping[str, float]:
    """The row of Vela's summary, in KiB and cycles; what is not there is 0."""
    known = ("sram_memory_used", "off_chip_flash_memory_used", "on_chip_flash_memory_used", "cycles_total")
    for path in sorted(folder.glob("model_summary_*.csv")):
        with path.open(newline="") as f:
            for row in csv.DictReader(f):
                return {k: float(row.get(k) or 0) for k in known}
    raise ToolchainError("Vela has written no summary.", "Another version of ethos-u-vela may.")


def _left_on_cpu(model: bytes) -> tuple[str, ...]:
    """Names of the operators that are no command streams for the NPU."""
    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    left = []
    for graph in content.subgraphs:
        for operator in graph.operators:
            code = content.operatorCodes[operator.opcodeIndex]
            builtin = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
            if builtin != schema.BuiltinOperator.CUSTOM or code.customCode != _NPU:
                left.append(names.get(builtin, str(builtin)))
    return tuple(left)
