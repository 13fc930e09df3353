"""The user's copy of Arm's CMSIS-NN: where its files are, and whether it is one that our calls fit."""

from __future__ import annotations

import os
import re
from pathlib import Path

from thumbnet.errors import ToolchainError, UsageError

VARIABLE = "CMSIS_NN"  # of the environment: where the library is, unless an option says so
_FOLDERS = ("BasicMath", "Convolution", "FullyConnected", "NNSupport", "Pooling", "Softmax", "Transpose")
_OTHER_TYPES = re.compile(r"_(f16|f32|flt|s4)(_|\.c$)")  # float and int4 functions, which nothing calls
_NEEDED = (
    "arm_convolve_wrapper_s8",
    "arm_depthwise_conv_wrapper_s8",
    "arm_fully_connected_wrapper_s8",
    "arm_vector_sum_s8",
    "arm_elementwise_add_s8",
    "arm_elementwise_mul_s8",
    "arm_max_pool_s8",
    "arm_avgpool_s8",
    "arm_softmax_s8",
)
_MAX_HEADER_BYTES = 4 << 20
_HINT = (
    "Give the folder of CMSIS-NN 7 or newer (https://github.com/ARM-software/CMSIS-NN) with --cmsis-nn, "
    f"or in the environment variable {VARIABLE}."
)


def locate(path: str | Path | None) -> Path:
    """The library's folder, absolute. Without `path` the environment variable CMSIS_NN names it.

    Raises `UsageError` where no folder is named, or the folder is not of a version with the functions that we call.
    """
    named = path or os.environ.get(VARIABLE)
    if not named:
        raise UsageError("The kernels cmsis-nn need Arm's library, which Thumbnet does not contain.", _HINT)
    root = Path(named).resolve()
    header = root / "Include" / "arm_nnfunctions.h"
    if not header.is_file() or header.stat().st_size > _MAX_HEADER_BYTES:
        raise UsageError(f"{named} is not CMSIS-NN: it has no Include/arm_nnfunctions.h.", _HINT)
    declared = header.read_text(encoding="utf-8", errors="replace")
    missing = [name for name in _NEEDED if not re.search(rf"\b{name}\s*\(", declared)]
    if missing:
        raise UsageError(f"The CMSIS-NN in {named} has no {missing[0]}.", _HINT)
    return root


def sources(root: Path) -> list[Path]:
    """The library's C files that int8 networks can need."""
    found = [
        file
        for folder in _FOLDERS
        for file in sorted((root / "Source" / f"{folder}Functions").glob("*.c"))
        if not _OTHER_TYPES.search(file.name)
    ]
    if not found:
        raise ToolchainError(f"There are no sources of CMSIS-NN in {root}.", _HINT)
    return found


def revision(root: Path) -> str:
    """What the header says of its version, such as "V.19.0.0"; "" where it says nothing."""
    header = (root / "Include" / "arm_nnfunctions.h").read_text(encoding="utf-8", errors="replace")
    match = re.search(r"\$Revision:\s*([\w.]+)", header)
    return match[1] if match else ""
