"""What the linker placed: section sizes, symbols and images, read from an ELF file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from thumbnet.errors import ToolchainError

MAX_ELF_BYTES = 1 << 30


@dataclass(frozen=True)
class Symbol:
    """A named piece of the image; `address` without the Thumb bit, `kind` "code" or "data"."""

    name: str
    address: int
    bytes: int
    kind: str


@dataclass(frozen=True)
class Segment:
    """Bytes to put at `load` before start-up, where they are found (`load`) and where they run (`address`)."""

    load: int
    address: int
    data: bytes
    executable: bool


@dataclass(frozen=True)
class Sizes:
    """Bytes by section kind. `flash_bytes` spans everything in flash, alignment included."""

    code: int  # vectors, start-up, kernels, support routines, with their literal pools
    rodata: int
    data: int  # initialized variables: once in flash, once in RAM
    bss: int
    flash_bytes: int

    @property
    def static_bytes(self) -> int:
        return self.data + self.bss


@dataclass(frozen=True, eq=False)
class Image:
    """A linked firmware file, read once."""

    path: Path
    entry: int
    sizes: Sizes
    segments: tuple[Segment, ...]
    symbols: Mapping[str, Symbol]

    def symbol(self, name: str) -> Symbol:
        """Raises `ToolchainError` where the firmware has no such symbol."""
        if name not in self.symbols:
            raise ToolchainError(f"{self.path} has no symbol '{name}'.", "Export the firmware again.")
        return self.symbols[name]

    @cached_property
    def functions(self) -> tuple[Symbol, ...]:
        """Functions by address."""
        code = (s for s in self.symbols.values() if s.kind == "code" and s.bytes > 0)
        return tuple(sorted(code, key=lambda s: (s.address, s.name)))


def read_image(path: Path) -> Image:
    """Raises `ToolchainError` where `path` is no ELF file for Arm."""
    try:
        if path.stat().st_size > MAX_ELF_BYTES:
            raise ToolchainError(f"{path} is larger than any firmware.")
        with path.open("rb") as f:
            elf = ELFFile(f)
            if elf["e_machine"] != "EM_ARM":
                raise ToolchainError(f"{path} is not for an Arm core.")
            segments = _segments(elf)
            return Image(path, elf["e_entry"] & ~1, _sizes(elf, segments), segments, _symbols(elf))
    except FileNotFoundError as e:
        raise ToolchainError(f"{path} does not exist.") from e
    except ELFError as e:
        raise ToolchainError(f"{path} is no ELF file ({e}).") from e


def sizes(path: Path) -> Sizes:
    """Section sizes of the ELF file at `path`."""
    return read_image(path).sizes


def _segments(elf: ELFFile) -> tuple[Segment, ...]:
    return tuple(
        Segment(s["p_paddr"], s["p_vaddr"], s.data(), bool(s["p_flags"] & 1))
        for s in elf.iter_segments()
        if s["p_type"] == "PT_LOAD" and s["p_filesz"] > 0
    )


def _sizes(elf: ELFFile, segments: tuple[Segment, ...]) -> Sizes:
    code = rodata = data = bss = 0
    for s in elf.iter_sections():
        flags = s["sh_flags"]
        if not flags & SH_FLAGS.SHF_ALLOC:
            continue
        if s["sh_type"] == "SHT_NOBITS":
            bss += s["sh_size"]
        elif flags & SH_FLAGS.SHF_EXECINSTR or s.name == ".vectors":
            code += s["sh_size"]
        elif flags & SH_FLAGS.SHF_WRITE:
            data += s["sh_size"]
        else:
            rodata += s["sh_size"]
    spread = sum(len(s.data) for s in segments)
    start = min((s.load for s in segments), default=0)
    end = max((s.load + len(s.data) for s in segments), default=0)
    # Emulated boards may keep the vectors far from the code; then there is no one span to measure.
    flash = end - start if end - start < 2 * spread + 4096 else spread
    return Sizes(code, rodata, data, bss, flash)


def _symbols(elf: ELFFile) -> dict[str, Symbol]:
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return {}
    found = {}
    for s in table.iter_symbols():
        kind = s["st_info"]["type"]
        if not s.name or s["st_shndx"] == "SHN_UNDEF" or s.name.startswith("$"):
            continue
        if kind in ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE"):
            code = kind == "STT_FUNC"
            address = s["st_value"] & ~1 if code else s["st_value"]
            found[s.name] = Symbol(s.name, address, s["st_size"], "code" if code else "data")
    return found
