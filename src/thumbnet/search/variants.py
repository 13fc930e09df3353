"""Local distillation: every block of the reference learns to be something cheaper, by itself.

A block is exchanged for a variant (other operations, fewer bits, or nothing), which learns for a few hundred steps to
give the reference's features from the reference's features. What the whole network loses with just that variant in
place is its price in the selection (compare Li et al., "LANA", ECCV 2022), and its weights are inherited by candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from thumbnet.errors import ModelError
from thumbnet.graph.blocks import Block, part, regions
from thumbnet.graph.graph import Graph, Input
from thumbnet.integer.quantization import Floats
from thumbnet.search.executors import OnStep
from thumbnet.search.lesson import Lesson
from thumbnet.search.moves import EXCHANGES, SetBits
from thumbnet.search.recipe import Context, Move
from thumbnet.training.loop import draw_some
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import LINEAR

IMAGES = 512  # whose features are learned from, and a third as many that judge
FEATURE_BYTES = 192 << 20  # of one block, at most: images are fewer where they are large
BATCH = 32
COARSE_STEPS = 4  # forms of 4 bits learn for so many times fewer steps
LEAST_WEIGHTS = 256  # of a layer that gets 4 bits; fewer are not worth a second kernel
RATE = 2e-3

Taught = dict[str, dict[str, Floats]]  # weights by the names of nodes and their own


@dataclass(frozen=True, eq=False)
class Variant:
    """A block made of something else. `moves` is empty for the block as it is; `skipped` ones are left out."""

    block: str
    moves: tuple[Move, ...]
    skipped: bool
    loss: float  # how far the reference's outputs move with this variant in place, by the task's distance
    taught: Taught
    steps: int = 0  # that it has learned for

    @property
    def name(self) -> str:
        """Unlike for different variants of a network."""
        return f"{self.block}: " + (
            ", ".join(str(m) for m in self.moves) or ("left out" if self.skipped else "as it is")
        )


@dataclass(frozen=True, eq=False)
class Workshop:
    """What the blocks of a search share while they learn."""

    reference: Graph
    lesson: Lesson
    steps: int
    skippable: frozenset[str]


def exchanges(block: Graph) -> tuple[tuple[Move, ...], ...]:
    """What can stand in for the block: for each kind of exchange all its layers at once, first as they are.

    Where a kind offers several choices for a layer, the first ones together, the second ones, and so on.
    """
    found: list[tuple[Move, ...]] = [()]
    block = replace(block, outputs=())  # what a block ends in is no answer, and may be exchanged, too
    for kind in EXCHANGES:
        by_layer: dict[str, list[Move]] = {}
        for option in kind.options(block):
            by_layer.setdefault(getattr(option, "node"), []).append(option)  # noqa: B009
        for k in range(max((len(o) for o in by_layer.values()), default=0)):
            found.append(tuple(o[min(k, len(o) - 1)] for o in by_layer.values()))
    return tuple(found)


def teach(workshop: Workshop, block: Block, on_step: OnStep) -> list[Variant]:
    """The variants of one block, each taught and priced. The block as it is costs nothing and learns nothing."""
    reference, steps = workshop.reference, workshop.steps
    whole = part(reference, block)
    x, y, judged = _features(workshop, block)
    tail = GraphModule(_tail(reference, block)).eval()
    found = [Variant(block.name, (), False, 0.0, {})]
    if block.name in workshop.skippable:
        found.append(Variant(block.name, (), True, _price(workshop, tail, x[judged], y[judged]), {}))
    for exchange in exchanges(whole):
        graph = whole
        for form in forms(exchange, whole):
            if not form:
                continue  # the block as it is
            for move in form[len(exchange) :] if graph is not whole else form:
                graph = move.apply(graph, Context({}))
            length = form_steps(form, steps)
            graph, loss = _learned(workshop, graph, tail, x, y, judged, length)
            on_step(length, "")
            taught = {n.name: dict(n.weights) for n in graph.nodes if n.weights}
            found.append(Variant(block.name, form, False, loss, taught, length))
    return found


def forms(exchange: tuple[Move, ...], block: Graph) -> Iterator[tuple[Move, ...]]:
    """An exchange with weights of 8 bits, then the same with 4, where layers are worth it."""
    yield exchange
    for move in exchange:
        block = move.apply(block, Context({}))
    coarse = coarse_layers(block)
    if coarse:
        yield (*exchange, SetBits(dict.fromkeys(coarse, 4)))


def form_steps(form: tuple[Move, ...], steps: int) -> int:
    """How long a form learns: less with 4 bits, since it goes on from what the same layers learned with 8."""
    return steps // COARSE_STEPS if any(isinstance(m, SetBits) for m in form) else steps


def total_steps(block: Graph, steps: int) -> int:
    """Of all variants of a block."""
    return sum(form_steps(f, steps) for e in exchanges(block) for f in forms(e, block) if f)


def coarse_layers(graph: Graph) -> list[str]:
    """Layers that get 4 bits together: those with weights enough to be worth it."""
    sizes = {n.name.removesuffix(LINEAR): n.weights["weight"].size for n in graph.nodes if "weight" in n.weights}
    options = [name for move in SetBits.options(graph) for name in move.bits]
    depthwise = {n.name.removesuffix(LINEAR) for n in graph.nodes if n.op == "depthwise_conv2d"}
    return [name for name in options if sizes[name] >= LEAST_WEIGHTS and name not in depthwise]


def teachable(graph: Graph) -> tuple[Block, ...]:
    """Blocks that have variants."""
    return tuple(b for b in regions(graph) if total_steps(part(graph, b), COARSE_STEPS))


def _features(workshop: Workshop, block: Block) -> tuple[torch.Tensor, torch.Tensor, slice]:
    """The block's inputs and outputs in the reference for some training images, and which of them judge."""
    reference, lesson = workshop.reference, workshop.lesson
    images, _ = lesson.images(reference.inputs[0].shape)
    values = sum(int(np.prod(reference.shapes[v])) for v in (block.entry, block.exit))
    count = max(BATCH * 4, min(IMAGES * 4 // 3, FEATURE_BYTES // (4 * values)))
    chosen = draw_some(len(images), count, lesson.seed)
    head = GraphModule(_head(reference, block)).eval()
    xs, ys = [], []
    with torch.inference_mode():
        for rows in torch.split(chosen, 32):
            x, y = head(*images.inputs(rows))
            xs.append(x)
            ys.append(y)
    return torch.cat(xs).clone(), torch.cat(ys).clone(), slice(len(chosen) * 3 // 4, None)


def _head(graph: Graph, block: Block) -> Graph:
    """The network up to the block's exit; outputs its entry and its exit."""
    needed = {block.entry, block.exit}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    nodes = tuple(n for n in graph.nodes if n.name in needed)
    return Graph(graph.name, graph.inputs, nodes, (block.entry, block.exit))


def _tail(graph: Graph, block: Block) -> Graph:
    """The network behind the block's exit."""
    behind = {block.exit}
    nodes = []
    for node in graph.nodes:
        if any(v in behind for v in node.inputs):
            behind.add(node.name)
            nodes.append(node)
    if not all(v in behind for v in graph.outputs):
        raise ModelError(f"Not everything passes through '{block.exit}'.")
    return Graph(graph.name, (Input(block.exit, graph.shapes[block.exit]),), tuple(nodes), graph.outputs)


def _learned(
    workshop: Workshop, graph: Graph, tail: GraphModule, x: torch.Tensor, y: torch.Tensor, judged: slice, steps: int
) -> tuple[Graph, float]:
    """A variant and its price, after it has learned; as it was where learning made it worse."""
    module = GraphModule(graph).eval()
    before = _price(workshop, tail, torch.cat(_outputs(module, x[judged])), y[judged])
    _learn(module, x[: judged.start], y[: judged.start], steps, workshop.lesson.seed)
    after = _price(workshop, tail, torch.cat(_outputs(module, x[judged])), y[judged])
    return (module.to_graph(), after) if after < before else (graph, before)


def _learn(module: GraphModule, x: torch.Tensor, y: torch.Tensor, steps: int, seed: int) -> None:
    """Least squares relative to the spread of the features."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    spread = y.var().clamp_min(1e-12)
    module.train()
    for _ in range(steps):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        loss = F.mse_loss(module(x[rows]), y[rows]) / spread
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    module.eval()


def _price(workshop: Workshop, tail: GraphModule, given: torch.Tensor, wanted: torch.Tensor) -> float:
    with torch.inference_mode():
        outputs, teacher = (_outputs(tail, v) for v in (given, wanted))
        return max(0.0, float(workshop.lesson.task.distance(outputs, teacher)))


def _outputs(tail: GraphModule, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    parts = [tail(v) for v in torch.split(values, 64)]
    if isinstance(parts[0], torch.Tensor):
        return (torch.cat(parts),)
    return tuple(torch.cat([p[k] for p in parts]) for k in range(len(parts[0])))
