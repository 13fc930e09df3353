"""The integer graph as C: a folder that a firmware engineer can keep.

`emit` returns the files by relative path; `write_firmware` puts them on disk. Equal graphs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from thumbnet.cost.memory import offsets, plan_arena
from thumbnet.cost.plan import ArenaPlan
from thumbnet.cost.schedule import Unit, schedule
from thumbnet.errors import ModelError
from thumbnet.exporters.c import spell
from thumbnet.exporters.c.comments import arena_map
from thumbnet.exporters.c.layers import layers
from thumbnet.files import write_text_atomic
from thumbnet.integer.graph import IntegerGraph, QTensor
from thumbnet.targets.target import Isa, Target
from thumbnet.version import __version__


def emit(
    ig: IntegerGraph,
    target: Target,
    *,
    plan: ArenaPlan | None = None,
    units: tuple[Unit, ...] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    test_vector: tuple[bytes, bytes] | None = None,
    parts: Sequence[QTensor] = (),
    feeds: Sequence[QTensor] = (),
    stack_bytes: int | None = None,
) -> dict[str, str]:
    """The firmware's files, relative path to text.

    `plan` and `units` default to `plan_arena` and `schedule`; a plan must have been made for the units.
    `preprocessing` may hold `size` (height, width), `channels`, `mean`, `std`, `table` (per channel the stored int8
    value of each of 256 pixel values) and `classes`. `notes` are sentences for `model.h`. `test_vector` is one input
    and its output, as int8 bytes. `parts` are the tensors of which the output is made, where `join_outputs` has made it
    of several; `feeds` those of the input, where `join_inputs` has. `stack_bytes` is the estimated depth of the stack;
    model.h states a bound (None: nothing).
    Raises `ModelError` unless the graph has one input and one output, and where the test vector does not fit it;
    `UnsupportedOpError` for an operation without a kernel.
    """
    if len(ig.inputs) != 1 or len(ig.outputs) != 1:
        raise ModelError(f"'{ig.name}' has {len(ig.inputs)} inputs and {len(ig.outputs)} outputs; C takes one of each.")
    units = schedule(ig, target.core.isa) if units is None else units
    plan = plan_arena(ig, target.core.isa, units) if plan is None else plan
    sources = sorted({source for unit in units for source in unit.sources})
    values = {
        **_interface(ig, target, plan, preprocessing or {}, parts, feeds),
        "notes": [spell.comment(note) for note in notes],
        "layers": layers(ig, plan, units),
        "arena": arena_map(ig, plan),
        "stack_bytes": None if stack_bytes is None else stack_bound(stack_bytes, target.core.isa, plan),
        "sources": [_flat(s) for s in sources if not s.endswith(".h")],
        "headers": _headers(sources),
        "cmsis_nn": any(s.startswith("cmsis_nn/") for s in sources),
        "assembly": any(s.endswith(".S") for s in sources),
        "test_vector": test_vector is not None,
    }
    names = ["model.h", "model.c", "main.c", "CMakeLists.txt", "README.txt"]
    out = {name: template(f"{name}.j2").render(values) for name in names}
    if test_vector is not None:
        out["test_vector.h"] = _test_vector(ig, *test_vector)
    return out | _kernel_files(sources)


def stack_bound(estimated: int, isa: Isa, plan: ArenaPlan) -> int:
    """Bytes that suffice with gcc and clang, -O2 and -Os, in 32s: their frames differ by up to 60, and by up to 240
    where they use vector registers in the generic kernels. `model_invoke` may keep every address that recurs."""
    addresses = len({b.offset for b in plan.buffers})
    return -(-(estimated + (256 if isa == "mve" else 64) + 4 * addresses) // 32) * 32


def write_firmware(folder: Path, content: Mapping[str, str]) -> None:
    """Writes each file whole or not at all; `model.c`, which names all others, comes last.

    Raises `ThumbnetError` where the folder cannot be written.
    """
    for name in sorted(content, key=lambda n: (n == "model.c", n)):
        write_text_atomic(folder / name, content[name])


def _flat(source: str) -> str:
    """`dsp/conv2d.c` becomes `kernels/conv2d_dsp.c`; generic ones keep their name."""
    isa, name = source.split("/")
    stem, suffix = name.rsplit(".", 1)
    return f"kernels/{name}" if isa == "generic" or suffix == "h" else f"kernels/{stem}_{isa}.{suffix}"


def _headers(sources: list[str]) -> list[str]:
    """What model.c includes from `kernels`."""
    families = {s.split("/")[0] for s in sources}
    ours = [f"tn_kernels_{family}.h" for family in ("v7m", "dsp", "mve") if family in families] or ["tn_kernels.h"]
    return [*ours, *(["tn_cmsis_nn.h"] if "cmsis_nn" in families else [])]


def _kernel_files(sources: list[str]) -> dict[str, str]:
    return {_flat(s): _kernel_text(s) for s in ("generic/tn_kernels.h", *sources)}


def kernel_folder() -> Traversable:
    """Where the kernels' sources are: `generic/` and one folder per instruction set."""
    return files("thumbnet.exporters.c") / "kernels"


@lru_cache(maxsize=64)
def _kernel_text(source: str) -> str:
    return (kernel_folder() / source).read_text(encoding="utf-8")


@lru_cache(maxsize=16)
def template(name: str) -> jinja2.Template:
    """A file of the folder `templates`."""
    text = (files("thumbnet.exporters.c") / "templates" / name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text)


def _interface(
    ig: IntegerGraph,
    target: Target,
    plan: ArenaPlan,
    preprocessing: Mapping[str, Any],
    parts: Sequence[QTensor],
    feeds: Sequence[QTensor],
) -> dict[str, object]:
    place = offsets(ig, plan)
    source, result = ig.tensors[ig.inputs[0]], ig.tensors[ig.outputs[0]]
    return {
        "name": spell.comment(ig.name),
        "version": __version__,
        "digest": ig.digest,
        "target": spell.comment(f"{target.title} ({target.core.name})"),
        "arena_bytes": max(plan.arena_bytes, 1),
        "input": _tensor(source.shape, source.scale, source.zero_point, place[source.name]),
        "output": _tensor(result.shape, result.scale, result.zero_point, place[result.name]),
        "parts": _parts(parts) if len(parts) > 1 else [],
        "feeds": _parts(feeds) if len(feeds) > 1 else [],
        **_contract(preprocessing),
    }


def _parts(parts: Sequence[QTensor]) -> list[dict[str, object]]:
    """Tensors that stand one after the other, each with its offset."""
    ends = np.cumsum([0, *(t.bytes for t in parts)]).tolist()
    return [
        {**_tensor(t.shape, t.scale, t.zero_point, at), "name": spell.comment(t.name)}
        for t, at in zip(parts, ends, strict=False)
    ]


def _tensor(shape: tuple[int, ...], scale: float, zero_point: int, offset: int) -> dict[str, object]:
    return {
        "shape": shape,
        "bytes": int(np.prod(shape)),
        "scale": f"{np.float32(scale):.9g}f" if float(scale) != int(scale) else f"{float(scale):.1f}f",
        "zero_point": zero_point,
        "offset": offset,
    }


def _contract(preprocessing: Mapping[str, Any]) -> dict[str, object]:
    """What `model.h` says about inputs and classes."""
    table = preprocessing.get("table")
    identity = table is not None and all(list(row) == list(range(-128, 128)) for row in table)
    rows = [] if table is None or identity else [spell.columns([str(int(v)) for v in row], " " * 8) for row in table]
    facts = [
        f"{key}: {spell.comment(str(preprocessing[key]))}"
        for key in ("size", "channels", "mean", "std")
        if key in preprocessing
    ]
    if preprocessing.get("grey"):
        facts.append("of colour images: grey = (19595 R + 38470 G + 7471 B + 32768) >> 16, each 0..255")
    classes = [str(c) for c in preprocessing.get("classes", ())]
    return {
        "facts": facts,
        "identity": identity,
        "table": rows,
        "classes": [spell.quoted(c) for c in classes],
    }


def _test_vector(ig: IntegerGraph, source: bytes, result: bytes) -> str:
    for what, data, name in (("input", source, ig.inputs[0]), ("output", result, ig.outputs[0])):
        if len(data) != ig.tensors[name].bytes:
            raise ModelError(f"The test vector's {what} has {len(data)} bytes, not {ig.tensors[name].bytes}.")
    arrays = "\n".join(
        spell.array(name, np.frombuffer(data, np.int8))
        for name, data in (("test_vector_input", source), ("test_vector_output", result))
    )
    return (
        "/* An input and the output that the firmware must give for it, byte for byte. */\n"
        f"#ifndef TEST_VECTOR_H\n#define TEST_VECTOR_H\n\n#include <stdint.h>\n\n{arrays}\n#endif\n"
    )
