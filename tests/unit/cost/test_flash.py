"""What the flash model takes for granted of the kernels' structs is what a compiler for Arm says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import thumbnet.emulation
from thumbnet.cost.flash import STRUCT_BYTES
from thumbnet.exporters.c.emit import kernel_folder

RUNTIME = Path(thumbnet.emulation.__path__[0]) / "firmware/include"  # a string.h for cores without a C library
HEADER = Path(str(kernel_folder())) / "generic" / "tn_kernels.h"


def test_sizes_of_parameter_structs(tmp_path: Path) -> None:
    """Rounded up to 4 bytes, as constants lie in flash."""
    kinds = dict(re.findall(r"^void (tn_\w+)\(const (tn_\w+) \*p,", HEADER.read_text(), re.MULTILINE))
    known = {f: kind for f, kind in kinds.items() if f in STRUCT_BYTES}
    assert len(known) >= 15
    lines = [f"_Static_assert((sizeof({k}) + 3) / 4 == {-(-STRUCT_BYTES[f] // 4)}, {f!r});" for f, k in known.items()]
    lines.append("_Static_assert(sizeof(tn_conv2d_params) == 32 && sizeof(tn_conv2d_constants) == 16, 0);")
    text = "\n".join(lines).replace("'", '"').replace(", 0)", ', "convolutions")')
    (tmp_path / "sizes.c").write_text(f'#include "tn_kernels.h"\n{text}\n')
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4"]
    flags = ["-std=c11", "-c", "-o", "sizes.o", f"-I{HEADER.parent}", f"-I{RUNTIME}"]
    subprocess.run([*command, *flags, "sizes.c"], cwd=tmp_path, check=True)
