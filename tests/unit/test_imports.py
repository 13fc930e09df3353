"""The architecture, held: imports point the way that the table of docs/architecture.md says, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "thumbnet"
ENTRY = ("__init__", "__main__")  # like the last row: may import everything, nothing imports them


def read_table(text: str) -> dict[str, set[str]]:
    """Part -> parts it may import directly, from rows `| names | what they hold | what they may import |`.

    Parts of one row may import each other; what a part may import brings along what that one may import.
    """
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]
    names = [re.findall(r"`(\w+)`", row[0]) for row in rows]
    everything = {n for row in names for n in row}
    table: dict[str, set[str]] = {}
    for own, (_, _, may) in zip(names, rows, strict=True):
        words = {
            "nothing of ours": set(),
            "the row above": set(names[0]),
            "row one": set(names[0]),
            "everything": everything,
        }
        allowed = words[may] if may in words else {n.strip(" `") for n in may.split(",")}
        assert allowed <= everything, f"unknown part in the row of {own[0]}: {may}"
        table.update({name: allowed | set(own) for name in own})
    return table


TABLE = read_table((ROOT / "docs" / "architecture.md").read_text())
TOP = {*ENTRY, *(name for name, allowed in TABLE.items() if allowed >= set(TABLE))}


def reachable(part: str) -> set[str]:
    """The parts that `part` may import, itself included."""
    seen: set[str] = set()
    todo = [part]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(TABLE[name])
    return seen


def part_of(module: str) -> str:
    """`thumbnet.graph.ops.base` -> `graph`; `thumbnet` itself -> `__init__`."""
    return module.split(".")[1] if "." in module else "__init__"


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """Full names of the modules of ours that the text of `module` imports, late imports included."""
    home = module.split(".") if is_package else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(home[: len(home) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (start, node.module)))
            # `from thumbnet import errors` names the part in the alias
            names.update(f"{base}.{alias.name}" if base == "thumbnet" else base for alias in node.names)
    return {n for n in names if n == "thumbnet" or n.startswith("thumbnet.")}


def back_edges(source: str, module: str, is_package: bool = False) -> list[str]:
    if part_of(module) in TOP:
        return []
    allowed = reachable(part_of(module))
    return sorted(n for n in imported(source, module, is_package) if part_of(n) not in allowed)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_one_way(path: Path) -> None:
    name = module_name(path)
    assert part_of(name) in {*TABLE, *ENTRY}, f"give {name} a place in the table of docs/architecture.md"
    edges = back_edges(path.read_text(), name, path.name == "__init__.py")
    assert not edges, f"{name} may not import {', '.join(edges)} (see docs/architecture.md)"


def test_the_table_names_only_parts_that_exist() -> None:
    parts = {part_of(module_name(p)) for p in SOURCES}
    assert set(TABLE) <= parts


def test_the_table_has_no_cycle_between_rows() -> None:
    for part in set(TABLE) - TOP:
        for other in reachable(part) - TABLE[part]:
            assert part not in reachable(other)
        mates = {o for o in TABLE[part] if part in reachable(o)}
        assert all(TABLE[o] == TABLE[part] for o in mates)  # each other's import: only within one row


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("thumbnet.graph.graph", "from thumbnet.search.moves import Move", ["thumbnet.search.moves"]),
        ("thumbnet.graph.graph", "def late():\n    import thumbnet.cli", ["thumbnet.cli"]),
        ("thumbnet.graph.passes.fold", "from ...integer import lower", ["thumbnet.integer"]),
        ("thumbnet.integer.lower", "from thumbnet import story", ["thumbnet.story"]),
        ("thumbnet.integer.lower", "from thumbnet.graph.ops import OPS\nfrom .graph import QTensor", []),
        ("thumbnet.errors", "import numpy, torch.nn", []),
        ("thumbnet.cli", "import thumbnet.search", []),
    ],
)
def test_back_edges_are_found(module: str, source: str, expected: list[str]) -> None:
    assert back_edges(source, module) == expected
