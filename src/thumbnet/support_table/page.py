"""docs/support.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thumbnet.graph.ops import OPS
from thumbnet.importers.keras_classes import REFUSED
from thumbnet.importers.nearest import NEAREST as TORCH_NEAREST
from thumbnet.importers.onnx_nearest import NEAREST as ONNX_NEAREST
from thumbnet.importers.tflite import NEAREST as TFLITE_NEAREST
from thumbnet.importers.tflite_float import OPERATORS
from thumbnet.support_table.columns import cell, columns
from thumbnet.support_table.names import SOURCES, names_of, passed_over

_HEAD = """\
# Supported operations

This page is written by `python -m thumbnet.support_table`: the names come from a table that tests compare with the
importers, the exits are tried with a small network for each operation. `thumbnet check MODEL` says the same of your own
network, node by node, and what its settings allow ([import.md](import.md) has the limits of each source).

## From where

Each row is an operation of the graph; each cell holds what becomes that operation. Where a name stands in several rows,
its settings decide, or whether an operand is constant; activations that a layer carries, and moves in front of one that
reads numbers in another order, come besides. Keras names are those of layers and of operations (`keras.ops`).
SavedModels come in as ONNX.

"""
_EXITS = """
## To where

`int8` is the integer network; *training* is quantization-aware training, with gradients through it. For C, *fast* means
kernels written for that family of cores, *yes* the portable ones. In the last column *yes* is a function of CMSIS-NN on
a Cortex-M4, *ours* our kernel beside them. *left out*: at the end of a network it goes before the network becomes int8,
since the order of the classes stays; elsewhere it is refused. Batch norms fold into a layer beside them, or become one
of their own. Ethos-U takes the TFLite file; what Vela leaves to the CPU is in
[exports.md](exports.md).

"""
_REFUSED = """
## Refused by name

So is everything that this page does not list. What to do instead:

"""


def support_page() -> str:
    """docs/support.md, whole."""
    return _HEAD + _sources() + _EXITS + _exits() + _REFUSED + _refused()


def _sources() -> str:
    rows = [[f"`{op}`", *(_code(names_of(source, op)) for source in SOURCES)] for op in OPS]
    rows.append(["nothing to do", *(_code(passed_over(source)) for source in SOURCES)])
    return _table(["operation", *SOURCES], rows)


def _exits() -> str:
    ways = columns()
    return _table(["operation", *ways], [[f"`{op}`", *(cell(way, op) for way in ways.values())] for op in OPS])


def refused() -> Mapping[str, Mapping[str, str]]:
    """Source → name → what to do instead."""
    return {
        "PyTorch": TORCH_NEAREST,
        "ONNX": ONNX_NEAREST,
        "Keras": REFUSED,
        "TFLite": {k: v for k, v in TFLITE_NEAREST.items() if k not in OPERATORS},
    }


def _refused() -> str:
    rows = []
    for source, nearest in refused().items():
        for hint in dict.fromkeys(nearest.values()):
            rows.append([source, _code([n for n, h in nearest.items() if h == hint]), hint])
    return _table(["source", "operations", "instead"], rows)


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{n}`" for n in names) or "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))
