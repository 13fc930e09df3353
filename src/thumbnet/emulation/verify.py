"""The proof: the linked firmware, run on an emulated core, equals the integer arithmetic byte for byte."""

from __future__ import annotations

import importlib.util
import os
import queue
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.cost.latency import latency_ms
from thumbnet.emulation.board import Board, Run
from thumbnet.emulation.cycles import call_costs
from thumbnet.emulation.layers import layer_costs
from thumbnet.emulation.machines import machine_for
from thumbnet.emulation.toolchain import build
from thumbnet.errors import ThumbnetError, ToolchainError, UnsupportedOpError, VerificationError
from thumbnet.integer import simulate
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.passes.join_inputs import join_ports, separate_inputs
from thumbnet.results import LayerCost
from thumbnet.targets import Target

Int8s = npt.NDArray[np.int8]
Oracle = Callable[[Int8s, Int8s], tuple[bool | None, str]]  # inputs [N, *shape], outputs [N, bytes]

KEPT_MISMATCHES = 8
RANDOM_VECTORS = 4
MAX_MACHINES = 4


@dataclass(frozen=True)
class Mismatch:
    """A byte of an output that came out wrong. `image` counts the images first, then the extreme vectors."""

    image: int
    byte: int
    got: int
    expected: int


@dataclass(frozen=True)
class Proof:
    """What was compared, what came out, and what the firmware takes. Sizes are read from the linked file."""

    target: str
    core: str
    images: int
    extreme_vectors: int
    bit_exact: bool  # firmware against integer simulator, every byte of every vector
    tflm_equal: bool | None  # integer simulator against TFLite Micro on the same vectors; None: not compared
    tflm_note: str  # with what, or why not
    emulator: str
    compiler: str
    flash_bytes: int  # vectors, start-up, code, weights, constants, initial data
    code_bytes: int
    rodata_bytes: int
    data_bytes: int
    bss_bytes: int  # the arena included
    arena_bytes: int
    stack_bytes: int  # deepest, main's own frame included
    ram_bytes: int  # data + bss + stack
    instructions: int  # of model_invoke, for the vector that takes most
    instructions_min: int
    cycles: int  # modelled, of that vector
    cycle_error: float | None  # cycles may be off by this fraction; None: no defensible model of this core
    latency_ms: float
    layers: tuple[LayerCost, ...]
    mismatches: tuple[Mismatch, ...]

    @property
    def static_bytes(self) -> int:
        """Variables outside of the arena."""
        return self.data_bytes + self.bss_bytes - self.arena_bytes

    def json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Proof:
        """The inverse of `json`. Raises `ThumbnetError` where `data` is no proof."""
        try:
            layers = tuple(LayerCost(**{**v, "output_shape": tuple(v["output_shape"])}) for v in data["layers"])
            mismatches = tuple(Mismatch(**m) for m in data["mismatches"])
            return Proof(**{**data, "layers": layers, "mismatches": mismatches})
        except (TypeError, KeyError) as e:
            raise ThumbnetError(f"This is no proof of a firmware: {e}.", "Run `thumbnet verify` again.") from e


def verify_firmware(
    firmware_dir: Path,
    ig: IntegerGraph,
    target: Target,
    inputs: Int8s,
    *,
    progress: Callable[[], object] | None = None,
    oracle: Oracle | None = None,
    library: Path | None = None,
) -> Proof:
    """Builds the firmware, runs it over `inputs` (int8 [N, *shape]) and extreme vectors, and compares every byte.

    Several inputs stand in `inputs` as in the firmware, one after the other: see `joined_inputs`.

    `oracle` says whether another runtime gives the outputs that are expected, and which one (None: why not); by
    default that is TFLite Micro on the graph written as TFLite. `library` is the CMSIS-NN that the firmware calls.
    `progress` is called once per image. A difference is no exception: it makes `bit_exact` False. Raises
    `ToolchainError` where compiler or emulator fail and `VerificationError` where the firmware faults or writes where
    it may not.
    """
    if len(inputs) == 0:
        raise VerificationError("There is no image to verify the firmware with.", "Give at least one.")
    extremes = extreme_vectors(inputs.shape[1:])
    vectors = np.concatenate([inputs, extremes])
    whole = join_ports(ig)
    expected = _flat(simulate.run(whole, vectors)[whole.outputs[0]])
    firmware = build(firmware_dir, target, library=library)
    machine, emulated = machine_for(firmware_dir, firmware, vectors[0].size, expected.shape[1])
    machine.check(vectors[0].tobytes())
    others = [type(machine)(emulated, vectors[0].size, expected.shape[1]) for _ in range(_machines(len(vectors)) - 1)]
    runs = []
    for i, run in enumerate(_run_all([machine, *others], vectors)):
        runs.append(run)
        if progress is not None and i < len(inputs):
            progress()
    worst = max(range(len(runs)), key=lambda i: runs[i].instructions)
    machine.run(vectors[worst].tobytes())  # once more, for its counts
    calls = call_costs(machine.counts(), emulated.image, target.core)
    cycles = sum(c.cycles for c in calls)
    got = _flat(np.stack([np.frombuffer(r.output, np.int8) for r in runs]))
    tflm_equal, tflm_note = oracle(vectors, expected) if oracle else _against_tflm(ig, vectors, expected)
    sizes, stack = firmware.image.sizes, max(r.stack_bytes for r in runs)
    return Proof(
        target=target.name,
        core=target.core.name,
        images=len(inputs),
        extreme_vectors=len(extremes),
        bit_exact=bool(np.array_equal(got, expected)),
        tflm_equal=tflm_equal,
        tflm_note=tflm_note,
        emulator=machine.name,
        compiler=firmware.compiler,
        flash_bytes=sizes.flash_bytes,
        code_bytes=sizes.code,
        rodata_bytes=sizes.rodata,
        data_bytes=sizes.data,
        bss_bytes=sizes.bss,
        arena_bytes=machine.arena_bytes,
        stack_bytes=stack,
        ram_bytes=sizes.static_bytes + stack,
        instructions=runs[worst].instructions,
        instructions_min=min(r.instructions for r in runs),
        cycles=cycles,
        cycle_error=target.core.cycle_error,
        latency_ms=latency_ms(cycles, runs[worst].instructions, target),
        layers=layer_costs(whole, (firmware_dir / "model.c").read_text(), calls),
        mismatches=_mismatches(got, expected),
    )


def _machines(vectors: int) -> int:
    """How many boards run side by side: emulators work in threads, outside of Python's lock."""
    return max(1, min(MAX_MACHINES, os.cpu_count() or 1, vectors))


def _run_all(machines: list[Board], vectors: Int8s) -> Iterator[Run]:
    """The runs in the order of the vectors, whichever board makes them."""
    free: queue.SimpleQueue[Board] = queue.SimpleQueue()
    for machine in machines:
        free.put(machine)

    def run(vector: Int8s) -> Run:
        machine = free.get()
        try:
            return machine.run(vector.tobytes())
        finally:
            free.put(machine)

    with ThreadPoolExecutor(len(machines)) as pool:
        waiting = [pool.submit(run, vector) for vector in vectors]
        try:
            for future in waiting:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def extreme_vectors(shape: tuple[int, ...]) -> Int8s:
    """Inputs at the ends of the range, int8 [V, *shape]: constant, alternating, and random over all values."""
    size = int(np.prod(shape))
    alternating = np.where(np.indices(shape).sum(0) % 2, 127, -128).astype(np.int8)
    rng = np.random.default_rng(0)
    vectors = [
        np.full(shape, -128, np.int8),
        np.full(shape, 127, np.int8),
        np.zeros(shape, np.int8),
        alternating,
        ~alternating,
        np.resize(np.arange(-128, 128), size).astype(np.int8).reshape(shape),
        *rng.integers(-128, 128, (RANDOM_VECTORS, *shape)).astype(np.int8),
        np.where(rng.random(shape) < 0.5, -128, 127).astype(np.int8),
    ]
    return np.stack(vectors)


def _against_tflm(ig: IntegerGraph, vectors: Int8s, expected: Int8s) -> tuple[bool | None, str]:
    """Whether TFLite Micro, running our TFLite file, gives what the simulator gives; None and why where it cannot."""
    if importlib.util.find_spec("tflite_micro") is None:
        return None, "tflite-micro is not installed (`pip install 'thumbnet[tflm]'`; Linux only)"
    from importlib.metadata import version

    from thumbnet.exporters.tflite import run_tflm, to_tflite

    try:
        feeds = separate_inputs(ig, vectors)
        given = run_tflm(to_tflite(ig), [feeds[v] for v in ig.inputs])
    except (UnsupportedOpError, ToolchainError) as e:
        return None, f"no comparison with tflite-micro: {e}"
    got = np.concatenate([_flat(y) for y in (given if isinstance(given, tuple) else (given,))], axis=1)
    return bool(np.array_equal(got, expected)), f"tflite-micro {version('tflite-micro')}"


def _flat(outputs: Int8s) -> Int8s:
    return outputs.reshape(len(outputs), -1)


def _mismatches(got: Int8s, expected: Int8s) -> tuple[Mismatch, ...]:
    where = np.argwhere(got != expected)[:KEPT_MISMATCHES]
    return tuple(Mismatch(int(i), int(b), int(got[i, b]), int(expected[i, b])) for i, b in where)
