"""IntegerGraph → quantized ONNX file (QDQ), as ONNX Runtime and accelerators' tools take it.

Every int8 tensor of the graph is one pair of QuantizeLinear and DequantizeLinear with its scale and zero point, and
the operations stand between such pairs in float. Weights are int8 behind a DequantizeLinear (per output where the graph
has scales per output), biases int32 with the scale input · weight. The file's inputs and outputs are float32 in the
model's real units, images [N, C, H, W]. Operations that only move or compare values are exact; ONNX scales sums in
float where the integer graph rounds twice, so others may differ by a step (docs/exports.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.onnx_qdq_compute import COMPUTE
from thumbnet.exporters.onnx_qdq_moves import MOVES
from thumbnet.exporters.onnx_qdq_weighted import WEIGHTED
from thumbnet.exporters.onnx_qdq_writer import QdqWriter
from thumbnet.integer.graph import IntegerGraph, IntegerNode

SPELLINGS: Mapping[str, Callable[[QdqWriter, IntegerNode], None]] = {**WEIGHTED, **COMPUTE, **MOVES}


def to_qdq(graph: IntegerGraph) -> bytes:
    """The file's bytes; equal graphs give equal bytes.

    Raises `UnsupportedOpError` where ONNX has no spelling for a node, and `ToolchainError` without the package `onnx`.
    """
    writer = QdqWriter(graph)
    for node in graph.nodes:
        if node.op not in SPELLINGS:
            raise UnsupportedOpError(node.op, node.name, "It cannot be written as ONNX.")
        SPELLINGS[node.op](writer, node)
    return writer.finish()
