"""One function per operation: the constants a node needs in C, and the statement that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from thumbnet.cost.kernels import Kernel, even_inputs, exact_input, window_of
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.packing import pack_dense, pack_pairs, right_shifts
from thumbnet.integer.graph import IntegerGraph, IntegerNode


@dataclass(frozen=True)
class Call:
    """C text of one node: definitions of its constants, and statements (one each line)."""

    constants: tuple[str, ...]
    statements: tuple[str, ...]


@dataclass(frozen=True)
class Site:
    """A node with everything its call is spelled from."""

    node: IntegerNode
    ig: IntegerGraph
    kernel: Kernel
    name: str  # C identifier
    inputs: tuple[str, ...]  # C expressions of addresses
    output: str
    scratch: str

    @property
    def clamp(self) -> dict[str, int | str]:
        return {"low": self.node.clamp[0], "high": self.node.clamp[1]}

    def zero_point(self, i: int) -> int:
        return self.ig.tensors[self.node.inputs[i]].zero_point

    @property
    def out_zero_point(self) -> int:
        return self.ig.tensors[self.node.name].zero_point

    @property
    def size(self) -> int:
        return self.ig.tensors[self.node.name].bytes


def folded_bias(node: IntegerNode, zero_point: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Bias minus zero point times the sum of the channel's weights, modulo 2^32, so that kernels need no offset."""
    weight = node.arrays["weight"].astype(np.int64)
    axes = tuple(range(weight.ndim - 1)) if node.op == "depthwise_conv2d" else tuple(range(1, weight.ndim))
    bias = node.arrays["bias"].astype(np.int64) - zero_point * weight.sum(axes)
    folded: np.ndarray[Any, np.dtype[np.int32]] = bias.astype(np.uint32).view(np.int32)
    return folded


def call(site: Site) -> Call:
    """Constants and statements of the node; none where nothing is computed."""
    if not site.kernel.function:
        return Call((), ())
    return SPELLERS[site.node.op](site)


def _with_params(site: Site, kind: str, fields: Mapping[str, int | str], *addresses: str) -> Call:
    arguments = ", ".join((f"&{site.name}", *addresses))
    return Call((spell.struct(kind, site.name, fields),), (f"{site.kernel.function}({arguments});",))


def _geometry(site: Site) -> dict[str, int | str]:
    w = window_of(site.node, site.ig)
    fields: dict[str, int | str] = {"in_h": w.in_h, "in_w": w.in_w, "in_c": w.in_c}
    fields |= {"out_h": w.out_h, "out_w": w.out_w, "out_c": w.out_c}
    fields |= {"kernel_h": w.kernel[0], "kernel_w": w.kernel[1], "stride_h": w.stride[0], "stride_w": w.stride[1]}
    fields |= {"dilation_h": w.dilation[0], "dilation_w": w.dilation[1]}
    fields |= {"pad_top": w.padding[0], "pad_left": w.padding[1]}
    return fields | {"in_zero_point": site.zero_point(0), "out_zero_point": site.out_zero_point}


def _clamped(site: Site, made: Call) -> Call:
    """Adds the second pass that clamps the output, where the kernel leaves that open."""
    if not site.kernel.clamped:
        return made
    low, high = site.node.clamp
    return Call(made.constants, (*made.statements, f"tn_clamp_dsp({site.output}, {site.size}, {low}, {high});"))


def _packed(site: Site) -> str:
    """The weights of a convolution for pairs.S: a row of the window is one run."""
    node = site.node
    arrays, w = node.arrays, window_of(node, site.ig)
    weight = arrays["weight"].astype(np.int8).reshape(w.out_c, w.kernel[0], -1)
    bias = folded_bias(node, site.zero_point(0))
    packed = pack_pairs(weight, bias, arrays["multiplier"], arrays["shift"], site.kernel.positive)
    return spell.array(f"{site.name}_packed", packed)


def _channel_constants(site: Site) -> tuple[str, ...]:
    """The arrays of tn_conv2d_constants, and the struct itself."""
    node = site.node
    weight, multiplier, shift = (node.arrays[k] for k in ("weight", "multiplier", "shift"))
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "weight": (np.moveaxis(weight, -1, 0) if node.op == "depthwise_conv2d" else weight).astype(np.int8),
        "bias": folded_bias(node, site.zero_point(0)),
        "multiplier": multiplier.astype(np.int32),
        "shift": right_shifts(multiplier, shift) if site.kernel.dsp else shift.astype(np.int8),
    }
    fields: dict[str, int | str] = {key: f"{site.name}_{key}" for key in arrays}
    return (
        *(spell.array(f"{site.name}_{k}", v) for k, v in arrays.items()),
        spell.struct("tn_conv2d_constants", f"{site.name}_constants", fields),
    )


def convolution_constants(site: Site) -> tuple[str, ...]:
    """Definitions of everything that a convolution's `tn_conv2d_params`, called `site.name`, needs, and the struct."""
    constants: tuple[str, ...]
    if site.kernel.packed:
        constants, address = (_packed(site),), f"{site.name}_packed"
    else:
        constants, address = _channel_constants(site), f"&{site.name}_constants"
    groups = int(site.node.attrs.get("groups", 1))
    fields: dict[str, int | str] = {"constants": address, "groups": groups, "strip": site.kernel.strip}
    return (*constants, spell.struct("tn_conv2d_params", site.name, {**fields, **_geometry(site), **site.clamp}))


def _convolution(site: Site) -> Call:
    statement = f"{site.kernel.function}(&{site.name}, {site.inputs[0]}, {site.output}, {site.scratch});"
    return _clamped(site, Call(convolution_constants(site), (statement,)))


def _dense(site: Site) -> Call:
    node = site.node
    out_c, in_c = (int(n) for n in node.arrays["weight"].shape)
    weight, bias = node.arrays["weight"].astype(np.int8), folded_bias(node, site.zero_point(0))
    fields: dict[str, int | str] = {"in_c": in_c, "out_c": out_c, "multiplier": int(node.arrays["multiplier"][0])}
    if site.kernel.dsp:
        fields |= {"packed": f"{site.name}_packed", "rounding": 1 + 2 * site.out_zero_point}
        fields["shift"] = int(right_shifts(node.arrays["multiplier"], node.arrays["shift"])[0])
        params = _with_params(site, "tn_dense_dsp_params", fields, site.inputs[0], site.output)
        packed = spell.array(f"{site.name}_packed", pack_dense(weight, bias))
        return _clamped(site, Call((packed, *params.constants), params.statements))
    arrays: dict[str, np.ndarray[Any, Any]] = {"weight": weight, "bias": bias}
    fields |= {key: f"{site.name}_{key}" for key in arrays}
    fields |= {"shift": int(node.arrays["shift"][0]), "out_zero_point": site.out_zero_point, **site.clamp}
    params = _with_params(site, "tn_dense_params", fields, site.inputs[0], site.output)
    constants = tuple(spell.array(f"{site.name}_{k}", v) for k, v in arrays.items())
    return Call(constants + params.constants, params.statements)


def _period(site: Site) -> int:
    """After how many elements input 1 repeats; 0 where it has as many as the output."""
    second = site.ig.tensors[site.node.inputs[1]].bytes
    return second if second < site.size else 0


def _add(site: Site) -> Call:
    if site.kernel.dsp:
        return _add_dsp(site)
    multipliers = [int(m) for m in site.node.attrs["multipliers"]]
    shifts = [int(s) for s in site.node.attrs["shifts"]]
    fields: dict[str, int | str] = {
        "multiplier1": multipliers[0],
        "multiplier2": -multipliers[1] if site.node.op == "sub" else multipliers[1],
        "out_multiplier": multipliers[2],
        "size": site.size,
        "period": _period(site),
        "shift1": shifts[0],
        "shift2": shifts[1],
        "out_shift": shifts[2],
        "left_shift": int(site.node.attrs["left_shift"]),
        "zero_point1": site.zero_point(0),
        "zero_point2": site.zero_point(1),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return _with_params(site, "tn_add_params", fields, *site.inputs, site.output)


def _add_dsp(site: Site) -> Call:
    attrs, exact = site.node.attrs, exact_input(site.node)
    assert exact is not None  # or the kernel would not have been chosen
    other = 1 - exact
    even = even_inputs(site.node)
    fields: dict[str, int | str] = {
        "multiplier": int(attrs["multipliers"][other]),
        "shift": 0 if even else -int(attrs["shifts"][other]) - 1,
        "constant_x": -(site.zero_point(exact) << 19),
        "constant_y": -(site.zero_point(other) << (22 if even else 21)),
        "out_multiplier": int(attrs["multipliers"][2]),
        "out_shift": -int(attrs["shifts"][2]) - 1,
        "rounding": 1 + 2 * site.out_zero_point,
        "size": site.size,
    }
    made = _with_params(site, "tn_add_dsp_params", fields, site.inputs[exact], site.inputs[other], site.output)
    return _clamped(site, made)


def _mul(site: Site) -> Call:
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "size": site.size,
        "period": _period(site),
        "shift": int(site.node.attrs["shift"]),
        "zero_point1": site.zero_point(0),
        "zero_point2": site.zero_point(1),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return _with_params(site, "tn_mul_params", fields, *site.inputs, site.output)


def _pool(site: Site) -> Call:
    w = window_of(site.node, site.ig)
    fields: dict[str, int | str] = {
        "in_h": w.in_h,
        "in_w": w.in_w,
        "channels": w.in_c,
        "out_h": w.out_h,
        "out_w": w.out_w,
        "kernel_h": w.kernel[0],
        "kernel_w": w.kernel[1],
        "stride_h": w.stride[0],
        "stride_w": w.stride[1],
        "pad_top": w.padding[0],
        "pad_left": w.padding[1],
        **site.clamp,
    }
    return _with_params(site, "tn_pool_params", fields, site.inputs[0], site.output)


def _global_avg_pool(site: Site) -> Call:
    h, w, channels = site.ig.tensors[site.node.inputs[0]].shape
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "offset": -h * w * site.zero_point(0),
        "pixels": h * w,
        "channels": channels,
        "shift": int(site.node.attrs["shift"]),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return _with_params(site, "tn_global_avg_pool_params", fields, site.inputs[0], site.output)


def _lut(site: Site) -> Call:
    table = spell.array(f"{site.name}_table", site.node.arrays["table"].astype(np.int8))
    return Call((table,), (f"tn_lut({site.name}_table, {site.size}, {site.inputs[0]}, {site.output});",))


def _requantize(site: Site) -> Call:
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "size": site.size,
        "shift": int(site.node.attrs["shift"]),
        "in_zero_point": site.zero_point(0),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return _with_params(site, "tn_requantize_params", fields, site.inputs[0], site.output)


def _axis(site: Site, shape: tuple[int, ...]) -> int:
    return int(site.node.attrs["axis"]) % len(shape)


def _run(shape: tuple[int, ...], axis: int) -> int:
    return int(np.prod(shape[axis:]))


def _concat(site: Site) -> Call:
    shape = site.ig.tensors[site.node.name].shape
    axis = _axis(site, shape)
    blocks, step = int(np.prod(shape[:axis])), _run(shape, axis)
    statements, at = [], 0
    for source, name in zip(site.inputs, site.node.inputs, strict=True):
        size = _run(site.ig.tensors[name].shape, axis)
        place = f"{site.output} + {at}" if at else site.output
        statements.append(f"tn_copy_blocks({source}, {place}, {blocks}, {size}, {size}, {step});")
        at += size
    return Call((), tuple(statements))


def _slice(site: Site) -> Call:
    shape = site.ig.tensors[site.node.inputs[0]].shape
    axis = _axis(site, shape)
    blocks, step, unit = int(np.prod(shape[:axis])), _run(shape, axis), _run(shape, axis + 1)
    start, stop = int(site.node.attrs["start"]), int(site.node.attrs["stop"])
    size = (stop - start) * unit
    source = f"{site.inputs[0]} + {start * unit}" if start else site.inputs[0]
    return Call((), (f"tn_copy_blocks({source}, {site.output}, {blocks}, {size}, {step}, {size});",))


def _pad(site: Site) -> Call:
    h, w, c = site.ig.tensors[site.node.inputs[0]].shape
    top, left, bottom, right = (int(p) for p in site.node.attrs["padding"])
    fields: dict[str, int | str] = {"in_h": h, "in_w": w, "channels": c, "top": top, "left": left}
    fields |= {"bottom": bottom, "right": right, "value": site.zero_point(0)}
    return _with_params(site, "tn_pad_params", fields, site.inputs[0], site.output)


def _resize(site: Site) -> Call:
    h, w, c = site.ig.tensors[site.node.inputs[0]].shape
    out_h, out_w, _ = site.ig.tensors[site.node.name].shape
    fields: dict[str, int | str] = {"in_h": h, "in_w": w, "channels": c, "out_h": out_h, "out_w": out_w}
    return _with_params(site, "tn_resize_params", fields, site.inputs[0], site.output)


def _softmax(site: Site) -> Call:
    shape = site.ig.tensors[site.node.name].shape
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "diff_min": int(site.node.attrs["diff_min"]),
        "rows": int(np.prod(shape[:-1])),
        "depth": shape[-1],
        "shift": int(site.node.attrs["shift"]),
    }
    return _with_params(site, "tn_softmax_params", fields, site.inputs[0], site.output)


SPELLERS: Mapping[str, Callable[[Site], Call]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "dense": _dense,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    "lut": _lut,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "requantize": _requantize,
    "resize_nearest": _resize,
    "softmax": _softmax,
}
