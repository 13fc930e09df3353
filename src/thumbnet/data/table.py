"""`targets.csv`: a header, then one line for each image: its file and its numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from thumbnet.data.images import SUFFIXES
from thumbnet.errors import DataError

TABLE = "targets.csv"
MAX_BYTES = 256 << 20
MAX_ROWS = 5_000_000
MAX_COLUMNS = 1_000

Row = tuple[Path, tuple[float, ...]]


def read_table(path: Path) -> tuple[tuple[str, ...], list[Row]]:
    """(names of the columns after the first, rows). Files are named relative to the table, with `/`, and lie beside or
    below it. Raises `DataError` naming the line."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size >> 20} MB.", "At most 256 MB are read.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            names = tuple(h.strip() for h in header[1:])
            if not names or len(names) > MAX_COLUMNS or len(set(names)) < len(names) or not all(names):
                raise DataError(
                    f"{path} begins with {','.join(header)[:80]!r}.",
                    f"The first line names the columns, once each: file, then 1 to {MAX_COLUMNS} targets.",
                )
            return names, _rows(path, lines, len(names))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path} cannot be read ({e}).", "Save it as UTF-8 text with commas.") from e


def _rows(path: Path, lines: Iterable[list[str]], width: int) -> list[Row]:
    rows: list[Row] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 2):
        if not any(cell.strip() for cell in line):
            continue
        where = f"Line {number} of {path}"
        if len(line) != width + 1:
            raise DataError(f"{where} has {len(line)} columns, the first one {width + 1}.", "Fill all.")
        if len(rows) >= MAX_ROWS:
            raise DataError(f"{path} has more than 5 million lines.", "Use a part of them.")
        if line[0] in seen:
            raise DataError(f"{where} names {line[0]} a second time.", "Give one line for each image.")
        seen.add(line[0])
        rows.append((_file(path, line[0].strip(), where), _numbers(line[1:], where)))
    if not rows:
        raise DataError(f"{path} names no image.", "Give a line for each.")
    return rows


def _file(table: Path, name: str, where: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise DataError(f"{where} names {name!r}, which is not below {table.parent}.", "Name files relative to it.")
    found = table.parent.joinpath(*parts)
    if not found.is_file():
        raise DataError(f"{where} names {found}, which does not exist.", "Correct the line, or remove it.")
    if found.suffix.lower() not in SUFFIXES:
        raise DataError(f"{where} names {found}, which is no image.", f"Known endings: {', '.join(sorted(SUFFIXES))}.")
    return found


def _numbers(cells: list[str], where: str) -> tuple[float, ...]:
    values = []
    for cell in cells:
        try:
            value = float(cell)
        except ValueError as e:
            raise DataError(f"{where} holds {cell[:40]!r}, which is no number.", "Write numbers with a point.") from e
        if not math.isfinite(value):
            raise DataError(f"{where} holds {cell.strip()}.", "Remove NaN and infinity.")
        values.append(value)
    return tuple(values)
