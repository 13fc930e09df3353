"""Accesses that a real core refuses but Unicorn performs: unaligned ones where the core or the instruction has none.

Each instruction in question gets a hook that looks at its address registers. (Unicorn's own memory hooks are of no use:
version 2.1.4 runs conditional loads wrongly while one is installed.)
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from thumbnet.emulation.counts import Counts, native_library
from thumbnet.emulation.cycles import classify, disassembler
from thumbnet.errors import VerificationError
from thumbnet.targets import Core

_MEMORY = re.compile(r"\[(\w+)(?:, (\w+))?(?:, #-?\w+)?\]")  # [r1], [r1, r2], [r1, #4]


@dataclass(frozen=True)
class Access:
    """An instruction whose address, `base` plus `index`, must be a multiple of `bytes`."""

    address: int
    text: str
    base: str
    index: str | None
    bytes: int


class _State(ctypes.Structure):
    """`access` in native/check_alignment.c."""

    _fields_ = (
        ("read_register", ctypes.c_void_p),
        ("base", ctypes.c_int32),
        ("index", ctypes.c_int32),
        ("mask", ctypes.c_uint32),
        ("violations", ctypes.c_uint32),
    )


def aligned_accesses(counts: Counts, core: Core) -> tuple[Access, ...]:
    """Instructions that ran and fault on an unaligned address.

    On Armv6-M those are all (Armv6-M ARM A3.2.1), later only the ones that move several words (Armv7-M ARM A3.2.1).
    Offsets are multiples of the access's size, and SP and PC are aligned, so that the other registers decide.
    """
    found = []
    for halfword in np.flatnonzero(counts.starts()):
        at = 2 * int(halfword)
        decoded = next(iter(disassembler().disasm_lite(counts.code[at : at + 4], counts.base + at, 1)), None)
        if decoded is not None:
            access = _access(counts.base + at, decoded[2], decoded[3], core)
            if access is not None and access.base not in ("sp", "pc"):
                found.append(access)
    return tuple(found)


@contextmanager
def watching(uc: Any, library: Any, registers: Any, accesses: tuple[Access, ...], core: Core) -> Iterator[None]:
    """Hooks the accesses while it lasts. Raises `VerificationError` at its end for the first that was unaligned."""
    function = ctypes.cast(ctypes.CDLL(str(native_library("check_alignment.c"))).check_alignment, ctypes.c_void_p)
    read = ctypes.cast(library.uc_reg_read, ctypes.c_void_p)
    states = []
    handles = []
    for access in accesses:
        index = registers(access.index) if access.index else 0
        states.append(_State(read, registers(access.base), index, access.bytes - 1, 0))
        handles.append(ctypes.c_size_t())
        library.uc_hook_add(
            uc._uch,
            ctypes.byref(handles[-1]),
            ctypes.c_int(4),  # UC_HOOK_CODE
            function,
            ctypes.c_void_p(ctypes.addressof(states[-1])),
            ctypes.c_uint64(access.address),
            ctypes.c_uint64(access.address),
        )
    uc.ctl_flush_tb()  # what is translated already would not look
    try:
        yield
    finally:
        for handle in handles:
            library.uc_hook_del(uc._uch, handle)
        uc.ctl_flush_tb()
    for access, state in zip(accesses, states, strict=True):
        if state.violations:
            raise VerificationError(
                f"`{access.text}` at {access.address:#010x} makes an unaligned access, a fault on a {core.name}."
            )


def _access(address: int, mnemonic: str, operands: str, core: Core) -> Access | None:
    kind = classify(mnemonic)
    text = f"{mnemonic} {operands}"
    if kind == "multiple" and not mnemonic.startswith(("push", "pop", "vpush", "vpop")):
        return Access(address, text, operands.split(",")[0].rstrip("!"), None, 4)
    single = kind in ("load", "store") and core.architecture == "armv6-m"
    memory = _MEMORY.search(operands)
    if memory is None or not (single or kind in ("load_double", "store_double")):
        return None
    plain = mnemonic.split(".")[0]
    size = 1 if plain.endswith("b") else 2 if plain.endswith("h") else 4
    return Access(address, text, memory[1], memory[2], size) if size > 1 else None
