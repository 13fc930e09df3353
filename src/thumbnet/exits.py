"""`export`: a finished run's network, or a compiled model's, as what other software reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from thumbnet import compiled
from thumbnet.compiler import compile_model, optimized
from thumbnet.data import Preprocessing
from thumbnet.errors import RunError, ThumbnetError, UnsupportedOpError, UsageError
from thumbnet.exporters import ethos_u, owned
from thumbnet.exporters.c import check_layout, lay_out, write_firmware
from thumbnet.exporters.onnx_float import to_onnx
from thumbnet.exporters.onnx_qdq import to_qdq
from thumbnet.exporters.tflite import to_tflite
from thumbnet.exporters.tflite_arm_nn import for_arm_nn
from thumbnet.exporters.torch_module import to_torch
from thumbnet.files import read_json
from thumbnet.graph.graph import Graph
from thumbnet.importers.quantized_models import load_integer_graph, load_quantized
from thumbnet.integer.graph import IntegerGraph
from thumbnet.kept import load_float_graph
from thumbnet.result import Result
from thumbnet.targets import load_target

Format = Literal["tflite", "onnx", "onnx-float", "c", "cmsis-nn", "torch", "ethos-u", "arm-nn"]
FORMATS: tuple[Format, ...] = get_args(Format)

FOLDER = "exports"  # in the run's directory: where exports go that are not told where to
_NAMES: Mapping[Format, str] = {  # below `FOLDER`; those without a suffix are folders
    "tflite": "model.tflite",
    "onnx": "model.onnx",
    "onnx-float": "model_float.onnx",
    "c": "c",
    "cmsis-nn": "cmsis-nn",
    "torch": "torch",
    "ethos-u": "ethos-u",
    "arm-nn": "model_arm_nn.tflite",
}


@dataclass(frozen=True, eq=False)
class Exported:
    """Where it went, sentences on what users of it must know, and figures where the other side gives some."""

    format: Format
    path: Path
    notes: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        return {"format": self.format, "path": str(self.path), "notes": list(self.notes), **self.figures}

    def lines(self) -> list[str]:
        """For the terminal."""
        return [*(f"Note: {note}" for note in self.notes), f"{self.format}: {self.path}"]


@dataclass(frozen=True, eq=False)
class _Request:
    """What is exported, from where (a directory, or one file), and where to."""

    source: Path
    out: Path
    layout: str
    accelerator: str
    cmsis_nn: str | Path | None

    @property
    def is_run(self) -> bool:
        return (self.source / "result.json").is_file() and (self.source / "integer.json").is_file()

    @property
    def is_compiled(self) -> bool:
        return compiled.is_compiled(self.source)

    def integer(self) -> IntegerGraph:
        """The integer network: the run's, or the compiled one with its outputs apart where the original is kept."""
        if self.is_compiled and (self.source / compiled.ORIGINAL).is_file():
            options = compiled.read_options(self.source)
            softmax: Any = "drop" if options.get("softmax") == "drop" else "keep"
            return optimized(load_quantized(self.source).graph, softmax, options.get("lossless") is not False)
        if self.source.is_dir():
            return load_integer_graph(self.source / "integer.json")
        return load_quantized(self.source).graph

    def floating(self) -> Graph:
        """The float network that the run's integer network was lowered from."""
        if not self.is_run:
            raise UsageError(
                f"{self.source} holds no float network: it was compiled from a quantized model.",
                "Export one of tflite, onnx, c, cmsis-nn, ethos-u; or the float network that you quantized.",
            )
        return load_float_graph(self.source)


def export(
    run: str | Path | Result,
    format: str,
    out: str | Path | None = None,
    *,
    layout: str = "cmake",
    accelerator: str = ethos_u.DEFAULT,
    cmsis_nn: str | Path | None = None,
) -> Exported:
    """Writes the network of `run` as `format`: a file, or a folder for "c", "cmsis-nn", "torch" and "ethos-u".

    `run`: a result, the directory of a finished run or of a compiled firmware, or a quantized model's file. `out` is
    where it goes, by default into `exports` in that directory. `layout` is for "c" (as for `compile`), `accelerator`
    for "ethos-u", `cmsis_nn` (the library's folder, default $CMSIS_NN) for "cmsis-nn". "onnx-float" and "torch" take
    the float network, which only runs keep.

    Raises `UsageError` for an unknown format, for what a source does not have, and where `out` exists and was not
    written by Thumbnet; `RunError` for a directory that is neither; `UnsupportedOpError` where the format has no
    spelling for an operation; `ToolchainError` where an optional package is absent.
    """
    chosen = _checked(format)
    source = run.run_dir if isinstance(run, Result) else Path(run)
    if not source.exists():
        raise RunError(f"There is no {source}.", "Give the directory of a finished run or of a compiled firmware.")
    if out is None and not source.is_dir():
        raise UsageError("A single file has no place for its exports.", "Say with --out where it goes.")
    request = _Request(
        source, source / FOLDER / _NAMES[chosen] if out is None else Path(out), layout, accelerator, cmsis_nn
    )
    if source.is_dir() and not (request.is_run or request.is_compiled):
        raise RunError(
            f"{source} holds no finished run and no compiled firmware.",
            "Run 'thumbnet optimize' or 'thumbnet compile' first.",
        )
    made = _EXITS[chosen](request)
    return Exported(chosen, request.out, *made)


Made = tuple[tuple[str, ...], dict[str, Any]]
Rewrite = Callable[[IntegerGraph], IntegerGraph]


def _checked(format: str) -> Format:
    for known in FORMATS:
        if format == known:
            return known
    raise UsageError(f"There is no format '{format}'.", f"Choose one of {', '.join(FORMATS)}.")


# --- one function per format


def _tflite(r: _Request) -> Made:
    model, notes = _tflite_model(r)
    owned.write_file(r.out, model)
    return notes, {"bytes": len(model)}


def _arm_nn(r: _Request) -> Made:
    model, notes = _tflite_model(r, for_arm_nn)
    owned.write_file(r.out, model)
    return notes, {"bytes": len(model)}


def _tflite_model(r: _Request, rewrite: Rewrite = lambda graph: graph) -> tuple[bytes, tuple[str, ...]]:
    """The file; of a compiled model as it came where what lossless passes have made of it has no spelling."""
    graph = r.integer()
    try:
        return to_tflite(rewrite(graph)), ()
    except UnsupportedOpError:
        if not r.is_compiled or not (r.source / compiled.ORIGINAL).is_file():
            raise
    note = "What the lossless passes have made has no TFLite spelling; this is the original's network."
    return to_tflite(rewrite(load_quantized(r.source).graph)), (note,)


def _onnx(r: _Request) -> Made:
    model = to_qdq(r.integer())
    owned.write_file(r.out, model)
    note = "Images are [N, channels, height, width], in and out are floats in the model's real units."
    return (note, *_units(r)), {"bytes": len(model)}


def _onnx_float(r: _Request) -> Made:
    model = to_onnx(r.floating())
    owned.write_file(r.out, model)
    return _units(r), {"bytes": len(model)}


def _torch(r: _Request) -> Made:
    owned.write_folder(r.out, "torch", to_torch(r.floating()).files())
    return _units(r), {}


def _ethos_u(r: _Request) -> Made:
    model, notes = _tflite_model(r)
    owned.may_write(r.out)  # before minutes are spent
    made = ethos_u.compile_for_ethos_u(model, r.accelerator)
    summary = (json.dumps(made.json(), indent=1) + "\n").encode()
    owned.write_folder(r.out, "ethos-u", {"model_vela.tflite": made.model, "summary.json": summary})
    return (*notes, *made.lines()), made.json()


def _c(r: _Request) -> Made:
    """A run's firmware, the same sources in the layout that is asked for; a compiled model is compiled again."""
    layout = check_layout(r.layout)
    if not r.is_run:
        return _compiled(r, "thumbnet")
    texts = _texts(r.source / "firmware")
    facts = read_json(r.source / "result.json")
    target = load_target(str(facts["target"]))
    files = lay_out(texts, layout, name=str(facts["model"]), target=target)
    owned.may_write(r.out)
    owned.forget(r.out)
    write_firmware(r.out, files)
    owned.record(r.out, "c", list(files))
    return (), {"layout": layout}


def _cmsis_nn(r: _Request) -> Made:
    if r.layout != "cmake":
        raise UsageError(f"The layout '{r.layout}' has no place for CMSIS-NN.", "Leave out --layout, or export c.")
    notes, figures = _compiled(r, "cmsis-nn")
    own = ("Preprocessing is not part of it; take it from the run's firmware folder.",) if r.is_run else ()
    return (*own, *notes), figures


def _compiled(r: _Request, kernels: Literal["thumbnet", "cmsis-nn"]) -> Made:
    if not r.source.is_dir():
        raise UsageError("A model file as C is what 'thumbnet compile' makes.", "Use that instead.")
    options: dict[str, Any] = {}
    model: Any = r.source
    if r.is_compiled:
        found, name = load_quantized(r.source), compiled.read_name(r.source)
        model = replace(found, name=name, graph=replace(found.graph, name=name))
        kept, target = compiled.read_options(r.source), compiled.read_target(r.source)
        options = {k: kept[k] for k in ("softmax", "lossless") if k in kept}
        options |= {"ram": kept["ram"]} if kernels == "thumbnet" and kept.get("ram") else {}
        board: str | Path = r.source / compiled.BOARD if (r.source / compiled.BOARD).is_file() else target.name
    else:
        board = str(read_json(r.source / "result.json")["target"])
    layout: Any = r.layout
    made = compile_model(model, board, r.out, layout=layout, kernels=kernels, cmsis_nn=r.cmsis_nn, **options)
    return (made.note,) if made.note else (), made.json()


_EXITS: Mapping[Format, Callable[[_Request], Made]] = {
    "tflite": _tflite,
    "onnx": _onnx,
    "onnx-float": _onnx_float,
    "c": _c,
    "cmsis-nn": _cmsis_nn,
    "torch": _torch,
    "ethos-u": _ethos_u,
    "arm-nn": _arm_nn,
}


def _units(r: _Request) -> tuple[str, ...]:
    """How a run's pixels become the numbers that the network takes."""
    try:
        facts = read_json(r.source / "run.json")["preprocessing"]
        given = Preprocessing(tuple(facts["size"]), facts["channels"], tuple(facts["mean"]), tuple(facts["std"]))
    except (ThumbnetError, KeyError, TypeError, ValueError, NotADirectoryError):
        return ()
    if facts.get("value_range") is not None:
        return ("It takes arrays as the data set has them, without any scaling.",)
    network = r.integer()
    *size, channels = network.tensors[network.inputs[0]].shape
    used = given.at((channels, *size)) if size else given
    mean, std = (", ".join(f"{float(v):.6g}" for v in values) for values in (used.mean, used.std))
    pixel = "the luma (ITU-R BT.601) of a pixel" if used.grey else "pixel"
    return (f"It takes ({pixel} / 255 − mean) / std with mean {mean} and std {std}.",)


def _texts(folder: Path) -> dict[str, str]:
    """A run's sources; what a build left beside them stays there."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    named = {p.relative_to(folder).as_posix(): p for p in paths}
    found = {n: p.read_text(encoding="utf-8") for n, p in named.items() if not n.startswith("build/")}
    if "model.h" not in found:
        raise RunError(f"{folder} holds no firmware.", "Run 'thumbnet optimize' again with the same arguments.")
    return found
