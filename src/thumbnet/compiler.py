"""The compiler on its own: a quantized model in, verified firmware out; nothing is trained.

import → lossless passes → C → built and run on the emulated core, compared byte for byte
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thumbnet import compiled
from thumbnet.cost import ArenaPlan, Unit, estimate, plan_arena
from thumbnet.cost.cmsis_nn import units as cmsis_nn_units
from thumbnet.cost.latency import energy_mj, macs
from thumbnet.cost.limit import Cascades, cascades, within
from thumbnet.cost.order import reordered
from thumbnet.cost.peak import Peak, peak
from thumbnet.emulation.cmsis_nn import locate
from thumbnet.emulation.verify import Oracle, Proof, verify_firmware
from thumbnet.errors import DataError, InfeasibleError, TargetError, ToolchainError, UsageError, VerificationError
from thumbnet.exporters.c import Layout, check_layout, emit, lay_out, place, write_firmware
from thumbnet.files import write_json_atomic
from thumbnet.importers.quantized_models import QuantizedModel, load_quantized
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.passes import drop_softmax, lossless_report, silence_constants
from thumbnet.integer.passes import lossless as simplify
from thumbnet.integer.passes.join_inputs import join_ports, separate_inputs
from thumbnet.progress import Progress
from thumbnet.results import Costs, Kind
from thumbnet.targets import Target, load_target
from thumbnet.targets.units import parse_size

Int8s = npt.NDArray[np.int8]
Softmax = Literal["keep", "drop"]
Kernels = Literal["thumbnet", "cmsis-nn"]

RANDOM_INPUTS = 16
MAX_INPUT_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Compiled:
    """What `compile` has made and measured.

    `costs` are read from the linked firmware and counted on the emulated core (`Kind.EMULATED`), or estimated where
    there is no emulator; then `proof` is None and `note` says why. `savings` are the lossless passes' words.
    """

    folder: Path
    target: Target
    graph: IntegerGraph
    costs: Costs | None  # None: neither emulated nor estimated (a core that was never measured)
    peak: Peak
    proof: Proof | None
    note: str
    savings: tuple[str, ...]
    cascades: Cascades | None = None
    interface: tuple[str, ...] = ()  # how the firmware's input and output differ from the file's

    def json(self) -> dict[str, Any]:
        """Figures for programs; those that are not known are null."""
        head = {"model": self.graph.name, "target": self.target.name, "core": self.target.core.name}
        more = {"cascades": self.cascades.json() if self.cascades else None, "note": self.note}
        return {**head, **figures(self.graph, self.costs, self.proof), "peak": self.peak.json(), **more}

    def lines(self) -> list[str]:
        """The figures in words, for a terminal."""
        found = [f"Lossless: {line}" for line in self.savings]
        c = self.costs
        if c is not None:
            beyond = c.flash_bytes - c.weight_bytes
            found += [
                f"Figures ({c.kind}, {self.target.title}; 1 KB = 1024 bytes):",
                f"  Flash         {c.flash_bytes / 1024:9.1f} KB = weights {c.weight_bytes / 1024:.1f} + all else "
                f"{beyond / 1024:.1f} (code {c.code_bytes / 1024:.1f})",
                f"  RAM           {c.ram_bytes / 1024:9.1f} KB = arena {c.arena_bytes / 1024:.1f} + static "
                f"{c.static_bytes / 1024:.1f} + stack {c.stack_bytes / 1024:.1f}",
                f"  Instructions  {c.instructions / 1e6:9.2f} M for {c.macs / 1e6:.2f} M MACs",
                f"  Cycles        {c.cycles / 1e6:9.2f} M, {c.latency_ms:.1f} ms at {self.target.clock_hz / 1e6:g} MHz"
                f" ({_error(self.target)})",
            ]
            found += (
                [f"  Energy        {c.energy_mj:9.3f} mJ (estimated: {_drawn(self.target)})"] if c.energy_mj else []
            )
        found.append(f"Peak RAM: {self.peak}.")
        found += [f"Cascades: {self.cascades}."] if self.cascades else []
        if self.proof is not None:
            found.append(
                f"Proof: {self.proof.images + self.proof.extreme_vectors} inputs on {self.proof.emulator}, every byte "
                f"equal to the simulator; {_original(self.proof)}."
            )
        else:
            found.append(f"Note: {self.note}.")
        found += [f"Interface: {line}" for line in self.interface]
        return [*found, f"Firmware: {self.folder}"]


def _error(target: Target) -> str:
    error = target.core.cycle_error
    return f"modelled, ± {error:.0%}" if error else "modelled; no defensible model of this core"


def _drawn(target: Target) -> str:
    return f"{target.active_ma:g} mA at {target.supply_v:g} V, the core alone"


def _original(proof: Proof) -> str:
    return f"{proof.tflm_note}: equal" if proof.tflm_equal else proof.tflm_note


def compile_model(
    model: Any,
    target: str | Path = "cortex-m4",
    out: str | Path = "firmware",
    *,
    layout: Layout = "cmake",
    softmax: Softmax = "keep",
    lossless: bool = True,
    kernels: Kernels = "thumbnet",
    ram: str | int | None = None,
    cmsis_nn: str | Path | None = None,
    inputs: str | Path | npt.NDArray[Any] | None = None,
    json_file: str | Path | None = None,
    progress: Progress | None = None,
) -> Compiled:
    """Compiles a quantized model for a target into the folder `out`, and proves the result on the emulated core.

    `model`: an int8 `.tflite` file, a quantized (QDQ) `.onnx` file, an `IntegerGraph`, or a file or directory that
    holds one. `layout` is the shape of the folder: "cmake", an "arduino" or "platformio" library, or a "zephyr" module.
    `softmax="drop"` leaves a final softmax to the application. `lossless` runs the passes that take work away and keep
    every output byte. `inputs` adds samples of your own to the random and extreme ones of the proof: an array or `.npy`
    file [N, *input shape], int8 as stored, or float in real units. `kernels="cmsis-nn"` emits calls of Arm's CMSIS-NN
    for all layers that it computes exactly; `cmsis_nn` is its folder (default: $CMSIS_NN). `ram` is a limit, in bytes
    or as "32KB": the firmware is as fast as that allows, with cascades (docs/memory.md) only where it asks for them;
    None: as little RAM as possible.

    Raises `ModelError` and `UnsupportedOpError` for a model that cannot be compiled, `TargetError` for an unknown
    target, `InfeasibleError` where `ram` is not enough, `ToolchainError` where the firmware does not build or fit, and
    `VerificationError` where it computes anything else than the model.
    """
    board, folder = load_target(target), Path(out)
    layout = _checked(softmax, kernels, layout)
    library = locate(cmsis_nn) if kernels == "cmsis-nn" else None
    limit = None if ram is None else parse_size(ram)
    if library and limit is not None:
        raise UsageError("A limit of RAM is kept with our own kernels only.", "Leave out --ram or --kernels cmsis-nn.")
    compiled.may_write(folder)
    source = model if isinstance(model, QuantizedModel) else load_quantized(model)
    separate = optimized(source.graph, softmax, lossless)
    graph = reordered(join_ports(separate), board.core.isa)
    samples = proof_inputs(graph, inputs, ports=len(separate.inputs))
    if library:
        units = cmsis_nn_units(graph, board.core.isa)
        plan = plan_arena(graph, board.core.isa, units)
    else:
        units, plan = within(graph, board, limit)
    vector = samples[0].tobytes(), simulate.run(graph, samples[:1])[graph.outputs[0]].tobytes()
    parts, feeds = ([separate.tensors[v] for v in names] for names in (separate.outputs, separate.inputs))
    estimated = None if library else _estimate(graph, board, plan, units)
    stack = None if estimated is None else estimated.stack_bytes
    files = emit(
        graph,
        board,
        plan=plan,
        units=units,
        notes=source.notes,
        test_vector=vector,
        parts=parts,
        feeds=feeds,
        stack_bytes=stack,
    )
    laid_out = lay_out(files, layout, name=source.name, target=board)
    places = {path: place(path, layout) for path in files if place(path, layout) in laid_out}
    compiled.forget(folder)
    write_firmware(folder, laid_out)
    options: dict[str, Any] = {
        "softmax": softmax,
        "lossless": lossless,
        "kernels": kernels,
        "layout": layout,
        "ram": limit,
    }
    options |= {"cmsis_nn": str(library)} if library else {}
    compiled.write_record(folder, source, graph, target, options, list(laid_out), samples, places)
    oracle = oracle_of(source, softmax)
    proof, note = _proof(folder, graph, board, samples, oracle, library, progress or Progress.quiet())
    costs = costs_of(graph, proof, board) if proof else estimated
    savings = tuple(lossless_report(source.graph, separate)) if lossless else ()
    held = cascades(graph, board, units, plan) if estimated else None
    made = Compiled(folder, board, graph, costs, peak(graph, plan), proof, note, savings, held, _interface(source))
    if json_file is not None:
        write_json_atomic(Path(json_file), made.json())
    if proof is not None:
        must_hold(proof, str(folder))
    if costs is not None and limit is not None and costs.ram_bytes > limit:
        raise InfeasibleError(
            f"The firmware in {folder} needs {costs.ram_bytes:,} B of RAM ({costs.kind}), {costs.ram_bytes - limit:,} "
            "B more than the limit: its stack is deeper than was estimated.",
            f"Give --ram {2 * limit - costs.ram_bytes}.",
        )
    return made


def _checked(softmax: str, kernels: str, layout: str) -> Layout:
    """The layout. Raises `UsageError` where an option has a value that it cannot have, or two do not go together."""
    if softmax not in ("keep", "drop"):
        raise UsageError(f"softmax is 'keep' or 'drop', not '{softmax}'.", "Leave it out to keep it.")
    if kernels not in ("thumbnet", "cmsis-nn"):
        raise UsageError(f"kernels is 'thumbnet' or 'cmsis-nn', not '{kernels}'.", "Leave it out for our own.")
    if kernels == "cmsis-nn" and layout != "cmake":
        raise UsageError(
            f"The layout '{layout}' has no place for CMSIS-NN.", "Use Thumbnet's own kernels, or the layout cmake."
        )
    return check_layout(layout)


def optimized(graph: IntegerGraph, softmax: Softmax, lossless: bool) -> IntegerGraph:
    """The graph that is compiled, but for the order of its nodes."""
    if lossless:
        return simplify(graph, drop_softmax=softmax == "drop")
    kept = silence_constants(graph)  # every layer and channel stays; fast kernels want small sums
    return drop_softmax(kept) if softmax == "drop" else kept


def must_hold(proof: Proof, what: str) -> None:
    """Raises `VerificationError` where the firmware, or the simulator, differs from what it is compared with."""
    if not proof.bit_exact:
        raise VerificationError(f"The firmware of {what} differs from the reference arithmetic.", "Report this.")
    if proof.tflm_equal is False:
        raise VerificationError(
            f"The firmware of {what} differs from what the original model computes ({proof.tflm_note}).", "Report this."
        )


# --- the proof


def _proof(
    folder: Path,
    graph: IntegerGraph,
    target: Target,
    samples: Int8s,
    oracle: Oracle | None,
    library: Path | None,
    progress: Progress,
) -> tuple[Proof | None, str]:
    """The proof; None and the reason where no emulator for the core is installed."""
    missing = missing_emulator(target)
    if missing:
        return None, missing
    with (
        compiled.buildable(folder) as firmware,
        progress.stage("Verify on the emulated core", total=len(samples)) as stage,
    ):
        done = verify_firmware(
            firmware, graph, target, samples, progress=lambda: stage.advance(1), oracle=oracle, library=library
        )
    return done, ""


def missing_emulator(target: Target) -> str:
    """Why the proof cannot run here; "" where it can."""
    from thumbnet.emulation import qemu, unicorn

    core = target.core
    if (core.unicorn_model and unicorn.available()) or (core.qemu_machine and qemu.available()):
        return ""
    way = "pip install 'thumbnet[emulator]'" if core.unicorn_model else "apt install qemu-system-arm"
    return f"the proof was not run: no emulator of a {core.name} is installed ({way})"


def oracle_of(source: QuantizedModel, softmax: Softmax) -> Oracle | None:
    """TFLite Micro on the original file; None where the model was no TFLite file."""
    original = source.tflite
    if original is None:
        return None

    def ask(vectors: Int8s, expected: Int8s) -> tuple[bool | None, str]:
        imported = drop_softmax(source.graph) if softmax == "drop" else source.graph
        kept = _outputs(imported, vectors)
        if not np.array_equal(kept, expected):
            return False, "the lossless passes changed an output"
        if importlib.util.find_spec("tflite_micro") is None:
            return None, "tflite-micro is not installed (`pip install 'thumbnet[tflm]'`; Linux only)"
        from importlib.metadata import version

        from thumbnet.exporters.tflm import run_tflm

        try:
            feeds = separate_inputs(source.graph, vectors)
            given = run_tflm(
                original.data, list(feeds.values()) if len(feeds) > 1 else original.original_inputs(vectors)
            )
        except ToolchainError as e:
            return None, f"no comparison with tflite-micro: {e}"
        stored = original.stored_outputs(*((given,) if isinstance(given, np.ndarray) else given))
        equal = np.array_equal(stored, _outputs(source.graph, vectors))
        return bool(equal), f"tflite-micro {version('tflite-micro')} on the original file"

    return ask


def _outputs(graph: IntegerGraph, vectors: Int8s) -> Int8s:
    """int8 [N, bytes]: all outputs of a sample, one after the other."""
    found = simulate.run(graph, separate_inputs(graph, vectors))
    return np.concatenate([found[v].reshape(len(vectors), -1) for v in graph.outputs], axis=1)


def _interface(source: QuantizedModel) -> tuple[str, ...]:
    """What the application must know beyond the file."""
    found, file = [], source.tflite
    if file is not None and file.input_type != "int8":
        found.append(f"the input is int8, not {file.input_type} as in the file; model.h has its scale and zero point.")
    others = sorted(set(file.output_types) - {"int8"}) if file is not None else []
    if others:
        found.append(f"the output is int8, not {' or '.join(others)} as in the file; model.h has its scale.")
    if len(source.graph.inputs) > 1:
        found.append(f"{len(source.graph.inputs)} inputs stand one after the other; model.h says where.")
    if len(source.graph.outputs) > 1:
        found.append(f"{len(source.graph.outputs)} outputs stand one after the other; model.h says where.")
    return tuple(found)


def proof_inputs(graph: IntegerGraph, own: str | Path | npt.NDArray[Any] | None, *, ports: int = 1) -> Int8s:
    """The user's samples, then random ones: int8 [N, *input shape]. Raises `DataError` for samples that do not fit.

    Where the input is made of several `ports`, which differ in scale, samples are int8 as stored.
    """
    x = graph.tensors[graph.inputs[0]]
    random = np.random.default_rng(0).integers(-128, 128, (RANDOM_INPUTS, *x.shape)).astype(np.int8)
    if own is None:
        return random
    values = _read_array(Path(own)) if isinstance(own, str | Path) else np.asarray(own)
    if values.size == 0 or values.size % x.bytes or values.nbytes > MAX_INPUT_BYTES:
        raise DataError(
            f"The inputs have the shape {list(values.shape)}, the model takes {list(x.shape)}.",
            "Give an array [N, *input shape], at most 1 GB.",
        )
    if values.dtype != np.int8:
        if ports > 1 or not np.issubdtype(values.dtype, np.floating) or not np.all(np.isfinite(values)):
            raise DataError(
                f"The inputs are {values.dtype}.", "Give int8 as the model stores them, or finite floats in real units."
            )
        values = np.clip(np.rint(values / x.scale) + x.zero_point, -128, 127).astype(np.int8)
    return np.concatenate([values.reshape(-1, *x.shape), random])


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise DataError(f"{path} is no .npy file of numbers.", "Write it with numpy.save.") from e
    if not isinstance(values, np.ndarray):
        raise DataError(f"{path} holds several arrays.", "Write the one of inputs with numpy.save.")
    return values


# --- figures


def costs_of(graph: IntegerGraph, proof: Proof, target: Target) -> Costs:
    """A proof's figures: sizes as linked, instructions as counted; energy stays an estimate."""
    return Costs(
        kind=Kind.EMULATED,
        flash_bytes=proof.flash_bytes,
        code_bytes=proof.code_bytes,
        weight_bytes=graph.weight_bytes,
        ram_bytes=proof.ram_bytes,
        arena_bytes=proof.arena_bytes,
        static_bytes=proof.static_bytes,
        stack_bytes=proof.stack_bytes,
        macs=sum(macs(node, graph) for node in graph.nodes),
        instructions=proof.instructions,
        cycles=proof.cycles,
        latency_ms=proof.latency_ms,
        layers=proof.layers,
        energy_mj=energy_mj(proof.latency_ms, target),
    )


def _estimate(graph: IntegerGraph, target: Target, plan: ArenaPlan, units: tuple[Unit, ...]) -> Costs | None:
    try:
        return estimate(graph, target, plan, units)
    except TargetError:
        return None


def figures(graph: IntegerGraph, costs: Costs | None, proof: Proof | None) -> dict[str, Any]:
    """What `--json` of compile, verify and profile have in common. Unknown figures are null."""
    known: Mapping[str, Any] = asdict(costs) if costs else {"macs": sum(macs(n, graph) for n in graph.nodes)}
    names = (
        *("flash_bytes", "code_bytes", "weight_bytes", "ram_bytes", "arena_bytes", "static_bytes", "stack_bytes"),
        *("instructions", "cycles", "latency_ms", "energy_mj", "macs"),
    )
    more = {
        "kind": str(costs.kind) if costs else None,
        "bit_exact": proof.bit_exact if proof else None,
        "emulator": proof.emulator if proof else None,
        "compiler": proof.compiler if proof else None,
        "vectors": proof.images + proof.extreme_vectors if proof else 0,
        "original_equal": proof.tflm_equal if proof else None,
        "original": proof.tflm_note if proof else None,
        "cycle_error": proof.cycle_error if proof else None,
        "layers": known.get("layers", []),
    }
    return {**{name: known.get(name) for name in names}, **more}
