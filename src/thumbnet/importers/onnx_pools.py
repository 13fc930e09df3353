"""Pools and reductions of float ONNX files."""

from __future__ import annotations

from thumbnet.importers import layers
from thumbnet.importers.builder import Value
from thumbnet.importers.onnx_operands import Handler, Operation
from thumbnet.importers.qdq_windows import window

_KINDS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max", "ReduceMin": "min"}


def _pool(o: Operation) -> Value:
    x = o.image()
    flat, op = len(x.shape) == 2, "max_pool2d" if o.op == "MaxPool" else "avg_pool2d"
    if any(o.node.outputs[1:]):
        raise o.refuse("The places of the maxima are not computed; leave out the second output.")
    kernel = [*[1] * flat, *o.sizes("kernel_shape", [0] * (1 if flat else 2))]
    size = (1, x.shape[1]) if flat else (x.shape[1], x.shape[2])
    w = window(o, size, kernel, flat=flat, pool=True)
    if any(d != 1 for d in w.dilation):
        raise o.refuse("Dilated pools are not supported.")
    counted = op == "avg_pool2d" and o.flag("count_include_pad") and any(w.padding)
    if counted and any(w.beyond):
        raise o.refuse("Means that count padding cannot be rounded up (ceil_mode) as well.")
    made = {"kernel": kernel, "stride": w.stride, "padding": w.reached}
    return layers.pool(o.builder, o.origin, x, op, **made, count_include_pad=counted)


def _global_average(o: Operation) -> Value:
    x = o.image()
    return layers.reduction(o.builder, o.origin, x, "mean", range(1, len(x.shape)), True)


def _global_max(o: Operation) -> Value:
    x = o.image()
    whole = [1] * (len(x.shape) == 2) + list(x.shape[1:])
    return layers.pool(o.builder, o.origin, x, "max_pool2d", kernel=whole, stride=[1, 1])


def _reduce(o: Operation) -> Value:
    x = o.computed()
    given = o.listed(1, "axes", [])
    if not given and o.flag("noop_with_empty_axes"):
        return x
    if not given:
        raise o.mixes()
    axes = o.sample_axes(given, x)
    return layers.reduction(o.builder, o.origin, x, _KINDS[o.op], axes, o.flag("keepdims", True))


POOLS: dict[str, Handler] = {
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    **dict.fromkeys(_KINDS, _reduce),
}
