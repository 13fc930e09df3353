"""The integer graph: the one table from which the simulator, TFLite, ONNX and C are all made.

Layout is NHWC as in TFLite: a tensor's shape is `(height, width, channels)` or `(features,)`, the batch axis left out.
All activations are int8. A node holds everything its arithmetic needs as integers, so exporters only spell it.

Operations and their weights (`w`), in the order of `inputs`:

| op | attrs | arrays |
| --- | --- | --- |
| conv2d | stride (h, w), padding (top, left, bottom, right), dilation (h, w), groups | weight int8 [O, kh, kw, I/groups], bias int32 [O], multiplier int32 [O], shift int32 [O] |
| depthwise_conv2d | as conv2d, without groups; output channel c reads input channel c // (O/I) | weight int8 [kh, kw, O], bias, multiplier, shift |
| conv_transpose2d | stride, padding (top, left: rows and columns that are cut off; the output's shape says where it ends) | weight int8 [O, kh, kw, I], bias, multiplier, shift |
| dense | – | weight int8 [O, I], bias, multiplier, shift (per-tensor scale: all equal) |
| add, sub | left_shift; multipliers, shifts: each [operand 0, operand 1, output] | constant (see below) |
| mul | multiplier, shift | constant |
| maximum, minimum | – (operands and output share their quantization) | constant |
| prelu | multipliers, shifts: each [operand 0, product of both]; the second operand is the slope below 0 | constant |
| max_pool2d, avg_pool2d | kernel, stride, padding | – |
| global_avg_pool | multiplier, shift (of the sum: the division by height · width is in them) | – |
| mean, sum | axes; multiplier, shift (of the sum, as above) | – |
| reduce_max, reduce_min | axes (the output keeps the input's quantization) | – |
| lut | kind: sigmoid, tanh, hard_swish, elu, abs, leaky_relu (with alpha), table (any other function) | table int8 [256], indexed by value + 128 |
| concat | axis (of the NHWC shape) | – (inputs share the output's quantization, see requantize) |
| pad | padding (top, left, bottom, right); channels (before, after) and value (the zero point where absent) | – |
| mirror_pad | padding; mode: reflect, symmetric (the edge itself is repeated) | – |
| transpose | perm (of the NHWC axes) | – |
| strided_slice | begin, step: for each axis | – |
| space_to_depth, depth_to_space | block | – |
| reshape | shape; the output may carry another scale and zero point: the bytes stay | – |
| requantize | multiplier, shift; kind ("quantize" or "relu": how TFLite spells it) | – |
| resize_nearest, resize_bilinear | size; align_corners, half_pixel_centers (false where absent) | – |
| slice | axis, start, stop | – |
| softmax | multiplier, shift (beta and the input's scale, Q5.26), diff_min | – |

Operations on two operands repeat the smaller one (of the same shape but for axes of size 1, or with fewer axes in front)
over the larger. With a constant they have one input and hold the other operand as int8 `constant`; attrs constant_scale,
constant_zero_point, and constant_first where it is operand 0.

A node with weights may have the attr weight_bits = 4: its weights, int8 in memory, lie in −8 … 7 and are stored two in a
byte wherever they go. Without it, weights take 8 bits.

`clamp` is the (low, high) of the stored int8 output, activation function included. A padded convolution pads with its
input's zero point. Multipliers are Q31 and shifts are as TFLite spells them: positive = left, negative = right.
"""  # noqa: E501  # a table has long rows

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save

from thumbnet.errors import ModelError
from thumbnet.files import read_json, write_bytes_atomic, write_json_atomic

Array = npt.NDArray[Any]
FORMAT_VERSION = 1


@dataclass(frozen=True)
class QTensor:
    """An int8 activation: `real = scale * (stored - zero_point)`. `scale` is the float32 value TFLite stores."""

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape))


@dataclass(frozen=True, eq=False)
class IntegerNode:
    """One operation with all its integer parameters; it writes the tensor that carries its name."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    clamp: tuple[int, int] = (-128, 127)
    weight_scale: tuple[float, ...] = ()  # float32 scales of the weights, for formats that store them

    @property
    def weight_bits(self) -> int:
        """Bits of each stored weight; 0 where the node has none."""
        return int(self.attrs.get("weight_bits", 8)) if "weight" in self.arrays else 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights, two of 4 bits in each, of the table or constant; no bias, no requantization parameters."""
        if "weight" in self.arrays:
            return -(-int(self.arrays["weight"].size) * self.weight_bits // 8)
        return sum(int(self.arrays[k].nbytes) for k in ("table", "constant") if k in self.arrays)


@dataclass(frozen=True, eq=False)
class IntegerGraph:
    """Tensors by name, and nodes in execution order."""

    name: str
    tensors: Mapping[str, QTensor]
    inputs: tuple[str, ...]
    nodes: tuple[IntegerNode, ...]
    outputs: tuple[str, ...]

    @cached_property
    def by_name(self) -> Mapping[str, IntegerNode]:
        return MappingProxyType({n.name: n for n in self.nodes})

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights, tables and constants, without bias and requantization parameters."""
        return sum(n.weight_bytes for n in self.nodes)

    @cached_property
    def digest(self) -> str:
        h = hashlib.sha256(json.dumps(_structure(self), sort_keys=True).encode())
        for node in self.nodes:
            for key in sorted(node.arrays):
                h.update(np.ascontiguousarray(node.arrays[key]).tobytes())
        return h.hexdigest()

    def save(self, path: Path) -> None:
        """Writes `path` (JSON) and `path` with suffix `.safetensors` beside it."""
        arrays = {f"{n.name}/{k}": np.ascontiguousarray(a) for n in self.nodes for k, a in n.arrays.items()}
        write_bytes_atomic(path.with_suffix(".safetensors"), save(arrays))
        write_json_atomic(path, _structure(self))

    @staticmethod
    def load(path: Path) -> IntegerGraph:
        data = read_json(path)
        if data.get("format") != FORMAT_VERSION:
            raise ModelError(f"{path} is not a Thumbnet integer graph of format {FORMAT_VERSION}.")
        arrays = load_file(path.with_suffix(".safetensors"))
        nodes = tuple(
            IntegerNode(
                n["name"],
                n["op"],
                tuple(n["inputs"]),
                n["attrs"],
                {k: arrays[f"{n['name']}/{k}"] for k in n["arrays"]},
                (n["clamp"][0], n["clamp"][1]),
                tuple(n["weight_scale"]),
            )
            for n in data["nodes"]
        )
        tensors = {
            t["name"]: QTensor(t["name"], tuple(t["shape"]), t["scale"], t["zero_point"]) for t in data["tensors"]
        }
        return IntegerGraph(data["name"], tensors, tuple(data["inputs"]), nodes, tuple(data["outputs"]))


def _structure(graph: IntegerGraph) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "name": graph.name,
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "scale": t.scale, "zero_point": t.zero_point}
            for t in graph.tensors.values()
        ],
        "inputs": list(graph.inputs),
        "nodes": [
            {
                "name": n.name,
                "op": n.op,
                "inputs": list(n.inputs),
                "attrs": dict(n.attrs),
                "arrays": sorted(n.arrays),
                "clamp": list(n.clamp),
                "weight_scale": list(n.weight_scale),
            }
            for n in graph.nodes
        ],
        "outputs": list(graph.outputs),
    }
