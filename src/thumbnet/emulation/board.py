"""A booted board that runs inferences, on whichever emulator drives it, and watches where the firmware writes."""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from thumbnet.emulation.counts import Counts
from thumbnet.emulation.toolchain import Firmware
from thumbnet.errors import VerificationError

Register = Literal["r0", "sp", "lr", "pc"]

STACK_PATTERN = 0xA5
PAINTED_BYTES = 64 << 10  # how deep a stack can be seen
GUARD_BYTES = 256  # watched behind the last variable, in case that is the arena
BOOT_SECONDS, RUN_SECONDS = 20, 3600  # of the host: millions of instructions for a start-up, 10^11 for a network
MARGIN_BYTES = 64  # untouched paint that must remain


class FaultError(Exception):
    """The emulated core cannot go on. The text says what happened; the board adds where."""


class Engine(Protocol):
    """A core with the firmware loaded, out of reset. Addresses are without Thumb bit."""

    @property
    def name(self) -> str:
        """Emulator and version."""

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...

    def get(self, register: Register) -> int: ...

    def set(self, register: Register, value: int) -> None: ...

    def save(self) -> object:
        """All registers, to give to `restore` as often as wanted."""

    def restore(self, saved: object) -> None: ...

    def go(self, start: int, until: int, seconds: float) -> None:
        """Runs from `start` to `until`. Raises `FaultError`, also where that takes longer than `seconds`."""

    def strict(self, counts: Counts) -> AbstractContextManager[None]:
        """A mode that raises `VerificationError` for what the emulator forgives and the core does not.

        It looks at the instructions that `counts` holds.
        """

    def reset_counts(self) -> None: ...

    def counts(self) -> Counts: ...


@dataclass(frozen=True)
class Run:
    """One inference: the output's bytes, instructions of `model_invoke`, and the deepest stack, main included."""

    output: bytes
    instructions: int
    stack_bytes: int


class Board:
    """A board stopped where `main` is about to call `model_invoke` for the first time.

    Raises `VerificationError` where the program faults, writes outside its arena and stack, or does not reach
    `model_invoke`.
    """

    def __init__(self, engine: Engine, firmware: Firmware, input_bytes: int, output_bytes: int) -> None:
        self._engine = engine
        self._image = firmware.image
        self._memory = firmware.memory
        self._sizes = (input_bytes, output_bytes)
        self._seed = 0
        self._boot()

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def arena_bytes(self) -> int:
        return self._arena[1]

    def run(self, data: bytes) -> Run:
        """One inference on `data`, from a freshly scrambled arena."""
        engine = self._engine
        if len(data) != self._sizes[0]:
            raise ValueError(f"the model takes {self._sizes[0]} bytes, not {len(data)}")
        engine.restore(self._ready)
        self._scramble()
        engine.write(self._input, data)
        before = self._static()
        engine.reset_counts()
        self._go(self._invoke, self._return)
        if engine.get("sp") != self._sp:
            raise VerificationError("model_invoke does not restore the stack pointer.")
        stack = self._stack_used()
        if self._static() != before:
            raise VerificationError("model_invoke writes outside of its arena, to static data or behind it.")
        output = engine.read(self._output, self._sizes[1])
        return Run(output, self.counts().instructions(), stack)

    def check(self, data: bytes) -> None:
        """One more inference that looks for what the emulator forgives: unaligned accesses, writes to flash.

        Raises `VerificationError` where it finds any.
        """
        self.run(data)
        with self._engine.strict(self.counts()):
            self.run(data)
        for segment in self._image.segments:
            if self._engine.read(segment.load, len(segment.data)) != segment.data:
                raise VerificationError(f"The firmware writes to flash near {segment.load:#010x}.")

    def counts(self) -> Counts:
        """Execution counts of the last run."""
        return self._engine.counts()

    def _boot(self) -> None:
        """Reset, start-up and `main` up to its first call of `model_invoke`."""
        engine, memory = self._engine, self._memory
        origin = memory.flash_origin if memory.vectors_origin is None else memory.vectors_origin
        self._top, reset = struct.unpack("<II", engine.read(origin, 8))
        self._invoke = self._image.symbol("model_invoke").address
        self._bss_end = self._image.symbol("__bss_end").address
        self._painted = max(self._bss_end, self._top - PAINTED_BYTES)
        self._guard_end = min(self._bss_end + GUARD_BYTES, self._painted)
        # RAM is never zero after power-on
        engine.write(memory.ram_origin, np.random.default_rng(0).bytes(self._bss_end - memory.ram_origin))
        engine.write(self._painted, bytes([STACK_PATTERN]) * (self._top - self._painted))
        engine.set("sp", self._top)
        self._go(reset & ~1, self._invoke, BOOT_SECONDS)
        self._sp = engine.get("sp")
        self._return = engine.get("lr") & ~1
        self._arena = self._find_arena(engine.get("r0"))
        self._ready = engine.save()
        self._input = self._ask("model_input", self._sizes[0])
        self._output = self._ask("model_output", self._sizes[1])

    def _find_arena(self, address: int) -> tuple[int, int]:
        for s in self._image.symbols.values():
            if s.kind == "data" and s.bytes and s.address <= address < s.address + s.bytes:
                return address, s.address + s.bytes - address
        raise VerificationError("main passes an arena to model_invoke that is no static buffer.")

    def _ask(self, function: str, size: int) -> int:
        """The address that `model_input` or `model_output` returns, checked to lie within the arena."""
        self._go(self._image.symbol(function).address, self._return)
        address = self._engine.get("r0")
        self._engine.restore(self._ready)
        start, length = self._arena
        if not start <= address <= address + size <= start + length:
            raise VerificationError(f"{function} returns {address:#010x}, outside of the arena.")
        return address

    def _go(self, start: int, until: int, seconds: float = RUN_SECONDS) -> None:
        try:
            self._engine.go(start, until, seconds)
        except FaultError as e:
            raise VerificationError(f"The firmware faults: {e} {self._where()}.") from e

    def _where(self) -> str:
        pc = self._engine.get("pc")
        for f in self._image.functions:
            if f.address <= pc < f.address + f.bytes:
                return f"in {f.name} at {pc:#010x}"
        return f"at {pc:#010x}"

    def _scramble(self) -> None:
        """No inference may rely on what the arena or the free stack held before."""
        start, length = self._arena
        self._seed += 1
        self._engine.write(start, np.random.default_rng(self._seed).bytes(length))
        self._engine.write(self._painted, bytes([STACK_PATTERN]) * (self._sp - self._painted))

    def _static(self) -> bytes:
        """Everything from the start of RAM to a little behind the zeroed data, without the arena."""
        start, length = self._arena
        origin = self._memory.ram_origin
        behind = start + length
        return self._engine.read(origin, start - origin) + self._engine.read(behind, self._guard_end - behind)

    def _stack_used(self) -> int:
        painted = self._engine.read(self._painted, self._sp - self._painted)
        touched = np.flatnonzero(np.frombuffer(painted, np.uint8) != STACK_PATTERN)
        if len(touched) and touched[0] < MARGIN_BYTES:
            raise VerificationError("The stack grows into static data, or beyond 64 KB.")
        deepest = self._painted + int(touched[0]) if len(touched) else self._sp
        return int(self._top - (deepest & ~3))
