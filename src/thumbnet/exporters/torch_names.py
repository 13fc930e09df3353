"""Names in generated Python: of classes, attributes and variables. Nothing of a stranger's text gets into code."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence

from torch import nn

from thumbnet.graph.graph import Graph

MAX_NAME = 60
_FIRST = ("x", "y", "z", "u", "v", "w")
_TAKEN = frozenset(dir(nn.Module())) | {"F", "nn", "torch", "self"}


def class_name(text: str) -> str:
    """ "mobilenet-v2" -> "MobilenetV2"."""
    words = re.findall(r"[A-Za-z0-9]+", text)[:8]
    name = "".join(w[:1].upper() + w[1:] for w in words)[:MAX_NAME]
    return name if name and name[0].isalpha() and not keyword.iskeyword(name) else f"Network{name}"


def attribute_names(graph: Graph) -> dict[str, str]:
    """For each node an attribute of its own: letters, digits and underscores of its name."""
    given: dict[str, str] = {}
    taken = set(_TAKEN)
    for node in graph.nodes:
        wanted = re.sub(r"[^A-Za-z0-9]+", "_", node.name).strip("_")[:MAX_NAME].lower()
        if not wanted or not wanted[0].isalpha() or keyword.iskeyword(wanted):
            wanted = f"layer_{wanted}".rstrip("_")
        given[node.name] = _unique(wanted, taken)
    return given


def variable_names(graph: Graph) -> dict[str, str]:
    """For each value the variable that holds it: x, and others only while several values are needed at once."""
    last = {v: k for k, node in enumerate(graph.nodes) for v in node.inputs}
    last |= {v: len(graph.nodes) for v in graph.outputs}
    given: dict[str, str] = {}
    living: dict[str, str] = {}  # variable -> value
    for value in graph.inputs:
        given[value.name] = _free(living)
        living[given[value.name]] = value.name
    for k, node in enumerate(graph.nodes):
        ending = [v for v in node.inputs if last[v] == k]
        living = {name: v for name, v in living.items() if v not in ending and last.get(v, -1) >= k}
        name = given[ending[0]] if ending else _free(living)
        given[node.name] = name
        living[name] = node.name
    return given


def _free(living: dict[str, str]) -> str:
    names = (*_FIRST, *(f"x{k}" for k in range(1, len(living) + 2)))
    return next(n for n in names if n not in living)


def _unique(wanted: str, taken: set[str]) -> str:
    name, k = wanted, 1
    while name in taken:
        k += 1
        name = f"{wanted}_{k}"
    taken.add(name)
    return name


def numbers(values: Sequence[int]) -> str:
    """Integers as Python writes them: one number where all are equal, else a tuple."""
    plain = [int(v) for v in values]
    return str(plain[0]) if len(set(plain)) == 1 else f"({', '.join(map(str, plain))})"


def number(value: float) -> str:
    """A float as Python writes it; infinities too."""
    return repr(float(value)) if abs(float(value)) < float("inf") else f'float("{float(value)}")'
