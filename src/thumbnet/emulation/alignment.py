"""Accesses that a real core refuses: Unicorn performs every unaligned access, so they are looked for in one run."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import capstone
import numpy as np

from thumbnet.emulation.counts import native_library
from thumbnet.emulation.cycles import classify
from thumbnet.errors import VerificationError
from thumbnet.targets import Core

ROOM = 256
ALWAYS_ALIGNED = ("load_double", "store_double", "multiple")  # Armv7-M ARM A3.2.1


class _State(ctypes.Structure):
    """`alignment` in native/check_alignment.c."""

    _fields_ = (
        ("read_register", ctypes.c_void_p),
        ("pc", ctypes.c_int32),
        ("used", ctypes.c_uint32),
        ("room", ctypes.c_uint32),
        ("address", ctypes.c_void_p),
    )


class AlignmentCheck:
    """Hooks for `with check.watching():`, and the verdict."""

    def __init__(self, uc: Any, uclib: Any, pc: int) -> None:
        self._uc, self._uclib = uc, uclib
        self._found = np.zeros(ROOM, np.uint32)
        self._state = _State(
            read_register=ctypes.cast(uclib.uc_reg_read, ctypes.c_void_p),
            pc=pc,
            room=ROOM,
            address=self._found.ctypes.data,
        )
        self._function = ctypes.CDLL(str(native_library("check_alignment.c"))).check_alignment

    @contextmanager
    def watching(self, hook_type: int) -> Iterator[None]:
        handle = ctypes.c_size_t()
        self._uclib.uc_hook_add(
            self._uc._uch,
            ctypes.byref(handle),
            ctypes.c_int(hook_type),
            ctypes.cast(self._function, ctypes.c_void_p),
            ctypes.c_void_p(ctypes.addressof(self._state)),
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        try:
            yield
        finally:
            self._uclib.uc_hook_del(self._uc._uch, handle)

    def refuse(self, core: Core) -> None:
        """Raises `VerificationError` for the first instruction seen that would fault on the core."""
        engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
        for address in sorted(int(a) for a in self._found[: self._state.used]):
            code = bytes(self._uc.mem_read(address, 4))
            decoded = next(iter(engine.disasm_lite(code, address, 1)), None)
            mnemonic, operands = (decoded[2], decoded[3]) if decoded else ("?", "")
            if core.architecture == "armv6-m" or classify(mnemonic) in ALWAYS_ALIGNED:
                raise VerificationError(
                    f"`{mnemonic} {operands}` at {address:#010x} accesses an unaligned address: a fault on a {core.name}."
                )
