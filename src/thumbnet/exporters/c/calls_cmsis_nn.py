"""Calls of Arm's CMSIS-NN: constants in the library's own structs, and the statement that computes a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.cost.kernel import window_of
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.site import Call, Site


def _pair(wh: Sequence[int]) -> str:
    """A `cmsis_nn_tile` of (height, width)."""
    return f"{{.w = {wh[1]}, .h = {wh[0]}}}"


def _dims(n: int, h: int, w: int, c: int) -> str:
    return f"{{{n}, {h}, {w}, {c}}}"


def _clamp(site: Site) -> str:
    return f"{{{site.node.clamp[0]}, {site.node.clamp[1]}}}"


def _nested(fields: Mapping[str, int | str]) -> str:
    return "{" + ", ".join(f".{k} = {v}" for k, v in fields.items()) + "}"


def _weighted(site: Site) -> tuple[tuple[str, ...], dict[str, int | str]]:
    """Arrays of a node with weights, and the fields of its struct that name them."""
    node = site.node
    arrays: dict[str, npt.NDArray[np.integer[Any]]] = {
        "weight": node.arrays["weight"].astype(np.int8),
        "bias": node.arrays["bias"].astype(np.int32),
    }
    arrays |= {k: node.arrays[k].astype(np.int32) for k in ("multiplier", "shift")}
    fields: dict[str, int | str] = {k: f"{site.name}_{k}" for k in ("weight", "bias")}
    fields["scales"] = f"{{{site.name}_multiplier, {site.name}_shift}}"
    return tuple(spell.array(f"{site.name}_{k}", v) for k, v in arrays.items()), fields


def _call(site: Site, kind: str, constants: tuple[str, ...], fields: Mapping[str, int | str]) -> Call:
    struct = spell.struct(kind, site.name, {**fields, "scratch_bytes": site.kernel.scratch_bytes})
    statement = f"{site.kernel.function}(&{site.name}, {site.inputs[0]}, {site.output}, {site.scratch});"
    return Call((*constants, struct), (statement,))


def _convolution(site: Site) -> Call:
    node, w = site.node, window_of(site.node, site.ig)
    constants, fields = _weighted(site)
    window: dict[str, int | str] = {"input_offset": -site.zero_point(0), "output_offset": site.out_zero_point}
    depthwise = node.op == "depthwise_conv2d"
    if depthwise:
        window["ch_mult"] = w.out_c // w.in_c
        filter_dims = _dims(1, *w.kernel, w.out_c)
    else:
        filter_dims = _dims(w.out_c, *w.kernel, w.in_c // int(node.attrs["groups"]))
    window |= {"stride": _pair(w.stride), "padding": _pair(w.padding), "dilation": _pair(w.dilation)}
    fields["window"] = _nested({**window, "activation": _clamp(site)})
    fields |= {"input": _dims(1, w.in_h, w.in_w, w.in_c), "filter": filter_dims}
    fields["output"] = _dims(1, w.out_h, w.out_w, w.out_c)
    return _call(site, f"tn_cmsis_{'depthwise' if depthwise else 'conv2d'}_params", constants, fields)


def _dense(site: Site) -> Call:
    out_c, in_c = (int(n) for n in site.node.arrays["weight"].shape)
    constants, fields = _weighted(site)
    scales = {
        tuple(pair) for pair in zip(*(site.node.arrays[k].tolist() for k in ("multiplier", "shift")), strict=True)
    }
    fields["per_channel"] = int(len(scales) > 1)
    fields["layer"] = _nested(
        {
            "input_offset": -site.zero_point(0),
            "filter_offset": 0,
            "output_offset": site.out_zero_point,
            "activation": _clamp(site),
        }
    )
    fields |= {"input": _dims(1, 1, 1, in_c), "filter": _dims(in_c, 1, 1, out_c), "output": _dims(1, 1, 1, out_c)}
    return _call(site, "tn_cmsis_dense_params", constants, fields)


def _pool(site: Site) -> Call:
    w = window_of(site.node, site.ig)
    window = {"stride": _pair(w.stride), "padding": _pair(w.padding), "activation": _clamp(site)}
    fields: dict[str, int | str] = {"window": _nested(window)}
    fields |= {"input": _dims(1, w.in_h, w.in_w, w.in_c), "filter": _dims(1, *w.kernel, 1)}
    fields["output"] = _dims(1, w.out_h, w.out_w, w.out_c)
    return _call(site, "tn_cmsis_pool_params", (), fields)


def _add(site: Site) -> Call:
    attrs, (low, high) = site.node.attrs, site.node.clamp
    m, s = attrs["multipliers"], attrs["shifts"]
    operands = [f"{-site.zero_point(i)}, {m[i]}, {s[i]}" for i in (0, 1)]
    result = f"{site.output}, {site.out_zero_point}, {m[2]}, {s[2]}, {low}, {high}, {site.size}"
    addresses = f"{site.inputs[0]}, {site.inputs[1]}"
    return _direct(site, addresses, *operands, str(attrs["left_shift"]), result)


def _mul(site: Site) -> Call:
    attrs, (low, high) = site.node.attrs, site.node.clamp
    offsets = f"{-site.zero_point(0)}, {-site.zero_point(1)}"
    result = (
        f"{site.output}, {site.out_zero_point}, {attrs['multiplier']}, {attrs['shift']}, {low}, {high}, {site.size}"
    )
    return _direct(site, f"{site.inputs[0]}, {site.inputs[1]}", offsets, result)


def _softmax(site: Site) -> Call:
    attrs, shape = site.node.attrs, site.ig.tensors[site.node.name].shape
    scale = f"{attrs['multiplier']}, {attrs['shift']}, {attrs['diff_min']}"
    return _direct(site, site.inputs[0], f"{int(np.prod(shape[:-1]))}, {shape[-1]}", scale, site.output)


def _direct(site: Site, *arguments: str) -> Call:
    return Call((), (f"{site.kernel.function}({', '.join(arguments)});",))


SPELLERS: Mapping[str, Callable[[Site], Call]] = {
    "tn_cmsis_conv2d": _convolution,
    "tn_cmsis_depthwise_conv2d": _convolution,
    "tn_cmsis_dense": _dense,
    "tn_cmsis_max_pool2d": _pool,
    "tn_cmsis_avg_pool2d": _pool,
    "arm_elementwise_add_s8": _add,
    "arm_elementwise_mul_s8": _mul,
    "arm_softmax_s8": _softmax,
}
