"""What every importer of float networks hands over: the graph, and the source's own runtime to compare it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from thumbnet.errors import ModelError
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.graph.graph import Graph, Shape
from thumbnet.graph.layout import Layout
from thumbnet.graph.passes.dead_nodes import dead_nodes
from thumbnet.importers.builder import MAX_NUMBERS, Value

Array = npt.NDArray[Any]
Runner = Callable[[list[Array]], Sequence[Array]]
"""Runs the source: arrays [N, *shape] of its inputs in, of its outputs out, in its own axes."""

TOLERANCE = 1e-4  # of what an output varies with the input; float32 networks stay an order of magnitude below
_STILL = 0.1  # of the largest output, at least: what is nearly the same for all inputs is mostly rounding
_BATCH = 2  # with 1, an operation that drops or mixes the batch axis would go unseen
_ROUNDS = 2  # random batches compared
_SAMPLES = 32  # real inputs compared at most
_MAX_MACS = 1 << 35  # of a batch


@dataclass(frozen=True, eq=False)
class Port:
    """An input or output: its value in the graph, and how the source's axes lie in it."""

    name: str  # in the graph
    layout: Layout
    own: Shape  # the graph's shape

    @staticmethod
    def of(value: Value, shape: Shape) -> Port:
        return Port(value.ref, value.layout, shape)

    @property
    def shape(self) -> Shape:
        """In the source's axes."""
        return self.layout.shape

    def to_graph(self, array: Array) -> Array:
        """[N, *shape] as [N, *own]."""
        parts = list(chain(*self.layout.axes))
        order = [parts.index(p) + 1 for p in self.layout.stored]
        return array.reshape(len(array), *(p.size for p in parts)).transpose(0, *order).reshape(len(array), *self.own)

    def to_source(self, array: Array) -> Array:
        """[N, *own] as [N, *shape]."""
        stored = list(self.layout.stored)
        order = [stored.index(p) + 1 for p in chain(*self.layout.axes)]
        return (
            array.reshape(len(array), *(p.size for p in stored)).transpose(0, *order).reshape(len(array), *self.shape)
        )


@dataclass(frozen=True)
class Check:
    """How far the graph is from its source: the difference of the output that comes nearest to what is tolerated, or
    goes beyond it.
    """

    runtime: str  # such as "ONNX Runtime 1.32.0"
    difference: float
    tolerance: float
    random: int  # inputs drawn at random that were compared
    real: int = 0  # inputs of the data set

    def json(self) -> dict[str, Any]:
        return dict(vars(self))

    def sentence(self) -> str:
        real = f" and {self.real} real" if self.real else ""
        return (
            f"differs from {self.runtime} by {self.difference:.2g} at most ({self.tolerance:.2g} tolerated), "
            f"on {self.random} random{real} inputs."
        )


@dataclass(frozen=True, eq=False)
class Imported:
    """A graph that agrees with its source. `batch` is the only batch size the source takes, None for any."""

    graph: Graph
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Runner | None  # None where nothing but the graph is there to be compared with
    runtime: str
    batch: int | None = None
    tolerance_factor: float = TOLERANCE  # of what an output varies
    ranges: tuple[tuple[float, float] | None, ...] = ()  # which numbers each input can hold, where it is quantized
    check: Check | None = None

    @property
    def max_difference(self) -> float:
        return self.check.difference if self.check else float("nan")

    @property
    def tolerance(self) -> float:
        return self.check.tolerance if self.check else float("nan")

    def checked(self, samples: Sequence[Array] | None = None) -> Imported:
        """Compares with the source on random inputs, and on `samples`: an array [N, *own] for each graph input.

        Raises `ModelError` where an output differs by more than the tolerance or is not finite.
        """
        if self.run is None:
            return self
        measured, random, real = [_Measured() for _ in self.outputs], 0, 0
        for inputs, is_real in self._batches(samples):
            for m, (own, reference) in zip(measured, self._computed(self.run, inputs), strict=True):
                m.add(own, reference)
            count = len(inputs[0])
            random, real = random + (0 if is_real else count), real + (count if is_real else 0)
        worst = max(measured, key=lambda m: m.excess(self.tolerance_factor))
        tolerance = worst.tolerance(self.tolerance_factor)
        if not worst.difference <= tolerance:
            raise ModelError(
                f"The imported {self.graph.name} differs from the original, run by {self.runtime}, by "
                f"{worst.difference:.3g} (tolerated: {tolerance:.3g}).",
                "This is a fault of the importer; please report the model."
                if self.tolerance_factor <= TOLERANCE
                else "Its quantization changes what it computes; give the float network that it was made from.",
            )
        return replace(self, check=Check(self.runtime, worst.difference, tolerance, random, real))

    def _batches(self, samples: Sequence[Array] | None) -> Iterator[tuple[list[Array], bool]]:
        """In the axes of the graph."""
        generator, batch = torch.Generator().manual_seed(0), self.batch or _BATCH
        for _ in range(_ROUNDS):
            drawn = [torch.randn(batch, *i.shape, generator=generator).numpy() for i in self.graph.inputs]
            ranges = self.ranges or (None,) * len(drawn)
            yield [x if r is None else _within(x, *r) for x, r in zip(drawn, ranges, strict=True)], False
        if samples is not None:
            count = min(len(samples[0]), _SAMPLES)
            for start in range(0, count - batch + 1, batch):
                yield [np.asarray(s[start : start + batch], np.float32) for s in samples], True

    def _computed(self, run: Runner, inputs: list[Array]) -> Iterator[tuple[Array, Array]]:
        """For each output what the graph computes and what the source does, in the source's axes."""
        expected = run([p.to_source(x) for p, x in zip(self.inputs, inputs, strict=True)])
        tensors = {p.name: torch.from_numpy(np.ascontiguousarray(x)) for p, x in zip(self.inputs, inputs, strict=True)}
        with torch.inference_mode():
            values = evaluate_values(self.graph, tensors)
        for port, given in zip(self.outputs, expected, strict=True):
            reference = np.asarray(given)
            if not np.isfinite(reference).all():
                raise ModelError(f"The output '{port.name}' of {self.graph.name} is not finite for ordinary inputs.")
            own = port.to_source(values[port.name].numpy())
            if own.size != reference.size:
                raise ModelError(f"The output '{port.name}' has {own.shape} values, the source's {reference.shape}.")
            yield own, reference.reshape(own.shape)


def unchecked(graph: Graph) -> Imported:
    """A graph that comes from nowhere else."""
    shapes = graph.shapes
    ins, outs = (
        tuple(Port(v, Layout.row_major(shapes[v]), shapes[v]) for v in names)
        for names in ([i.name for i in graph.inputs], graph.outputs)
    )
    return Imported(graph, ins, outs, None, "Thumbnet")


@dataclass(eq=False)
class _Measured:
    """How an output of the graph and of the source differ, and how far apart the source's are for different inputs."""

    difference: float = 0.0
    largest: float = 0.0
    low: Array | None = None
    high: Array | None = None

    def add(self, own: Array, reference: Array) -> None:
        difference = float(np.abs(own - reference).max(initial=0.0))
        self.difference = max(self.difference, difference if np.isfinite(difference) else math.inf)
        self.largest = max(self.largest, float(np.abs(reference).max(initial=0.0)))
        low, high = reference.min(axis=0), reference.max(axis=0)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)

    def tolerance(self, factor: float) -> float:
        spread = 0.0 if self.low is None or self.high is None else float((self.high - self.low).max(initial=0.0))
        return factor * max(spread, _STILL * self.largest)

    def excess(self, factor: float) -> float:
        """The difference in tolerances."""
        return self.difference / max(self.tolerance(factor), float(np.finfo(np.float32).tiny))


def _within(x: Array, low: float, high: float) -> Array:
    """Normal numbers of which nearly all are within a range, as those were that it was measured on."""
    return np.asarray(np.clip((low + high) / 2 + x * (high - low) / 8, low, high), np.float32)


def imported(
    builder_graph: Graph,
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    run: Runner,
    runtime: str,
    *,
    batch: int | None = None,
    tolerance_factor: float = TOLERANCE,
    ranges: Sequence[tuple[float, float] | None] = (),
) -> Imported:
    """The checked import of a graph built by a `Builder`, less the nodes that no output needs."""
    # with the nodes that no output needs: the source's runtime computes those as well
    _bounded(builder_graph, batch or _BATCH)
    graph = dead_nodes(builder_graph)
    graph.validate()
    shapes = graph.shapes
    ins, outs = (tuple(Port.of(v, shapes[v.ref]) for v in values) for values in (inputs, outputs))
    return Imported(graph, ins, outs, run, runtime, batch, tolerance_factor, tuple(ranges)).checked()


def _bounded(graph: Graph, batch: int) -> None:
    """Raises `ModelError` for a network that would take memory or time without bounds to compare: files come from
    strangers."""
    numbers = batch * sum(math.prod(s) for s in graph.shapes.values())
    if numbers > 2 * MAX_NUMBERS or batch * graph.macs > _MAX_MACS:
        raise ModelError(
            f"{graph.name} takes {batch * graph.macs} multiplications for a batch of {batch}, and {numbers} numbers.",
            "No microcontroller runs networks of that size; export it with a batch of 1.",
        )
