"""Layers of Keras with weights or windows: convolutions, dense layers, norms, pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thumbnet.importers import layers, values
from thumbnet.importers.builder import Floats, Value
from thumbnet.importers.keras_activations import activated
from thumbnet.importers.keras_call import Call, Handler, numbers, pair


def _kernel(weight: Any) -> Floats:
    """[kh, kw, a, b] of Keras; [k, a, b] of signals gets a height of 1."""
    found = numbers(weight)
    return found[None] if found.ndim == 3 else found


def _bias(layer: Any) -> Floats | None:
    return numbers(layer.bias) if layer.use_bias else None


def _padding(c: Call, x: Value, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    kind = c.op.padding
    size = c.b.shapes[c.b.image(c.origin, x)][1:]
    if kind == "same":
        return layers.same_padding(size, kernel, stride, dilation)
    if kind == "causal":
        return [0, dilation[1] * (kernel[1] - 1), 0, 0]
    if kind != "valid":
        raise c.origin.refuse(f"The padding '{kind}' is not supported; use 'same' or 'valid'.")
    return [0, 0, 0, 0]


def _convolved(c: Call, x: Value, kernel: Floats, bias: Floats | None, groups: int, **more: Any) -> Value:
    """`kernel` is [O, I/groups, kh, kw]."""
    stride, dilation = pair(c.op.strides), pair(c.op.dilation_rate)
    padding = _padding(c, x, kernel.shape[2:], stride, dilation)
    return layers.convolution(
        c.b, more.get("origin", c.origin), x, kernel, bias,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip


def _conv(c: Call) -> Value:
    kernel = _kernel(c.op.kernel).transpose(3, 2, 0, 1)
    return activated(c, c.windowed(c.x, lambda x: _convolved(c, x, kernel, _bias(c.op), int(c.op.groups))))


def _by_channel(weight: Any) -> Floats:
    """[kh, kw, C, M] as [C · M, 1, kh, kw]."""
    kernel = _kernel(weight)
    return kernel.transpose(2, 3, 0, 1).reshape(-1, 1, *kernel.shape[:2])


def _depthwise(c: Call) -> Value:
    kernel = _by_channel(c.op.kernel)
    groups = len(kernel) // int(c.op.depth_multiplier)
    return activated(c, c.windowed(c.x, lambda x: _convolved(c, x, kernel, _bias(c.op), groups)))


def _separable(c: Call) -> Value:
    depthwise, pointwise = _by_channel(c.op.depthwise_kernel), _kernel(c.op.pointwise_kernel).transpose(3, 2, 0, 1)
    groups = len(depthwise) // int(c.op.depth_multiplier)

    def work(x: Value) -> Value:
        x = _convolved(c, x, depthwise, None, groups, origin=c.part("depthwise"))
        return layers.convolution(c.b, c.origin, x, pointwise, _bias(c.op))

    return activated(c, c.windowed(c.x, work))


def _transposed(c: Call) -> Value:
    """Keras cuts off as much of the full output as its convolution of the same settings would pad."""
    kernel = _kernel(c.op.kernel).transpose(3, 2, 0, 1)
    stride, dilation = pair(c.op.strides), pair(c.op.dilation_rate)
    more = (None, None) if c.op.output_padding is None else pair(c.op.output_padding)
    kernel = _dilated(kernel, dilation)
    cut = [_cut(c.op.padding, kernel.shape[k + 2], stride[k], more[k]) for k in (0, 1)]
    padding = [cut[0][0], cut[1][0], cut[0][1], cut[1][1]]

    def work(x: Value) -> Value:
        return layers.transposed_convolution(c.b, c.origin, x, kernel, _bias(c.op), stride=stride, padding=padding)

    return activated(c, c.windowed(c.x, work))


def _dilated(kernel: Floats, dilation: Sequence[int]) -> Floats:
    """Zeros between the weights of [I, O, kh, kw]."""
    size = [d * (k - 1) + 1 for k, d in zip(kernel.shape[2:], dilation, strict=True)]
    made = np.zeros((*kernel.shape[:2], *size), np.float32)
    made[:, :, :: dilation[0], :: dilation[1]] = kernel
    return made


def _cut(padding: str, kernel: int, stride: int, more: int | None) -> tuple[int, int]:
    """(before, after) along one axis; negative where zeros are added. Of a height of 1 nothing is cut."""
    if (kernel, stride) == (1, 1):
        return 0, 0
    if padding == "valid":
        return 0, -(max(stride - kernel, 0) if more is None else more)
    pads = stride + kernel - 2 if more is None else kernel + kernel % 2 - 2 + more
    before = min(pads // 2 + pads % 2, kernel - 1)
    return kernel - 1 - before, kernel - 1 - (pads - before)


def _dense(c: Call) -> Value:
    return activated(c, layers.dense(c.b, c.origin, c.x, numbers(c.op.kernel).T, _bias(c.op)))


# --- norms


def _batch_norm(c: Call) -> Value:
    n = c.op
    mean, var = numbers(n.moving_mean), numbers(n.moving_variance)
    weight = np.ones_like(mean) if n.gamma is None else numbers(n.gamma)
    bias = np.zeros_like(mean) if n.beta is None else numbers(n.beta)
    axis = n.axis[0] if isinstance(n.axis, list | tuple) else n.axis
    own = c.axis(int(axis), len(c.x.shape))
    return layers.batch_norm(c.b, c.origin, c.x, own, weight, bias, mean, var, float(n.epsilon))


def _affine(c: Call, scale: Floats, offset: Floats) -> Value:
    """scale · x + offset in one step, which folds into the layer behind it; both vary along one axis at most."""
    x = c.x
    found = [values.varying(c.origin, a, x.shape) for a in np.broadcast_arrays(scale, offset)]
    axis = next((k for k, _ in found if k is not None), None)
    size = 1 if axis is None else x.shape[axis]
    return values.affine(c.b, c.origin, x, axis, *(np.array(np.broadcast_to(n, (size,))) for _, n in found))


def _normalization(c: Call) -> Value:
    """(x − mean) / √variance, or its inverse; one number for all, or for each position along one axis."""
    mean = numbers(c.op.mean)
    deviation = np.asarray(np.maximum(np.sqrt(numbers(c.op.variance)), 1e-7), np.float32)
    if c.op.invert:
        return _affine(c, deviation, mean)
    return _affine(c, np.asarray(1 / deviation, np.float32), np.asarray(-mean / deviation, np.float32))


def _rescaling(c: Call) -> Value:
    return _affine(c, np.asarray(c.op.scale, np.float32), np.asarray(c.op.offset, np.float32))


# --- pools


def _pool(op: str) -> Handler:
    def convert(c: Call) -> Value:
        kernel, stride = pair(c.op.pool_size), pair(c.op.strides)

        def work(x: Value) -> Value:
            padding = _padding(c, x, kernel, stride, (1, 1))
            return layers.pool(c.b, c.origin, x, op, kernel=kernel, stride=stride, padding=padding)

        return c.windowed(c.x, work)

    return convert


def _global(kind: str) -> Handler:
    def convert(c: Call) -> Value:
        rank = len(c.x.shape)
        first = c.op.data_format == "channels_first"
        axes = list(range(1, rank) if first else range(rank - 1))
        return layers.reduction(c.b, c.origin, c.x, kind, axes, bool(c.op.keepdims))

    return convert


def _named(make: Callable[[Call], Value], *names: str) -> dict[str, Handler]:
    return dict.fromkeys(names, make)


WEIGHTED: dict[str, Handler] = {
    **_named(_conv, "Conv1D", "Conv2D"),
    **_named(_depthwise, "DepthwiseConv1D", "DepthwiseConv2D"),
    **_named(_separable, "SeparableConv1D", "SeparableConv2D"),
    **_named(_transposed, "Conv1DTranspose", "Conv2DTranspose"),
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D"), _pool("max_pool2d")),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D"), _pool("avg_pool2d")),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D"), _global("mean")),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D"), _global("max")),
}
