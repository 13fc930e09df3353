"""Which emulator runs a target."""

from __future__ import annotations

from pathlib import Path

from thumbnet.emulation import qemu, unicorn
from thumbnet.emulation.toolchain import Firmware, build
from thumbnet.errors import ToolchainError

Machine = unicorn.UnicornMachine | qemu.QemuMachine


def machine_for(
    firmware_dir: Path, firmware: Firmware, input_bytes: int, output_bytes: int
) -> tuple[Machine, Firmware]:
    """A booted board for `firmware`, and the firmware it runs.

    Unicorn runs the file as it is. For cores that Unicorn lacks, and where it is not installed, QEMU runs the same
    sources linked for its own board. Raises `ToolchainError` where neither can, and as `Board`.
    """
    target = firmware.target
    if target.core.unicorn_model is not None and unicorn.available():
        return unicorn.UnicornMachine(firmware, input_bytes, output_bytes), firmware
    if target.core.qemu_machine is not None and qemu.available():
        memory = qemu.memory_for(target)
        out = firmware.elf.with_name(f"{target.name}-{target.core.qemu_machine}.elf")
        relinked = build(firmware_dir, target, out, memory=memory, library=firmware.library)
        return qemu.QemuMachine(relinked, input_bytes, output_bytes), relinked
    if target.core.unicorn_model is not None:
        raise ToolchainError(
            "The emulator 'unicorn' is not installed, and QEMU is not on the path.",
            "Run `pip install 'thumbnet[emulator]'`.",
        )
    raise ToolchainError(
        f"A {target.core.name} needs QEMU, and {qemu.PROGRAM} is not on the path.",
        "On Debian and Ubuntu: apt install qemu-system-arm.",
    )
