"""Execution counts of every instruction, taken block by block while the emulator runs."""

from __future__ import annotations

import ctypes
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.emulation.sizes import Image
from thumbnet.emulation.toolchain import cache_dir, compile_for_host, version

Int64 = npt.NDArray[np.int64]

MAX_SEGMENTS = 4096
MAX_TABLE_BYTES = 512 << 20


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each halfword of code ran, split by the top-level call it ran under.

    `executed[s, h]` and `taken[s, h]` are of segment `s` and the code at `base + 2 * h`; `taken` counts the times
    control left the block that ends there for anywhere but `base + 2 * h`. `address[s]` is where segment `s` begins.
    """

    base: int
    code: bytes
    executed: Int64  # [segments, halfwords]
    taken: Int64  # [segments, halfwords + 1]
    address: tuple[int, ...]

    def starts(self) -> npt.NDArray[np.bool_]:
        """True for each halfword at which an instruction that ran begins."""
        half = np.frombuffer(self.code, "<u2")
        wide = (half >> 11) >= 0x1D  # Armv7-M ARM A5.1: 0b11101, 0b11110 and 0b11111 open 32-bit instructions
        ran = self.executed.sum(0) > 0
        found = np.zeros(len(half), np.bool_)
        h = 0
        while h < len(half):
            if ran[h]:
                found[h] = True
                h += 2 if wide[h] else 1
            else:
                h += 1
        return found

    def instructions(self) -> int:
        return int(self.executed[:, self.starts()].sum())


class _Counter(ctypes.Structure):
    """`counter` in native/count_blocks.c."""

    _fields_ = (
        *((n, ctypes.c_uint32) for n in ("base", "end", "top", "top_end", "halfwords", "segments", "used")),
        *((n, ctypes.c_uint32) for n in ("current", "previous_end", "outside", "stop", "unused")),
        *((n, ctypes.c_void_p) for n in ("code", "enter", "taken", "segment_of", "address")),
    )


class BlockCounter:
    """The memory that `native/count_blocks.c` counts in; `hook` and `user` go to the emulator.

    With `shared`, that memory is a file: counter first, then its arrays, pointers as offsets into the file.
    """

    def __init__(self, image: Image, top: str, shared: Path | None = None) -> None:
        code = [s for s in image.segments if s.executable]
        self._base = min(s.address for s in code)
        self._code = _joined(self._base, [(s.address, s.data) for s in code])
        function = image.symbol(top)
        halfwords = len(self._code) // 2 + 1
        segments = max(1, min(MAX_SEGMENTS, function.bytes // 2, MAX_TABLE_BYTES // (16 * halfwords)))
        room = {
            "code": len(self._code),
            "enter": 8 * segments * halfwords,
            "taken": 8 * segments * halfwords,
            "segment_of": 4 * (function.bytes // 2 + 2),
            "address": 4 * segments,
        }
        at = {"": 0}
        total = -(-ctypes.sizeof(_Counter) // 16) * 16
        for key, size in room.items():
            at[key] = total
            total += -(-size // 16) * 16
        # Pages that no block touches stay untouched: zeros cost nothing until written.
        memory: npt.NDArray[np.uint8] = (
            np.zeros(total, np.uint8) if shared is None else np.memmap(shared, np.uint8, "w+", shape=(total,))
        )
        self._enter = memory[at["enter"] :][: room["enter"]].view(np.int64).reshape(segments, halfwords)
        self._taken = memory[at["taken"] :][: room["taken"]].view(np.int64).reshape(segments, halfwords)
        self._segment_of = memory[at["segment_of"] :][: room["segment_of"]].view(np.int32)
        self._address = memory[at["address"] :][: room["address"]].view(np.uint32)
        self._segment_of[:] = -1
        memory[at["code"] :][: room["code"]] = np.frombuffer(self._code, np.uint8)
        origin = memory.ctypes.data if shared is None else 0
        self._state = _Counter.from_buffer(memory.data)
        self._state.base, self._state.end = self._base, self._base + len(self._code)
        self._state.top, self._state.top_end = function.address, function.address + function.bytes
        self._state.halfwords, self._state.segments = halfwords, segments
        for key in room:
            setattr(self._state, key, origin + at[key])
        self.user = ctypes.addressof(self._state)

    @property
    def hook(self) -> ctypes.c_void_p:
        return ctypes.cast(_library().count_block, ctypes.c_void_p)

    def stop_at(self, address: int) -> None:
        """A block that begins at this address is not counted."""
        self._state.stop = address

    def reset(self) -> None:
        used = self._state.used
        self._enter[: used + 1] = 0
        self._taken[: used + 1] = 0
        self._segment_of[:] = -1
        self._state.used = self._state.current = self._state.previous_end = self._state.outside = 0

    def counts(self) -> Counts:
        """A copy of what was counted since `reset`."""
        used = max(1, int(self._state.used))
        executed = np.cumsum(self._enter[:used], axis=1)[:, :-1]
        return Counts(
            self._base, self._code, executed, self._taken[:used].copy(), tuple(int(a) for a in self._address[:used])
        )


def _joined(base: int, pieces: list[tuple[int, bytes]]) -> bytes:
    end = max(a + len(d) for a, d in pieces)
    joined = bytearray(end - base + (end - base) % 2)
    for address, data in pieces:
        joined[address - base : address - base + len(data)] = data
    return bytes(joined)


@lru_cache
def _library() -> Any:
    return ctypes.CDLL(str(native_library("count_blocks.c")))


def native_library(name: str, *flags: str) -> Path:
    """The shared library made of a file in `native`, compiled for this machine at its first use."""
    folder = files("thumbnet.emulation").joinpath("native")
    sources = b"".join(f.read_bytes() for f in sorted(folder.iterdir(), key=lambda f: f.name) if f.name.endswith(".c"))
    key = hashlib.sha256(b"\0".join([sources, version().encode(), " ".join(flags).encode()])).hexdigest()[:16]
    library = cache_dir() / "native" / f"{name.removesuffix('.c')}-{key}.so"
    if not library.exists():
        with as_file(folder) as here:
            compile_for_host(here / name, library, flags)
    return library
