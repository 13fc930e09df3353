"""How values are written in C: identifiers, numbers, arrays, structs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LINE = 116
_KEYWORDS = frozenset(
    [
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
        "class",
        "new",
        "delete",
        "private",
        "public",
        "protected",
        "template",
        "this",
        "namespace",
        "operator",
        "try",
        "catch",
        "throw",
        "using",
        "virtual",
        "true",
        "false",
        "bool",
        "and",
        "or",
        "not",
        "arena",
        "m",
        "main",
    ]
)  # of C and C++, and the names that model.c uses itself
_CTYPES = {"int8": "int8_t", "int32": "int32_t"}


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """A C identifier for each name, all different, the same for the same names in the same order."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        base = re.sub(r"_+", "_", re.sub(r"\W", "_", name, flags=re.ASCII)).strip("_") or "node"
        if base[0].isdigit():
            base = f"n{base}"
        candidate, number = base, 2
        while candidate.lower() in used or candidate in _KEYWORDS or candidate.startswith(("tn_", "model_")):
            candidate, number = f"{base}_{number}", number + 1
        used.add(candidate.lower())
        found[name] = candidate
    return found


def comment(text: str) -> str:
    """Text that cannot end a C comment, printable ASCII only."""
    return re.sub(r"[^ -~]", "?", text).replace("*/", "* /").replace("/*", "/ *")


def quoted(text: str) -> str:
    """A C string literal with the UTF-8 bytes of `text`."""
    out = []
    for byte in text.encode():
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        out.append(chr(byte) if plain else f"\\{byte:03o}")
    return f'"{"".join(out)}"'


def number(value: int) -> str:
    """An integer constant; the smallest int32 needs care because C has no negative constants."""
    return "INT32_MIN" if value == -(1 << 31) else str(value)


def wrapped(values: Sequence[str], indent: str = "    ") -> str:
    """Comma separated values in lines of at most `LINE` characters."""
    lines: list[str] = []
    line = indent
    for value in values:
        if len(line) + len(value) + 2 > LINE and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += f"{value}, "
    lines.append(line.rstrip())
    return "\n".join(lines)


def array(name: str, values: npt.NDArray[np.integer[Any]]) -> str:
    """A static constant array of the flattened values."""
    flat = np.asarray(values).ravel()
    kind = str(flat.dtype)
    spelled = [number(v) for v in flat.tolist()]
    return f"static const {_CTYPES[kind]} {name}[{flat.size}] = {{\n{wrapped(spelled)}\n}};\n"


def struct(kind: str, name: str, fields: Mapping[str, int | str]) -> str:
    """A static constant struct with designated initializers; string values are spelled as they are."""
    spelled = [f".{k} = {v if isinstance(v, str) else number(v)}" for k, v in fields.items()]
    return f"static const {kind} {name} = {{\n{wrapped(spelled)}\n}};\n"
