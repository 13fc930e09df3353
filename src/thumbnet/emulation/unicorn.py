"""Cortex-M cores emulated by Unicorn: flash that cannot be written, RAM no larger than the board's."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
from contextlib import AbstractContextManager
from typing import Any

from thumbnet.emulation.alignment import aligned_accesses, watching
from thumbnet.emulation.board import Board, FaultError, Register, Run
from thumbnet.emulation.counts import BlockCounter, Counts
from thumbnet.emulation.toolchain import Firmware
from thumbnet.errors import ToolchainError

__all__ = ["Run", "UnicornMachine", "available", "name"]

PAGE = 4096
SYSTEM_ORIGIN, SYSTEM_BYTES = 0xE000_0000, 1 << 20  # private peripheral bus


class UnicornMachine(Board):
    """A board in Unicorn. Raises `ToolchainError` where Unicorn is missing or has no such core, and as `Board`."""

    def __init__(self, firmware: Firmware, input_bytes: int, output_bytes: int) -> None:
        super().__init__(UnicornEngine(firmware), firmware, input_bytes, output_bytes)


class UnicornEngine:
    """See `thumbnet.emulation.board.Engine`."""

    def __init__(self, firmware: Firmware) -> None:
        core = firmware.target.core
        if not available():
            raise ToolchainError("The emulator 'unicorn' is not installed.", "Run `pip install 'thumbnet[emulator]'`.")
        if core.unicorn_model is None:
            raise ToolchainError(f"Unicorn has no {core.name}.", "Install QEMU (qemu-system-arm) for this core.")
        self._package: Any = importlib.import_module("unicorn")
        self._arm: Any = importlib.import_module("unicorn.arm_const")
        self._uc = self._package.Uc(
            self._package.UC_ARCH_ARM, self._package.UC_MODE_THUMB | self._package.UC_MODE_MCLASS
        )
        self._uc.ctl_set_cpu_model(getattr(self._arm, f"UC_CPU_ARM_{core.unicorn_model}"))
        self._load(firmware)
        self._core = core
        self._library: Any = importlib.import_module("unicorn.unicorn_py3.unicorn").uclib
        self._counter = BlockCounter(firmware.image, "model_invoke")
        self._hook()

    @property
    def name(self) -> str:
        return name()

    def read(self, address: int, size: int) -> bytes:
        return bytes(self._uc.mem_read(address, size)) if size else b""

    def write(self, address: int, data: bytes) -> None:
        if data:
            self._uc.mem_write(address, data)

    def get(self, register: Register) -> int:
        return int(self._uc.reg_read(self._register(register)))

    def set(self, register: Register, value: int) -> None:
        self._uc.reg_write(self._register(register), value)

    def save(self) -> object:
        return self._uc.context_save()

    def restore(self, saved: object) -> None:
        self._uc.context_restore(saved)

    def go(self, start: int, until: int, seconds: float) -> None:
        try:
            self._uc.emu_start(start | 1, until, timeout=round(seconds * 1e6))
        except self._package.UcError as e:
            raise FaultError(str(e)) from e
        if self.get("pc") & ~1 != until:
            raise FaultError(f"no end after {seconds} seconds")

    def reset_counts(self) -> None:
        self._counter.reset()

    def counts(self) -> Counts:
        return self._counter.counts()

    def strict(self, counts: Counts) -> AbstractContextManager[None]:
        return watching(self._uc, self._library, self._register, aligned_accesses(counts, self._core), self._core)

    def _register(self, name: str) -> int:
        return int(getattr(self._arm, f"UC_ARM_REG_{name.upper()}"))

    def _load(self, firmware: Firmware) -> None:
        uc, u, m = self._uc, self._package, firmware.memory
        if m.vectors_origin is not None:
            uc.mem_map(m.vectors_origin, PAGE, u.UC_PROT_READ)
        uc.mem_map(m.flash_origin, _pages(m.flash_bytes), u.UC_PROT_READ | u.UC_PROT_EXEC)
        uc.mem_map(m.ram_origin, _pages(m.ram_bytes), u.UC_PROT_READ | u.UC_PROT_WRITE)
        uc.mem_map(SYSTEM_ORIGIN, SYSTEM_BYTES, u.UC_PROT_READ | u.UC_PROT_WRITE)
        for segment in firmware.image.segments:
            uc.mem_write(segment.load, segment.data)

    def _hook(self) -> None:
        """A native hook: one written in Python would make the run forty times slower."""
        handle = ctypes.c_size_t()
        code = self._library.uc_hook_add(
            self._uc._uch,
            ctypes.byref(handle),
            ctypes.c_int(self._package.UC_HOOK_BLOCK),
            self._counter.hook,
            ctypes.c_void_p(self._counter.user),
            ctypes.c_uint64(1),  # begin behind end: all addresses
            ctypes.c_uint64(0),
        )
        if code:
            raise ToolchainError(f"Unicorn refuses the counting hook (error {code}).", "Install unicorn 2.1.")


def available() -> bool:
    return importlib.util.find_spec("unicorn") is not None


def name() -> str:
    """Name and version."""
    return f"unicorn {importlib.metadata.version('unicorn')}"


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
