"""Calls of the operations that move bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from thumbnet.cost.blocks import copies_of
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.site import Call, Site, with_params
from thumbnet.integer.moves import STRIDED, copies, mirrored, pad_channels, pad_value
from thumbnet.integer.resize import nearest, step


def _copies(site: Site) -> Call:
    """A concat or a slice; what is already in its place is not copied."""
    address = dict(zip(site.node.inputs, site.inputs, strict=True))
    statements = []
    for v, c in copies_of(site.node, site.ig):
        source, place = _moved(address[v], c.source_start), _moved(site.output, c.start)
        if source != place or c.count > 1:
            numbers = f"{c.count}, {c.size}, {c.source_step}, {c.step}"
            statements.append(f"tn_copy_blocks({source}, {place}, {numbers});")
    return Call((), tuple(statements))


def _moved(address: str, by: int) -> str:
    """The address so many bytes behind another one."""
    base, _, offset = address.partition(" + ")
    total = int(offset or 0) + by
    return f"{base} + {total}" if total else base


def _pad(site: Site) -> Call:
    h, w, c = site.ig.tensors[site.node.inputs[0]].shape
    top, left, bottom, right = (int(p) for p in site.node.attrs["padding"])
    front, back = pad_channels(site.node)
    fields: dict[str, int | str] = {"in_h": h, "in_w": w, "channels": c, "front": front, "back": back}
    fields |= {"top": top, "left": left, "bottom": bottom, "right": right}
    fields["value"] = pad_value(site.node, site.ig.tensors[site.node.name])
    return with_params(site, "tn_pad_params", fields, site.inputs[0], site.output)


def _mirror_pad(site: Site) -> Call:
    return _take(site, *mirrored(site.node, site.ig.tensors[site.node.inputs[0]].shape))


def _strided(site: Site) -> Call:
    loops = copies(site.node, site.ig.tensors[site.node.inputs[0]].shape, site.ig.tensors[site.node.name].shape)
    outer = 4 - len(loops.sizes)
    fields: dict[str, int | str] = {"start": loops.start, "run": loops.run}
    for i in range(4):
        fields[f"size[{i}]"] = loops.sizes[i - outer] if i >= outer else 1
        fields[f"step[{i}]"] = loops.steps[i - outer] if i >= outer else 0
    return with_params(site, "tn_move_params", fields, site.inputs[0], site.output)


def _image(site: Site) -> dict[str, int | str]:
    h, w, c = site.ig.tensors[site.node.inputs[0]].shape
    out_h, out_w, _ = site.ig.tensors[site.node.name].shape
    return {"in_h": h, "in_w": w, "channels": c, "out_h": out_h, "out_w": out_w}


def _resize_nearest(site: Site) -> Call:
    fields = _image(site)
    if site.kernel.function == "tn_take":
        sizes = ((fields["in_h"], fields["out_h"]), (fields["in_w"], fields["out_w"]))
        return _take(site, *(nearest(site.node.attrs, int(n), int(m)) for n, m in sizes))
    return with_params(site, "tn_resize_params", fields, site.inputs[0], site.output)


def _take(site: Site, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> Call:
    """Every output pixel is one input pixel, by tables of rows and columns."""
    fields = {k: v for k, v in _image(site).items() if k != "in_h"}
    tables = {"rows": rows, "columns": columns}
    fields |= {k: f"{site.name}_{k}" for k in tables}
    made = with_params(site, "tn_take_params", fields, site.inputs[0], site.output)
    arrays = (spell.array(f"{site.name}_{k}", v.astype(np.uint16)) for k, v in tables.items())
    return Call((*arrays, *made.constants), made.statements)


def _resize_bilinear(site: Site) -> Call:
    fields = _image(site)
    for side in "hw":
        start, stride = step(site.node.attrs, int(fields[f"in_{side}"]), int(fields[f"out_{side}"]))
        fields |= {f"start_{side}": start, f"step_{side}": stride}
    return with_params(site, "tn_resize_bilinear_params", fields, site.inputs[0], site.output)


MOVES: Mapping[str, Callable[[Site], Call]] = {
    "concat": _copies,
    "slice": _copies,
    "pad": _pad,
    "mirror_pad": _mirror_pad,
    **dict.fromkeys(STRIDED, _strided),
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
}
