"""Firmware on a Cortex-M emulated by Unicorn: flash that cannot be written, RAM no larger than the board's."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from thumbnet.emulation.counts import BlockCounter, Counts
from thumbnet.emulation.toolchain import Firmware
from thumbnet.errors import ToolchainError, VerificationError

PAGE = 4096
SYSTEM_ORIGIN, SYSTEM_BYTES = 0xE000_0000, 1 << 20  # private peripheral bus
STACK_PATTERN = 0xA5
PAINTED_BYTES = 64 << 10  # how deep a stack can be seen
BOOT_INSTRUCTIONS = 50_000_000  # more than any start-up takes
INVOKE_INSTRUCTIONS = 1 << 40


@dataclass(frozen=True)
class Run:
    """One inference: the output's bytes, instructions of `model_invoke`, and the deepest stack, main included."""

    output: bytes
    instructions: int
    stack_bytes: int


class UnicornMachine:
    """A booted board, stopped where `main` is about to call `model_invoke` for the first time.

    Raises `ToolchainError` where Unicorn is missing or has no such core, and `VerificationError` where the program
    faults, writes outside its arena and stack, or does not reach `model_invoke`.
    """

    def __init__(self, firmware: Firmware, input_bytes: int, output_bytes: int) -> None:
        self._uc, self._engine = _engine(firmware)
        self._arm = _arm()
        self._image = firmware.image
        self._memory = firmware.memory
        self._sizes = (input_bytes, output_bytes)
        self._seed = 0
        self._load()
        self._boot()
        self._counter = BlockCounter(self._image, "model_invoke")
        self._hook()

    @property
    def name(self) -> str:
        return name()

    @property
    def arena_bytes(self) -> int:
        return self._arena[1]

    def run(self, data: bytes) -> Run:
        """One inference on `data`, from a freshly scrambled arena."""
        uc, arm = self._uc, self._arm
        if len(data) != self._sizes[0]:
            raise ValueError(f"the model takes {self._sizes[0]} bytes, not {len(data)}")
        uc.context_restore(self._ready)
        self._scramble()
        uc.mem_write(self._input, data)
        before = self._static()
        self._counter.reset()
        self._emulate(self._invoke, self._return, INVOKE_INSTRUCTIONS)
        if uc.reg_read(arm.UC_ARM_REG_SP) != self._sp:
            raise VerificationError("model_invoke does not restore the stack pointer.")
        stack = self._stack_used()
        if self._static() != before:
            raise VerificationError("model_invoke writes static data outside of its arena.")
        output = bytes(uc.mem_read(self._output, self._sizes[1]))
        return Run(output, self._counter.instructions(), stack)

    def counts(self) -> Counts:
        """Execution counts of the last run."""
        return self._counter.counts()

    # --- set-up

    def _load(self) -> None:
        uc, m = self._uc, self._memory
        u = self._engine
        if m.vectors_origin is not None:
            uc.mem_map(m.vectors_origin, PAGE, u.UC_PROT_READ)
        uc.mem_map(m.flash_origin, _pages(m.flash_bytes), u.UC_PROT_READ | u.UC_PROT_EXEC)
        uc.mem_map(m.ram_origin, _pages(m.ram_bytes), u.UC_PROT_READ | u.UC_PROT_WRITE)
        uc.mem_map(SYSTEM_ORIGIN, SYSTEM_BYTES, u.UC_PROT_READ | u.UC_PROT_WRITE)
        for segment in self._image.segments:
            uc.mem_write(segment.load, segment.data)
        rng = np.random.default_rng(0)
        uc.mem_write(m.ram_origin, rng.bytes(m.ram_bytes))  # RAM is never zero after power-on

    def _boot(self) -> None:
        """Reset, start-up and `main` up to its first call of `model_invoke`."""
        uc, arm = self._uc, self._arm
        origin = self._memory.flash_origin if self._memory.vectors_origin is None else self._memory.vectors_origin
        self._top, reset = struct.unpack("<II", uc.mem_read(origin, 8))
        uc.reg_write(arm.UC_ARM_REG_SP, self._top)
        self._invoke = self._image.symbol("model_invoke").address
        self._bss_end = self._image.symbol("__bss_end").address
        self._painted = max(self._bss_end, self._top - PAINTED_BYTES)
        uc.mem_write(self._painted, bytes([STACK_PATTERN]) * (self._top - self._painted))
        self._emulate(reset, self._invoke, BOOT_INSTRUCTIONS)
        if uc.reg_read(arm.UC_ARM_REG_PC) & ~1 != self._invoke:
            raise VerificationError("main does not reach model_invoke.", "main.c must call it with the arena.")
        self._sp = uc.reg_read(arm.UC_ARM_REG_SP)
        self._return = uc.reg_read(arm.UC_ARM_REG_LR) & ~1
        self._arena = self._find_arena(uc.reg_read(arm.UC_ARM_REG_R0))
        self._ready = uc.context_save()
        self._input = self._ask("model_input", self._sizes[0])
        self._output = self._ask("model_output", self._sizes[1])

    def _find_arena(self, address: int) -> tuple[int, int]:
        for s in self._image.symbols.values():
            if s.kind == "data" and s.bytes and s.address <= address < s.address + s.bytes:
                return address, s.address + s.bytes - address
        raise VerificationError("main passes an arena to model_invoke that is no static buffer.")

    def _ask(self, function: str, size: int) -> int:
        """The address that `model_input` or `model_output` returns, checked to lie within the arena."""
        uc, arm = self._uc, self._arm
        self._emulate(self._image.symbol(function).address, self._return, BOOT_INSTRUCTIONS)
        address = int(uc.reg_read(arm.UC_ARM_REG_R0))
        uc.context_restore(self._ready)
        start, length = self._arena
        if not start <= address <= address + size <= start + length:
            raise VerificationError(f"{function} returns {address:#010x}, outside of the arena.")
        return address

    def _hook(self) -> None:
        """A native hook: one written in Python would make the run forty times slower."""
        handle = ctypes.c_size_t()
        binding: Any = importlib.import_module("unicorn.unicorn_py3.unicorn")
        code = binding.uclib.uc_hook_add(
            self._uc._uch,
            ctypes.byref(handle),
            ctypes.c_int(self._engine.UC_HOOK_BLOCK),
            self._counter.hook,
            ctypes.c_void_p(self._counter.user),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        if code:
            raise ToolchainError(f"Unicorn refuses the counting hook (error {code}).", "Install unicorn 2.1.")

    # --- while it runs

    def _emulate(self, start: int, until: int, limit: int) -> None:
        try:
            self._uc.emu_start(start | 1, until, count=limit if limit < INVOKE_INSTRUCTIONS else 0)
        except self._engine.UcError as e:
            raise VerificationError(f"The firmware faults: {e} {self._where()}.") from e

    def _where(self) -> str:
        pc = self._uc.reg_read(self._arm.UC_ARM_REG_PC)
        for f in self._image.functions:
            if f.address <= pc < f.address + f.bytes:
                return f"in {f.name} at {pc:#010x}"
        return f"at {pc:#010x}"

    def _scramble(self) -> None:
        """No inference may rely on what the arena or the free stack held before."""
        start, length = self._arena
        self._seed += 1
        self._uc.mem_write(start, np.random.default_rng(self._seed).bytes(length))
        self._uc.mem_write(self._painted, bytes([STACK_PATTERN]) * (self._sp - self._painted))

    def _static(self) -> bytes:
        """Everything from the start of RAM to the end of zeroed data, without the arena."""
        start, length = self._arena
        origin = self._memory.ram_origin
        return bytes(self._uc.mem_read(origin, start - origin)) + bytes(
            self._uc.mem_read(start + length, self._bss_end - start - length)
        )

    def _stack_used(self) -> int:
        stack = np.frombuffer(bytes(self._uc.mem_read(self._painted, self._sp - self._painted)), np.uint8)
        touched = np.flatnonzero(stack != STACK_PATTERN)
        if len(touched) and touched[0] < 64:
            raise VerificationError("The stack grows into static data or beyond 64 KB.")
        deepest = self._painted + int(touched[0]) if len(touched) else self._sp
        return int(self._top - (deepest & ~3))


def available() -> bool:
    return importlib.util.find_spec("unicorn") is not None


def name() -> str:
    """Name and version."""
    from importlib.metadata import version

    return f"unicorn {version('unicorn')}"


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _arm() -> Any:
    return importlib.import_module("unicorn.arm_const")


def _engine(firmware: Firmware) -> tuple[Any, Any]:
    """An engine of the target's core, and the package with its constants."""
    core = firmware.target.core
    if not available():
        raise ToolchainError("The emulator 'unicorn' is not installed.", "Run `pip install 'thumbnet[emulator]'`.")
    package: Any = importlib.import_module("unicorn")
    if core.unicorn_model is None:
        raise ToolchainError(f"Unicorn has no {core.name}.", "Install QEMU (qemu-system-arm) for this core.")
    uc = package.Uc(package.UC_ARCH_ARM, package.UC_MODE_THUMB | package.UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(getattr(_arm(), f"UC_CPU_ARM_{core.unicorn_model}"))
    return uc, package
