"""Nodes of float ONNX files with weights: convolutions, dense layers, batch norms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thumbnet.importers import layers, values
from thumbnet.importers.builder import Floats, Value
from thumbnet.importers.onnx_node import MAX_WINDOW
from thumbnet.importers.onnx_operands import Handler, Operation
from thumbnet.importers.qdq_windows import window


def _conv(o: Operation) -> Value:
    x = o.image()
    weight, bias, size = _kernel(o, x, 1), o.optional_floats(2), _space(x)
    groups = o.integer("group", 1)
    if groups < 1 or weight.shape[1] * groups != x.shape[0] or weight.shape[0] % groups:
        raise o.broken(f"has weights {list(weight.shape)} in {groups} groups for {o.told(x)}")
    _fitting_bias(o, bias, weight.shape[0])
    w = window(o, size, weight.shape[2:], flat=len(x.shape) == 2)
    return layers.convolution(
        *(o.builder, o.origin, x, weight, bias), stride=w.stride, padding=w.padding, dilation=w.dilation, groups=groups
    )


def _conv_transpose(o: Operation) -> Value:
    x = o.image()
    weight, bias, flat = _kernel(o, x, 1), o.optional_floats(2), len(x.shape) == 2
    if o.integer("group", 1) != 1:
        raise o.refuse("Grouped transposed convolutions are not supported; use Resize followed by a grouped Conv.")
    if weight.shape[0] != x.shape[0]:
        raise o.broken(f"has weights {list(weight.shape)} for {o.told(x)}")
    _fitting_bias(o, bias, weight.shape[1])
    if any(d != 1 for d in o.sizes("dilations", [1] * (1 if flat else 2))):
        raise o.refuse("Dilated transposed convolutions are not supported.")
    stride, padding = _cut_off(o, _space(x), weight.shape[2:], flat)
    return layers.transposed_convolution(o.builder, o.origin, x, weight, bias, stride=stride, padding=padding)


def _cut_off(o: Operation, size: Sequence[int], kernel: Sequence[int], flat: bool) -> tuple[list[int], list[int]]:
    """The stride of a transposed convolution, and what is cut off its full output (top, left, bottom, right)."""
    count = 1 if flat else 2
    lead, size, kernel = [1] * (2 - count), size[2 - count :], kernel[2 - count :]
    stride = o.sizes("strides", [1] * count)
    added = o.sizes("output_padding", [0] * count, 0)
    pads = o.sizes("pads", [0] * 2 * count, 0)
    wanted = o.sizes("output_shape", [0] * count, 0)
    auto = o.text("auto_pad", "NOTSET") or "NOTSET"
    if o.sizes("kernel_shape", kernel) != list(kernel):
        raise o.broken(f"has a kernel_shape that is not that of its weights, {list(kernel)}")
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise o.broken(f"has auto_pad '{auto}'")
    before, after = [], []
    for k in range(count):
        full = stride[k] * (size[k] - 1) + kernel[k]
        if any(wanted) or auto.startswith("SAME"):
            total = full + added[k] - (wanted[k] or size[k] * stride[k])
            small, large = total // 2, total - total // 2
            first, last = (small, large) if auto == "SAME_UPPER" else (large, small)
        else:
            first, last = (0, 0) if auto == "VALID" else (pads[k], pads[k + count])
        before.append(first)
        after.append(last - added[k])
        if abs(first) > MAX_WINDOW or abs(after[-1]) > MAX_WINDOW or full - first - after[-1] < 1:
            raise o.broken(f"cuts {first} and {after[-1]} off an output of {full}")
    none = [0] * (2 - count)
    return lead + stride, none + before + none + after


def _kernel(o: Operation, x: Value, k: int) -> Floats:
    """Weights [., ., kh, kw]; those of signals get a height of 1."""
    weight = o.floats(k)
    if weight.ndim != len(x.shape) + 1:
        raise o.refuse(f"Weights {list(weight.shape)} are not those of a convolution of {o.told(x)}.")
    if min(weight.shape) < 1 or max(weight.shape[2:]) > MAX_WINDOW:
        raise o.broken(f"has weights {list(weight.shape)}")
    return weight if weight.ndim == 4 else weight[:, :, None, :]


def _space(x: Value) -> tuple[int, int]:
    """(height, width) of images [N, C, H, W] and signals [N, C, L]."""
    return (1, x.shape[1]) if len(x.shape) == 2 else (x.shape[1], x.shape[2])


def _fitting_bias(o: Operation, bias: Floats | None, outputs: int) -> None:
    if bias is not None and bias.shape != (outputs,):
        raise o.broken(f"has a bias of shape {list(bias.shape)} for {outputs} outputs")


def _gemm(o: Operation) -> Value:
    x, weight = o.computed(), o.floats(1)
    if len(x.shape) != 1 or weight.ndim != 2 or o.flag("transA"):
        raise o.refuse(f"It multiplies [N, features] by constant weights only, not {o.told(x)}.")
    weight = o.number("alpha", 1.0) * (weight if o.flag("transB") else weight.T)
    if weight.shape[1] != x.shape[0]:
        raise o.broken(f"has weights {list(o.floats(1).shape)} for {o.told(x)}")
    if o.has(2) and not o.is_constant(2):
        if o.number("beta", 1.0) != 1.0:
            raise o.refuse("A scaled sum (beta) with a computed value is not supported; use Mul and Add.")
        made = layers.dense(o.builder, o.origin, x, weight, None)
        return values.binary(o.builder, o.origin, "add", made, o.computed(2))
    bias = None
    if o.has(2):
        given = o.floats(2)
        if given.ndim > 2 or (given.ndim == 2 and given.shape[0] != 1) or given.size not in (1, weight.shape[0]):
            raise o.refuse(f"A bias of shape {list(given.shape)} is not one number for each output.")
        bias = o.number("beta", 1.0) * np.broadcast_to(given.reshape(-1), weight.shape[:1])
    return layers.dense(o.builder, o.origin, x, weight.astype(np.float32), bias)


def _matmul(o: Operation) -> Value:
    """Of a value and constant weights, on either side."""
    k = next((k for k in (1, 0) if o.is_constant(k)), None)
    if k is None:
        raise o.refuse("Products of two computed matrices (attention) are not supported; use convolutions.")
    x, weight = o.computed(1 - k), o.floats(k)
    if weight.ndim < 2 or weight.size != weight.shape[-1] * weight.shape[-2] or weight.ndim > len(x.shape) + 1:
        raise o.refuse(f"It multiplies by one constant matrix only, not by {list(weight.shape)}.")
    weight = weight.reshape(weight.shape[-2], weight.shape[-1])
    if k == 1:
        if x.shape[-1:] != weight.shape[:1]:
            raise o.broken(f"has weights {list(weight.shape)} for {o.told(x)}")
        return layers.dense(o.builder, o.origin, x, weight.T, None)
    rank = len(x.shape)
    if rank < 2 or x.shape[-2] != weight.shape[1]:
        raise o.refuse(f"A constant {list(weight.shape)} from the left does not fit {o.told(x)}.")
    order = [*range(rank - 2), rank - 1, rank - 2]
    made = layers.dense(o.builder, o.origin, o.builder.permute(x, order), weight, None)
    return o.builder.permute(made, order)


def _batch_norm(o: Operation) -> Value:
    x = o.computed()
    if o.flag("training_mode") or any(o.node.outputs[1:]):
        raise o.refuse("Export the model for inference (model.eval()), so that batch norms use their statistics.")
    numbers = [o.floats(k) for k in (1, 2, 3, 4)]
    if not x.shape or any(n.shape != x.shape[:1] for n in numbers):
        raise o.broken(f"has numbers of shape {list(numbers[0].shape)} for {o.told(x)}")
    eps = o.number("epsilon", 1e-5)
    if np.any(numbers[3] + eps <= 0):
        raise o.broken("has a variance that is not positive")
    weight, bias, mean, var = numbers
    return layers.batch_norm(o.builder, o.origin, x, 0, weight, bias, mean, var, eps)


WEIGHTED: dict[str, Handler] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
}
