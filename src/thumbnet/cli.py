"""The command line: arguments in, calls of the API, errors as one sentence and an exit code."""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from thumbnet.errors import DataError, InfeasibleError, ModelError, ThumbnetError, UsageError
from thumbnet.files import write_json_atomic
from thumbnet.version import __version__

if TYPE_CHECKING:
    from thumbnet.importers.report import NodeReport  # which would import torch

BUG, INTERRUPTED = 70, 130  # exit codes beside those of the errors
_MAX_CELL = 300  # characters; names in files may be longer

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)

RunDir = Annotated[Path, typer.Argument(help="Directory of a finished run.", metavar="RUN")]
Proven = Annotated[Path, typer.Argument(help="Directory of a finished run or of a compiled firmware.", metavar="DIR")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]
CmsisNN = Annotated[Path | None, typer.Option(help="Folder of CMSIS-NN; default: $CMSIS_NN.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same data and model: same firmware.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def main() -> None:
    """Entry point. Exit codes: 0 done, 2 usage, 70 a bug, 130 interrupted, others as in `thumbnet.errors`."""
    try:
        with _interruptible():  # imports, too, take seconds
            app()
    except ThumbnetError as e:
        _fail(f"Error: {e}", e.exit_code)
    except MemoryError:
        _fail("Error: Not enough memory. Use fewer or smaller images, or a machine with more.", 1)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            _bug()
        _fail(f"Error: The disk is full{f' ({e.filename})' if e.filename else ''}. Free some space and run again.", 1)
    except Exception:
        _bug()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Says on Ctrl-C what is left and how to go on; stands inside of typer, which would leave without a word."""
    try:
        yield
    except KeyboardInterrupt as e:
        from thumbnet.runs import command

        kept = " ".join(getattr(e, "__notes__", []))
        _fail(f"\nStopped. {kept + ' ' if kept else ''}To go on from there: {command()}", INTERRUPTED)


def _bug() -> None:
    traceback.print_exc()
    _fail(f"This is a bug in thumbnet {__version__}; please report it with the text above.", BUG)


def _fail(text: str, code: int) -> None:
    print(_printable(text), file=sys.stderr)
    raise SystemExit(code)


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Thumbnet: own network in, verified int8 firmware for Arm Cortex-M out."""
    if version:
        print(f"thumbnet {__version__}")
        raise typer.Exit


@app.command()
def optimize(
    model: Annotated[
        str,
        typer.Argument(
            help="A .pt2, .onnx, .tflite, .keras or .h5 file, a SavedModel, or package.module:factory (see --weights)."
        ),
    ],
    data: Annotated[str, typer.Argument(help="A folder (of class folders, say), or an .npz of arrays.")],
    target: Annotated[str, typer.Option(help="Board or core; see 'thumbnet targets'.")] = "nrf52840",
    flash: Annotated[str | None, typer.Option(help="Flash limit, such as 256KB (1 KB = 1024 bytes).")] = None,
    ram: Annotated[str | None, typer.Option(help="RAM limit.")] = None,
    latency: Annotated[float | None, typer.Option(help="Latency limit in milliseconds.")] = None,
    cycles: Annotated[int | None, typer.Option(help="Limit of the core's cycles.")] = None,
    macs: Annotated[int | None, typer.Option(help="Limit of multiply-accumulates.")] = None,
    energy: Annotated[float | None, typer.Option(help="Energy limit in millijoules, estimated.")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="How much the metric may get worse: points of accuracy, or its own unit.")
    ] = None,
    metric_limit: Annotated[
        float | None, typer.Option(help="The worst metric allowed: least accuracy in percent, or largest error.")
    ] = None,
    front: Annotated[
        bool | None,
        typer.Option("--front/--no-front", help="Networks of several sizes; default: where no cost is limited."),
    ] = None,
    effort: Annotated[str, typer.Option(help="quick, standard or thorough.")] = "standard",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Networks trained at once; by default one for each core.")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="How long all of it may take, such as 30min or 2h: as many steps as fit.")
    ] = None,
    seed: Seed = 0,
    run_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    input_size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, where the model does not tell.")] = None,
    mean: Annotated[str | None, typer.Option(help="Input mean for pixels in 0..1: one value or R,G,B.")] = None,
    std: Annotated[str | None, typer.Option(help="Input standard deviation, likewise.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights for a factory: safetensors or state dict.")] = None,
    augment: Annotated[
        str | None,
        typer.Option(help="How training images may vary: none, light, upright, photo (classes' default) or surface."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="classification, multi-label, regression, segmentation, anomaly, custom; default: the data tells"
        ),
    ] = None,
    loss: Annotated[str | None, typer.Option(help="A loss of your own: package.module:function.")] = None,
    metric: Annotated[str | None, typer.Option(help="A metric of your own: package.module:function.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start over in --run-dir, whatever job it was of.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find a network that fits, and build its verified firmware."""
    from thumbnet.durations import parse_duration
    from thumbnet.results import check_task_name
    from thumbnet.targets import limits_on, load_target

    asked = {"flash": flash, "ram": ram, "latency_ms": latency, "cycles": cycles, "macs": macs, "energy_mj": energy}
    limits: dict[str, Any] = {**asked, "max_drop": max_drop, "metric_limit": metric_limit}
    limits_on(load_target(target), **limits)  # cheap checks before anything is read or imported
    if task is not None:
        check_task_name(task)
    if time_limit is not None:
        parse_duration(time_limit)
    shape, means, stds = _size(input_size), _floats("--mean", mean), _floats("--std", std)
    if force and run_dir is None:
        raise UsageError("--force needs --run-dir.", "Say which run directory starts over.")
    if not Path(data).exists():
        raise DataError(f"The data '{data}' does not exist.", "Give a folder of class folders, or an .npz file.")
    if ":" not in model and not Path(model).exists():
        raise ModelError(f"There is no file {model}.", "A network in code is given as 'package.module:factory'.")
    _may_use(run_dir, force)
    with _interruptible():
        from thumbnet.story import optimize as run

        result = run(
            model,
            data,
            target,
            **limits,
            front=front,
            effort=effort,
            time_limit=time_limit,
            seed=seed,
            run_dir=run_dir,
            input_size=shape,
            mean=means,
            std=stds,
            weights=weights,
            augment=augment,
            task=task,
            loss=loss,
            metric=metric,
            workers=workers,
            progress=_progress(quiet),
        )
    _show(result)


@app.command()
def demo(
    run_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path("runs/demo"),
    seed: Seed = 0,
    effort: Annotated[str, typer.Option(help="quick, standard or thorough.")] = "quick",
    time_limit: Annotated[str | None, typer.Option(help="How long all of it may take, such as 5min.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start over, whatever is kept in --run-dir.")] = False,
    quiet: Quiet = False,
) -> None:
    """Solar-cell inspection on an nRF52840, from ImageNet weights to firmware, in minutes."""
    _may_use(run_dir, force)
    with _interruptible():
        from thumbnet.demo import run_demo
        from thumbnet.runs import locked

        with locked(run_dir):  # before the reference is trained
            result = run_demo(run_dir, seed, _progress(quiet), effort, time_limit)
    _show(result)


@app.command(name="compile")
def compile_(
    model: Annotated[str, typer.Argument(help="An int8 .tflite or QDQ .onnx file, or what Thumbnet saved.")],
    target: Annotated[str, typer.Option(help="Board or core; see 'thumbnet targets'.")] = "nrf52840",
    folder: Annotated[Path, typer.Option("--out", "-o", help="Where the firmware goes.")] = Path("firmware"),
    layout: Annotated[str, typer.Option(help="cmake, arduino, platformio or zephyr.")] = "cmake",
    softmax: Annotated[str, typer.Option(help="keep, or drop: leave a final softmax to the application.")] = "keep",
    lossless: Annotated[bool, typer.Option(help="Take away all that no output byte depends on.")] = True,
    kernels: Annotated[str, typer.Option(help="thumbnet, or cmsis-nn: calls of Arm's library.")] = "thumbnet",
    ram: Annotated[
        str | None,
        typer.Option(help="RAM limit, such as 32KB: as fast as it allows. Left out: as little RAM as possible."),
    ] = None,
    cmsis_nn: CmsisNN = None,
    inputs: Annotated[Path | None, typer.Option(help="Samples for the proof besides random ones: .npy.")] = None,
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """A quantized model as verified firmware; nothing is trained."""
    from thumbnet.targets import load_target

    load_target(target)  # cheap checks before anything is imported
    if not Path(model).exists():
        raise ModelError(f"There is no file {model}.", "Give an int8 .tflite or QDQ .onnx file.")
    if inputs is not None and not inputs.is_file():
        raise DataError(f"There is no file {inputs}.", "Write the samples with numpy.save.")
    if softmax not in ("keep", "drop"):
        raise UsageError(f"--softmax is keep or drop, not '{softmax}'.", "Leave it out to keep it.")
    if kernels not in ("thumbnet", "cmsis-nn"):
        raise UsageError(f"--kernels is thumbnet or cmsis-nn, not '{kernels}'.", "Leave it out for our own.")
    with _interruptible():
        from thumbnet.compiler import compile_model
        from thumbnet.exporters.c import check_layout

        made = compile_model(
            model,
            target,
            folder,
            layout=check_layout(layout),
            softmax="drop" if softmax == "drop" else "keep",
            lossless=lossless,
            kernels="cmsis-nn" if kernels == "cmsis-nn" else "thumbnet",
            ram=ram,
            cmsis_nn=cmsis_nn,
            inputs=inputs,
            json_file=json_file,
            progress=_progress(quiet),
        )
    for line in made.lines():
        out.print(line)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A model as for optimize.")],
    target: Annotated[str, typer.Option(help="Board or core; see 'thumbnet targets'.")] = "nrf52840",
    input_shape: Annotated[
        str | None,
        typer.Option(help="CHANNELS,HEIGHT,WIDTH, where the model does not tell; several inputs: 3,96,96 and 6."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights for a factory.")] = None,
    all_nodes: Annotated[bool, typer.Option("--all", help="List supported nodes, too.")] = False,
    json_file: Json = None,
) -> None:
    """What is supported of a model, what is not, and what to do, node by node."""
    shapes = _shapes(input_shape)
    with _interruptible():
        from thumbnet.checker import check as run

        checked = run(model, target, input_shape=shapes, weights=weights)
    if json_file:
        write_json_atomic(json_file, checked.json())
    listed = checked.listed(everything=all_nodes)
    if listed:
        out.print(_nodes(listed, states=all_nodes))
    for line in checked.lines():
        out.print(_printable(line))
    if not checked.ok:
        raise typer.Exit(ModelError.exit_code)


def _nodes(listed: Sequence[NodeReport], states: bool) -> Table:
    """Names in columns of bounded width, so that what to do stays readable on a narrow terminal."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Node", max_width=28, overflow="fold")
    table.add_column("Operation", max_width=20, overflow="fold")
    if states:
        table.add_column("State")
    table.add_column("What to do")
    for n in listed:
        cells = (n.name, n.op, *([n.state] if states else []), n.reason)
        table.add_row(*(_printable(c)[:_MAX_CELL] for c in cells))
    return table


def _printable(text: str) -> str:
    """Names come from files; none may move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A finished run, a compiled firmware, or a quantized model's file.")],
    format_: Annotated[
        str, typer.Option("--format", "-f", help="tflite, onnx, onnx-float, c, cmsis-nn, torch, ethos-u or arm-nn.")
    ],
    path: Annotated[
        Path | None, typer.Option("--out", "-o", help="File or folder; default: in 'exports' of that directory.")
    ] = None,
    layout: Annotated[str, typer.Option(help="For c: cmake, arduino, platformio or zephyr.")] = "cmake",
    accelerator: Annotated[str, typer.Option(help="For ethos-u: such as ethos-u55-256.")] = "ethos-u55-128",
    cmsis_nn: CmsisNN = None,
    json_file: Json = None,
) -> None:
    """The network as what other software reads; see docs/exports.md."""
    with _interruptible():
        from thumbnet.exits import export as run

        made = run(source, format_, path, layout=layout, accelerator=accelerator, cmsis_nn=cmsis_nn)
    if json_file:
        write_json_atomic(json_file, made.json())
    for line in made.lines():
        out.print(line)


@app.command()
def profile(
    model: Annotated[str, typer.Argument(help="A model as for optimize, or a run's directory.")],
    target: Annotated[str | None, typer.Option(help="Board or core.")] = None,
    input_size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH, where the model does not tell.")] = None,
    channels: Annotated[int, typer.Option(help="Input channels, with --input-size.")] = 3,
    weights: Annotated[Path | None, typer.Option(help="Weights for a factory.")] = None,
    json_file: Json = None,
) -> None:
    """What a network costs on a target, layer by layer."""
    from thumbnet.api import profile_fully

    size = _size(input_size)
    profiled = profile_fully(model, target, input_shape=None if size is None else (channels, *size), weights=weights)
    costs = profiled.costs
    if json_file:
        write_json_atomic(json_file, profiled.json())
    table = Table(title=f"{costs.kind}; 1 KB = 1024 bytes", title_justify="left")
    for name in ("Layer", "Operation", "Output"):
        table.add_column(name)
    for name in ("MACs", "Weights, B", "Bits", "Instructions", "Cycles", "Cycles/MAC"):
        table.add_column(name, justify="right")
    for layer in costs.layers:
        per_mac = f"{layer.cycles / layer.macs:.2f}" if layer.macs else ""
        shape = " × ".join(str(d) for d in layer.output_shape)
        bits = f"{layer.weight_bits or ''}"
        table.add_row(
            *(layer.name, layer.op, shape, f"{layer.macs:,}", f"{layer.weight_bytes:,}", bits),
            *(f"{layer.instructions:,}", f"{layer.cycles:,}", per_mac),
        )
    out.print(table)
    out.print(
        f"Flash {costs.flash_bytes / 1024:.1f} KB (code {costs.code_bytes / 1024:.1f}, weights "
        f"{costs.weight_bytes / 1024:.1f}), RAM {costs.ram_bytes / 1024:.1f} KB (arena {costs.arena_bytes / 1024:.1f}, "
        f"stack {costs.stack_bytes / 1024:.1f}), {costs.macs / 1e6:.2f} M MACs, {costs.cycles / 1e6:.2f} M cycles, "
        f"{costs.latency_ms:.1f} ms{'' if costs.energy_mj is None else f', {costs.energy_mj:.3f} mJ (estimated)'}"
    )
    out.print(f"Peak RAM: {profiled.peak}")
    if profiled.cascades:
        out.print(f"Cascades: {profiled.cascades}")


@app.command()
def verify(run_dir: Proven, cmsis_nn: CmsisNN = None, json_file: Json = None, quiet: Quiet = False) -> None:
    """Repeat the proof of a run or a compiled firmware: build, run on the emulated core, compare every byte."""
    with _interruptible():
        from thumbnet.api import verify_fully
        from thumbnet.compiler import must_hold

        proof, json_ = verify_fully(run_dir, cmsis_nn=cmsis_nn, progress=_progress(quiet))
    if json_file:
        write_json_atomic(json_file, json_)
    must_hold(proof, str(run_dir))
    out.print(f"Bit for bit equal on {proof.images} images, on {proof.emulator}.")


@app.command()
def report(run_dir: RunDir) -> None:
    """Write the report of a finished run again."""
    from thumbnet.report import write_report

    out.print(str(write_report(run_dir)))


@app.command()
def targets(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List boards and cores."""
    from thumbnet.targets import available_targets, load_target

    boards = [load_target(name) for name in available_targets()]
    if as_json:
        print(json.dumps([asdict(b) for b in boards], indent=1))
        return
    table = Table()
    for name in ("Name", "Board", "Core"):
        table.add_column(name)
    for name in ("Flash, KB", "RAM, KB", "Clock, MHz", "Active, mW"):
        table.add_column(name, justify="right")
    for b in boards:
        sizes = (f"{b.flash_bytes // 1024:,}", f"{b.ram_bytes // 1024:,}", f"{b.clock_hz / 1e6:g}")
        draws = "" if b.active_mw is None else f"{b.active_mw:.3g}"
        table.add_row(b.name, b.title, b.core.name, *sizes, draws)
    out.print(table)
    out.print("A target of your own: a TOML file, named by its path or kept in ./targets. See docs/targets.md.")


def _show(result: Any) -> None:
    out.print(result.table())
    if result.networks:
        out.print(result.front_table())
    out.print(f"Firmware: {result.firmware}")
    out.print(f"Report:   {result.report}")
    missed = result.missed()
    if missed:
        raise InfeasibleError(
            f"The best network found misses a limit: {missed}.",
            f"It is kept in {result.run_dir}, verified. Relax the limit, or raise --effort.",
        )


def _may_use(run_dir: Path | None, force: bool) -> None:
    """Tells at once where the run directory cannot be used, and makes it forget where asked to."""
    from thumbnet.runs import forget, locked

    if run_dir is not None and force:
        forget(run_dir)
    elif run_dir is not None and run_dir.exists():
        with locked(run_dir):
            pass


def _progress(quiet: bool) -> Any:
    from thumbnet.progress import Progress

    return Progress.quiet() if quiet else Progress.for_console()


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) == 2 and all(p.isascii() and p.isdigit() and 0 < int(p) <= 4096 for p in parts):
        return int(parts[0]), int(parts[1])
    raise UsageError(f"'{text}' is no input size.", "Write HEIGHTxWIDTH, such as 96x96.")


def _floats(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(p) for p in text.split(","))
    except ValueError as e:
        raise UsageError(f"{option} '{text}' is no number or list of numbers.", "Write 0.5 or 0.5,0.5,0.5.") from e


def _shapes(text: str | None) -> list[tuple[int, ...]] | None:
    if text is None:
        return None
    shapes = [part.strip().split(",") for part in text.lower().split("and")]
    if all(d.strip().isascii() and d.strip().isdigit() and 0 < int(d) <= 1 << 20 for s in shapes for d in s):
        return [tuple(int(d) for d in s) for s in shapes]
    raise UsageError(f"'{text}' is no input shape.", "Write CHANNELS,HEIGHT,WIDTH, such as 3,96,96.")
