"""How values are written in C: identifiers, numbers, arrays, structs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ModelError

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
_HEADERS = re.compile(r"(mem|str)[a-z]+|r?index|\w+_t|U?INT\w+|NULL|offsetof")  # what string.h and stdint.h may declare
_LINE_STARTS = (
    *("groups", "in_h", "out_h", "kernel_h", "dilation_h", "pad_top", "in_zero_point"),
    *("size", "shift", "shift1", "zero_point1"),
)
_CTYPES = {"int8": "int8_t", "int32": "int32_t", "uint16": "uint16_t"}


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """A C identifier for each name, all different, the same for the same names in the same order."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        base = re.sub(r"_+", "_", re.sub(r"\W", "_", name, flags=re.ASCII)).strip("_")
        base = re.sub(r"^((tn|model)_)+", "", base) or "node"  # prefixes of the kernels and of model.h
        if base[0].isdigit():
            base = f"n{base}"
        candidate, number = base, 2
        while candidate.lower() in used or candidate in _KEYWORDS or _HEADERS.fullmatch(candidate):
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


def wrapped(values: Sequence[str], indent: str = "    ", starts: Collection[str] = ()) -> str:
    """Comma separated values in lines of at most `LINE` characters; those in `starts` begin a new one."""
    lines: list[str] = []
    line = indent
    for value in values:
        if (len(line) + len(value) + 2 > LINE or value in starts) and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += f"{value}, "
    lines.append(line.rstrip())
    return "\n".join(lines)


def columns(values: Sequence[str], indent: str = "    ") -> str:
    """Comma separated values in columns: 16 in a line, or 8, or as many as fit."""
    width = max(map(len, values), default=1)
    room = max(1, (LINE - len(indent) + 1) // (width + 2))
    count = 16 if room >= 16 else min(room, 8)
    rows = (values[i : i + count] for i in range(0, len(values), count))
    return "\n".join(indent + ", ".join(v.rjust(width) for v in row) + "," for row in rows)


def array(name: str, values: npt.NDArray[np.integer[Any]]) -> str:
    """A static constant array of the flattened values."""
    flat = np.asarray(values).ravel()
    kind = str(flat.dtype)
    spelled = [number(v) for v in flat.tolist()]
    return f"static const {_CTYPES[kind]} {name}[{flat.size}] = {{\n{columns(spelled)}\n}};\n"


def struct(kind: str, name: str, fields: Mapping[str, int | str]) -> str:
    """A static constant struct with designated initializers; string values are spelled as they are.

    Raises `ModelError` where a number does not fit into its field, which a C compiler would cut to size.
    """
    limits = _limits().get(kind, {})
    for field, value in fields.items():
        low, high = limits.get(field, (-(1 << 31), (1 << 32) - 1))
        if isinstance(value, int) and not low <= value <= high:
            raise ModelError(
                f"Layer '{name}' has {field} = {value}; the C kernels hold {low} to {high}.",
                "Use smaller images, kernels, strides or paddings.",
            )
    spelled = {k: f".{k} = {v if isinstance(v, str) else number(v)}" for k, v in fields.items()}
    starts = {spelled[k] for k in _LINE_STARTS if k in spelled}
    return f"static const {kind} {name} = {{\n{wrapped(list(spelled.values()), starts=starts)}\n}};\n"


@cache
def _limits() -> dict[str, dict[str, tuple[int, int]]]:
    """Per struct of the kernels' headers, the smallest and largest value of each integer field."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for header in sorted((files("thumbnet.exporters.c") / "kernels").glob("*/*.h")):  # type: ignore[attr-defined]
        for body, kind in re.findall(r"typedef struct \{(.*?)\} (\w+);", header.read_text(), re.DOTALL):
            fields = found.setdefault(kind, {})
            for sign, bits, names in re.findall(r"^\s*(u?)int(8|16|32)_t ([\w, ]+);", body, re.MULTILINE):
                span = 1 << int(bits)
                limits = (0, span - 1) if sign else (-span // 2, span // 2 - 1)
                fields.update({n.strip(): limits for n in names.split(",")})
    return found
