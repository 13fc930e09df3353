"""QuantizeLinear and DequantizeLinear in a float network: weights become floats, activations are left as they were.

A quantizer behind a convolution may be all that is left of a ReLU: where it cannot hold negative numbers, they were
cut off on purpose, and the network gets the ReLU back.
"""

from __future__ import annotations

import numpy as np

from thumbnet.importers import values
from thumbnet.importers.builder import Builder
from thumbnet.importers.onnx_operands import Handler, Operation, Results
from thumbnet.importers.onnx_tensors import Array
from thumbnet.importers.patterns import never_negative

_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}
_STORED = {*_RANGES, "int32"}
_SIX = 0.03  # a quantizer that ends this close to 6 is one of a ReLU6


def _quantize(o: Operation) -> Results:
    scale, zero = _parameters(o)
    dtype = str(zero.dtype)
    if dtype not in _RANGES:
        raise o.refuse(f"Numbers quantized to {dtype} are not supported; use int8 or uint8.")
    low, high = _RANGES[dtype]
    if o.is_constant(0):
        reals = o.reals(0)
        scales, zeros = (_along(o, reals, a) for a in (scale, zero))
        return np.asarray(np.clip(np.rint(reals / scales) + zeros, low, high), dtype)
    x = o.computed()
    if scale.size != 1 or zero.size != 1:
        raise o.refuse("Activations quantized with a scale for each channel are not supported.")
    if int(zero.reshape(-1)[0]) != low or _is_input(o.builder, x.ref) or never_negative(o.builder, x.ref):
        return x
    top = (high - low) * float(scale.reshape(-1)[0])
    return values.elementwise(o.builder, o.origin, "relu6" if abs(top - 6) < _SIX else "relu", x)


def _dequantize(o: Operation) -> Results:
    scale, zero = _parameters(o)
    if not o.is_constant(0):
        return o.computed()
    x = o.constant(0)
    if str(x.dtype) not in _STORED:
        raise o.broken(f"dequantizes numbers of {x.dtype}")
    scales, zeros = (_along(o, x, a.astype(np.float32)) for a in (scale, zero))
    return ((x.astype(np.float32) - zeros) * scales).astype(np.float32)


def _parameters(o: Operation) -> tuple[Array, Array]:
    """Scale and zero point: numbers, or lists along an axis."""
    scale = o.reals(1)
    zero = o.constant(2) if o.has(2) else np.zeros(scale.shape, np.uint8)
    if scale.size != zero.size or max(scale.ndim, zero.ndim) > 1 or not np.all(scale > 0):
        raise o.refuse("It takes one positive scale and zero point for a tensor, or one for each channel.")
    return scale, zero


def _along(o: Operation, x: Array, numbers: Array) -> Array:
    """Numbers for each channel, for arithmetic with `x`."""
    if numbers.size == 1:
        return numbers.reshape(())
    axis = o.axis(o.integer("axis", 1), x.ndim)
    if x.shape[axis] != numbers.size:
        raise o.broken(f"has {numbers.size} scales for a shape {list(x.shape)}")
    return numbers.reshape([-1 if k == axis else 1 for k in range(x.ndim)])


def _is_input(b: Builder, ref: str) -> bool:
    """Whether a value is an input of the graph, in whatever order: nothing was cut off of it."""
    while ref in b.nodes and b.nodes[ref].op in ("transpose", "reshape", "flatten"):
        ref = b.nodes[ref].inputs[0]
    return ref not in b.nodes


def input_range(o: Operation) -> tuple[float, float] | None:
    """What a QuantizeLinear can hold of its input."""
    scale, zero = _parameters(o)
    if scale.size != 1 or str(zero.dtype) not in _RANGES:
        return None
    low, high = (float((v - int(zero.reshape(-1)[0])) * scale.reshape(-1)[0]) for v in _RANGES[str(zero.dtype)])
    return low, high


QUANTIZED: dict[str, Handler] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
