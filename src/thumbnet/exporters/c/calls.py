"""One function per operation: the constants a node needs in C, and the statement that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from thumbnet.cost.kernel import window_of
from thumbnet.cost.kernels import spill_offset
from thumbnet.cost.transposed import phases
from thumbnet.exporters.c import calls_cmsis_nn, calls_dsp, calls_mve, calls_v7m, spell
from thumbnet.exporters.c.calls_moves import MOVES
from thumbnet.exporters.c.calls_pairs import PAIRS
from thumbnet.exporters.c.packing import pack_halves
from thumbnet.exporters.c.site import Call, Definitions, Site, channel_constants, folded_bias, with_params
from thumbnet.integer.reductions import EXTREMES, SUMS, blocks
from thumbnet.targets.target import Isa


def call(site: Site) -> Call:
    """Constants and statements of the node; none where nothing is computed."""
    if not site.kernel.function:
        return Call((), ())
    speller = calls_cmsis_nn.SPELLERS.get(site.kernel.function) or _FAMILIES[site.kernel.family][site.node.op]
    made = speller(site)
    if not site.kernel.clamp:
        return made
    low, high = site.node.clamp
    return Call(made.constants, (*made.statements, f"{site.kernel.clamp}({site.output}, {site.size}, {low}, {high});"))


def convolution_constants(site: Site) -> Definitions:
    """Definitions of everything that a convolution's `tn_conv2d_params`, called `site.name`, needs, and the struct."""
    definitions, address = _CONVOLUTIONS[site.kernel.family](site)
    groups = int(site.node.attrs.get("groups", 1))
    fields: dict[str, int | str] = {"constants": address, "groups": groups, "strip": site.kernel.strip}
    return (*definitions, spell.struct("tn_conv2d_params", site.name, {**fields, **_geometry(site), **site.clamp}))


def _geometry(site: Site) -> dict[str, int | str]:
    """Fields of tn_conv2d_params: shapes, window and zero points."""
    w = window_of(site.node, site.ig)
    fields: dict[str, int | str] = {"in_h": w.in_h, "in_w": w.in_w, "in_c": w.in_c}
    fields |= {"out_h": w.out_h, "out_w": w.out_w, "out_c": w.out_c}
    fields |= {"kernel_h": w.kernel[0], "kernel_w": w.kernel[1], "stride_h": w.stride[0], "stride_w": w.stride[1]}
    fields |= {"dilation_h": w.dilation[0], "dilation_w": w.dilation[1]}
    fields |= {"pad_top": w.padding[0], "pad_left": w.padding[1]}
    return fields | {"in_zero_point": site.zero_point(0), "out_zero_point": site.out_zero_point}


def _convolution(site: Site) -> Call:
    statement = f"{site.kernel.called}(&{site.name}, {site.inputs[0]}, {site.output}, {site.scratch});"
    return Call(convolution_constants(site), (statement,))


def _conv_transpose2d(site: Site) -> Call:
    """A convolution for each phase, and the table of them."""
    made = phases(site.node, site.ig)
    definitions: list[str] = []
    entries: list[str] = []
    for i, (phase, kernel) in enumerate(zip(made.all, site.kernel.parts, strict=True)):
        name = f"{site.name}_phase{i}"
        own = Site(phase.node, phase.ig, kernel, name, site.inputs, site.output, site.scratch)
        definitions += convolution_constants(own)
        clamp = kernel.clamp or "NULL"
        entries.append(f"{{.run = {kernel.function}, .clamp = {clamp}, .params = &{name}, .first = {phase.first}}}")
    table = f"static const tn_phase {site.name}_phases[{len(entries)}] = {{\n{spell.wrapped(entries)}\n}};\n"
    fields: dict[str, int | str] = {"phases": f"{site.name}_phases", "row": made.row_bytes}
    fields |= {"spill": spill_offset(site.kernel.parts), "count": len(entries)}
    fields["out_h"] = site.ig.tensors[site.node.name].shape[0]
    call = with_params(site, "tn_conv_transpose2d_params", fields, site.inputs[0], site.output, site.scratch)
    return Call((*definitions, table, *call.constants), call.statements)


def _dense(site: Site) -> Call:
    weight, four_bits = site.node.arrays["weight"].astype(np.int8), site.node.weight_bits == 4
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "weight": pack_halves(weight[None]) if four_bits else weight,
        "bias": folded_bias(site.node, site.zero_point(0)),
    }
    fields: dict[str, int | str] = {
        "in_c": weight.shape[1],
        "out_c": weight.shape[0],
        "multiplier": int(site.node.arrays["multiplier"][0]),
        **{key: f"{site.name}_{key}" for key in arrays},
        "shift": int(site.node.arrays["shift"][0]),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    kind = "tn_dense_int4_params" if four_bits else "tn_dense_params"
    params = with_params(site, kind, fields, site.inputs[0], site.output)
    return Call(
        (*(spell.array(f"{site.name}_{k}", v) for k, v in arrays.items()), *params.constants), params.statements
    )


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
    return with_params(site, "tn_pool_params", fields, site.inputs[0], site.output)


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
    return with_params(site, "tn_global_avg_pool_params", fields, site.inputs[0], site.output)


def _blocks(site: Site) -> dict[str, int | str]:
    """Fields of tn_blocks."""
    found = blocks(site.node.attrs["axes"], site.ig.tensors[site.node.inputs[0]].shape)
    assert found is not None  # or the node would not be valid
    return dict(zip(("outer", "count", "inner"), found, strict=True))


def _reduce_sum(site: Site) -> Call:
    own = _blocks(site)
    fields: dict[str, int | str] = {
        **{f"blocks.{k}": v for k, v in own.items()},
        "multiplier": int(site.node.attrs["multiplier"]),
        "offset": -int(own["count"]) * site.zero_point(0),
        "shift": int(site.node.attrs["shift"]),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return with_params(site, "tn_reduce_sum_params", fields, site.inputs[0], site.output)


def _reduce_extreme(site: Site) -> Call:
    return with_params(site, "tn_blocks", _blocks(site), site.inputs[0], site.output)


def _lut(site: Site) -> Call:
    table = spell.array(f"{site.name}_table", site.node.arrays["table"].astype(np.int8))
    return Call(
        (table,), (f"{site.kernel.function}({site.name}_table, {site.size}, {site.inputs[0]}, {site.output});",)
    )


def _requantize(site: Site) -> Call:
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "size": site.size,
        "shift": int(site.node.attrs["shift"]),
        "in_zero_point": site.zero_point(0),
        "out_zero_point": site.out_zero_point,
        **site.clamp,
    }
    return with_params(site, "tn_requantize_params", fields, site.inputs[0], site.output)


def _softmax(site: Site) -> Call:
    shape = site.ig.tensors[site.node.name].shape
    fields: dict[str, int | str] = {
        "multiplier": int(site.node.attrs["multiplier"]),
        "diff_min": int(site.node.attrs["diff_min"]),
        "rows": int(np.prod(shape[:-1])),
        "depth": shape[-1],
        "shift": int(site.node.attrs["shift"]),
    }
    return with_params(site, "tn_softmax_params", fields, site.inputs[0], site.output)


SPELLERS: Mapping[str, Callable[[Site], Call]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv_transpose2d": _conv_transpose2d,
    "dense": _dense,
    **PAIRS,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    **dict.fromkeys(SUMS, _reduce_sum),
    **dict.fromkeys(EXTREMES, _reduce_extreme),
    "lut": _lut,
    "requantize": _requantize,
    "softmax": _softmax,
    **MOVES,
}

# A family's own spelling comes before the generic one.
_FAMILIES: Mapping[Isa, Mapping[str, Callable[[Site], Call]]] = {
    "generic": SPELLERS,
    "v7m": {**SPELLERS, **calls_v7m.SPELLERS},
    "dsp": {**SPELLERS, **calls_dsp.SPELLERS},
    "mve": {**SPELLERS, **calls_mve.SPELLERS},
}

# What `constants` of tn_conv2d_params points to, and its address.
_CONVOLUTIONS: Mapping[Isa, Callable[[Site], tuple[Definitions, str]]] = {
    "generic": lambda site: channel_constants(
        site, folded_bias(site.node, site.zero_point(0)), site.node.arrays["shift"].astype(np.int8)
    ),
    "v7m": calls_v7m.convolution,
    "dsp": calls_dsp.convolution,
    "mve": calls_mve.convolution,
}
