"""How TFLite spells the operations that move bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from thumbnet.exporters.tflite_file import TfliteFile
from thumbnet.exporters.tflite_writer import Writer
from thumbnet.integer.graph import IntegerNode, QTensor
from thumbnet.integer.moves import pad_channels


def _concat(writer: Writer, node: IntegerNode) -> None:
    writer.emit(node, "CONCATENATION", 2, (), "ConcatenationOptions", axis=int(node.attrs["axis"]) + 1)


def _pad(writer: Writer, node: IntegerNode) -> None:
    x, out, value = writer.source(node), writer.tensor_of(node), node.attrs.get("value")
    writer.pad(x, out, node.attrs["padding"], pad_channels(node), None if value is None else int(value))


def _mirror_pad(writer: Writer, node: IntegerNode) -> None:
    top, left, bottom, right = node.attrs["padding"]
    amounts = writer.integers(f"{node.name}/paddings", [[0, 0], [top, bottom], [left, right], [0, 0]])
    mode = {"reflect": 0, "symmetric": 1}[node.attrs["mode"]]
    writer.emit(node, "MIRROR_PAD", 2, [amounts], "MirrorPadOptions", mode=mode)


def _transpose(writer: Writer, node: IntegerNode) -> None:
    perm = writer.integers(f"{node.name}/perm", [0, *(int(a) + 1 for a in node.attrs["perm"])])
    writer.emit(node, "TRANSPOSE", 2, [perm], "TransposeOptions")


def _strided_slice(writer: Writer, node: IntegerNode) -> None:
    """An end in front of the first element is spelled by a mask: written out, it would count from the other side."""
    begin, step = ([first, *map(int, node.attrs[k])] for first, k in ((0, "begin"), (1, "step")))
    counts = [1, *writer.tensor_of(node).shape]
    end = [b + s * n for b, s, n in zip(begin, step, counts, strict=True)]
    mask = sum(1 << i for i, e in enumerate(end) if e < 0)
    constants = [
        writer.integers(f"{node.name}/{k}", v)
        for k, v in (("begin", begin), ("end", [max(e, 0) for e in end]), ("step", step))
    ]
    writer.emit(node, "STRIDED_SLICE", 2, constants, "StridedSliceOptions", endMask=mask)


def _blocks(writer: Writer, node: IntegerNode) -> None:
    name, table = {
        "space_to_depth": ("SPACE_TO_DEPTH", "SpaceToDepthOptions"),
        "depth_to_space": ("DEPTH_TO_SPACE", "DepthToSpaceOptions"),
    }[node.op]
    writer.emit(node, name, 2, (), table, blockSize=int(node.attrs["block"]))


def _reshape(writer: Writer, node: IntegerNode) -> None:
    """Where the output reads the same bytes by another scale, TFLM's RESHAPE would do, but is no TFLite to others."""
    x, out = writer.source(node), writer.tensor_of(node)
    if (x.scale, x.zero_point) == (out.scale, out.zero_point):
        _reshaped(writer, x, out)
        return
    image = x.shape if len(x.shape) == 3 else (1, 1, x.bytes)
    if image != x.shape:
        x = replace(x, name=f"{node.name}/image", shape=image)
        _reshaped(writer, writer.source(node), x)
    if image == out.shape:
        _reread(writer, node, x, out)
        return
    same = replace(out, name=f"{node.name}/reread", shape=image)
    _reread(writer, node, x, same)
    _reshaped(writer, same, out)


def _reshaped(writer: Writer, x: QTensor, out: QTensor) -> None:
    shape = [1, *out.shape]
    constant = writer.integers(f"{out.name}/shape", shape)
    inputs = [writer.index[x.name], constant]
    writer.file.operator("RESHAPE", 1, inputs, [writer.activation(out)], "ReshapeOptions", newShape=shape)


def _reread(writer: Writer, node: IntegerNode, x: QTensor, out: QTensor) -> None:
    """The bytes of `x` under the scale and zero point of `out`: a depthwise convolution by 1, which changes none.

    Weights of 1 and of the scale out / x make the multiplier 1, and the bias is the difference of the zero points.
    """
    channels = x.shape[-1]
    scale = np.float32(out.scale / x.scale)
    weight = np.ones((1, 1, 1, channels), np.int8)
    bias = np.full(channels, x.zero_point - out.zero_point, np.int32)
    inputs = [
        writer.index[x.name],
        writer.file.tensor(f"{node.name}/weight", weight.shape, np.int8, scales=[scale], data=weight),
        writer.file.tensor(f"{node.name}/bias", bias.shape, np.int32, scales=[np.float32(x.scale) * scale], data=bias),
    ]
    options = {
        "padding": TfliteFile.padding("VALID"),
        **dict.fromkeys(("strideH", "strideW", "dilationHFactor", "dilationWFactor", "depthMultiplier"), 1),
    }
    writer.file.operator("DEPTHWISE_CONV_2D", 3, inputs, [writer.activation(out)], "DepthwiseConv2DOptions", **options)


def _resize(writer: Writer, node: IntegerNode) -> None:
    size = writer.integers(f"{node.name}/size", node.attrs["size"])
    options = {
        "alignCorners": bool(node.attrs.get("align_corners")),
        "halfPixelCenters": bool(node.attrs.get("half_pixel_centers")),
    }
    name, version, table = {
        "resize_nearest": ("RESIZE_NEAREST_NEIGHBOR", 3, "ResizeNearestNeighborOptions"),
        "resize_bilinear": ("RESIZE_BILINEAR", 3, "ResizeBilinearOptions"),
    }[node.op]
    writer.emit(node, name, version, [size], table, **options)


def _slice(writer: Writer, node: IntegerNode) -> None:
    out, axis = writer.tensor_of(node), int(node.attrs["axis"]) + 1
    begin = [0] * (len(out.shape) + 1)
    begin[axis] = int(node.attrs["start"])
    constants = [
        writer.integers(f"{node.name}/begin", begin),
        writer.integers(f"{node.name}/size", [1, *out.shape]),
    ]
    writer.emit(node, "SLICE", 2, constants, "SliceOptions")


MOVES: Mapping[str, Callable[[Writer, IntegerNode], None]] = {
    "concat": _concat,
    "pad": _pad,
    "mirror_pad": _mirror_pad,
    "transpose": _transpose,
    "strided_slice": _strided_slice,
    **dict.fromkeys(("space_to_depth", "depth_to_space"), _blocks),
    "reshape": _reshape,
    "resize_nearest": _resize,
    "resize_bilinear": _resize,
    "slice": _slice,
}
