"""Keeps a run within its time limit: right before a stage that can be longer or shorter, how many steps fit into what
is left is worked out from measured rates, and kept in the run directory, so that a run that goes on takes the same.

Without a limit every number of steps is the effort's, and nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from thumbnet.cost import estimate
from thumbnet.errors import UsageError
from thumbnet.graph.blocks import Block, part, regions
from thumbnet.graph.graph import Graph
from thumbnet.graph.ops import op_of
from thumbnet.graph.passes import clean
from thumbnet.integer import simulate
from thumbnet.integer.lower import lower
from thumbnet.job import Job
from thumbnet.kept import load_facts, save_facts
from thumbnet.progress import Progress, duration
from thumbnet.refine import AVERAGE, QUANTIZED_AVERAGE, stored_inputs
from thumbnet.robustness import SAMPLES, corruptions_of
from thumbnet.runs import RunDirectory
from thumbnet.search import budget
from thumbnet.search.budget import Final, Rate
from thumbnet.search.efforts import FRONT_POINTS, Effort, batch_of
from thumbnet.search.executors import run_tasks
from thumbnet.search.fit import Fitter
from thumbnet.search.insight import IMAGES, MOVES, VALIDATION
from thumbnet.search.lesson import Lesson
from thumbnet.search.propose import shapes_of
from thumbnet.search.recipe import Context
from thumbnet.search.shape import Shape
from thumbnet.search.space import Space
from thumbnet.search.variants import IMAGES as FEATURE_IMAGES
from thumbnet.search.variants import total_steps
from thumbnet.training.images import Images
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import restore_names
from thumbnet.training.quantize_aware import QuantizedModule

AIM = 0.97  # of the limit: what cannot be scaled is only estimated
SIMULATED = 16  # images whose integer arithmetic is timed
ANSWERED = 32  # images that the reference is timed with
PROOF_VECTORS = 68  # that the emulated core computes
EMULATED_PER_SECOND = 1.5e8  # instructions on all emulated cores together: a cautious figure
BUILD_SECONDS = 3.0
POOL_SECONDS = 3.0  # until worker processes have begun, before they are first timed
TAUGHT_SHARE = 0.4  # of the time for training that teaching blocks may take; left out where it needs more
STRUCTURES = 3  # shapes that are fitted, for each one of the reference's own operations


@dataclass(frozen=True, eq=False)
class Pace:
    """How fast this run must go. `before`: seconds that had passed when its directory was opened."""

    job: Job
    run: RunDirectory
    progress: Progress
    before: float = 0.0

    @property
    def limited(self) -> bool:
        return self.job.time_limit is not None

    @property
    def elapsed(self) -> float:
        """Seconds of this run, earlier sessions included."""
        return self.before + self.run.wall_seconds

    def left(self, tail: float) -> float:
        """Seconds for training, where `tail` is what comes after it."""
        return AIM * (self.job.time_limit or 0.0) - self.elapsed - tail

    # --- plans, one before each stage that can be scaled

    def teaching(self, space: Space, context: Context, blocks: Sequence[Block], lesson: Lesson) -> int:
        """Steps in which a variant of a block learns; 0: there is no time for it.

        Raises `UsageError` where the limit is too short for the run.
        """
        effort = self.job.effort
        return int(self._kept("plan-teach", lambda: self._teaching(space, context, blocks, lesson), effort.taught))

    def _teaching(self, space: Space, context: Context, blocks: Sequence[Block], lesson: Lesson) -> dict[str, Any]:
        job, lesson, images = self.job, _own(lesson), len(lesson.train)
        reference = space.graph
        own = budget.rate(lambda: GraphModule(reference), lesson, reference.inputs[0].shape)
        fitter = Fitter(space, context, job.target, job.limits.tightened())
        started = budget.now()
        shape = Shape(None, (), space.resolutions[0] if space.resolutions else None, 1.0, grey=space.greys[0])
        fitted = fitter.fit(shape)
        fit = budget.now() - started
        network = fitted.recipe.apply(reference, replace(context, taught={})) if fitted else reference
        final = self._final(network, lesson)
        tail = self.tail(network)
        shapes = STRUCTURES * len(list(shapes_of(fitter, ())))
        budgets = FRONT_POINTS if job.front else 1
        starts = POOL_SECONDS if self.run.workers > 1 else 0.0
        once = shapes * fit + job.effort.candidates * self._scoring(own, final)
        fixed = tail + budgets * (once / self.run.workers + starts) + 3 * starts

        def training(steps: int) -> float:
            effort = budget.scaled(job.effort, steps)
            rates = [final.floating] * (effort.rungs[0][0] if effort.rungs else 0)
            rungs = budget.rungs_seconds(effort, rates, images, self.run.workers, starts) if rates else 0.0
            return rungs + effort.finalists * final.seconds(steps, effort.quantized_steps(images))

        def teaching(steps: int) -> float:
            return taught_seconds(reference, blocks, own.step, steps) / min(self.run.workers, max(1, len(blocks)))

        least = budget.least_steps(job.effort, images)
        shortest = fixed + training(least)
        if self.left(0.0) < shortest:
            raise UsageError(
                f"--time-limit {duration(job.time_limit or 0)} is too short for {job.name} with {images:,} training "
                f"images: it takes about {duration((self.elapsed + shortest) / AIM * 1.1)} at least.",
                "Allow more time" + ("." if job.effort_name == "quick" else ", or choose --effort quick."),
            )
        left = self.left(0.0) - fixed
        scalable = training(job.effort.steps(images)) + teaching(job.effort.taught)
        taught = budget.taught_steps(job.effort, left / max(scalable, 1e-9))
        fewest = budget.taught_steps(job.effort, 0.0)
        taught = min(taught, budget.largest(teaching, TAUGHT_SHARE * left, fewest))
        if taught and teaching(taught) > TAUGHT_SHARE * left:
            taught = 0
            self.progress.note("There is no time to teach variants to blocks: widths, depth and input are searched.")
        return {"steps": taught, "seconds": round(teaching(taught), 1)}

    def _scoring(self, reference: Rate, final: Final) -> float:
        """Seconds to score a candidate: it is cut out of the reference, sees some images three times, is judged."""
        batches = self.job.effort.scoring_images / batch_of(len(self.job.data.train))
        return reference.judged + batches * final.floating.step + final.floating.judged

    def search(self, lesson: Lesson, graphs: Sequence[Graph]) -> Effort:
        """The effort with as many steps as fit; `graphs` are the candidates of the first rung, best first."""
        steps = self._kept("plan-search", lambda: self._search(lesson, graphs), 0)
        return budget.scaled(self.job.effort, int(steps)) if steps else self.job.effort

    def _search(self, lesson: Lesson, graphs: Sequence[Graph]) -> dict[str, Any]:
        effort, lesson, images, workers = self.job.effort, _own(lesson), len(lesson.train), self.run.workers
        started = budget.now()
        with self.progress.stage("See how fast candidates train", total=len(graphs)) as stage:
            rates = run_tasks(budget.graph_rate, lesson, graphs, workers=workers, on_step=stage.advance)
            spent = [_measuring(r) for r in rates]
            start = max(0.0, budget.now() - started - budget.makespan(spent, workers))
            final = self._final(graphs[0], lesson)
            tail = self.tail(graphs[0])

        def seconds(steps: int) -> float:
            planned = budget.scaled(effort, steps)
            finals = effort.finalists * final.seconds(steps, planned.quantized_steps(images))
            return budget.rungs_seconds(planned, rates, images, workers, start) + finals

        return self._told(seconds, tail, budget.least_steps(effort, images))

    def final(self, graphs: Sequence[Graph], lesson: Lesson, name: str) -> int:
        """Steps of the distillation of the first of these finalists, where the others get as many."""
        own = self.job.effort.steps(len(lesson.train))
        return int(self._kept(f"plan-distil-{name}", lambda: self._last(graphs, lesson), own))

    def _last(self, graphs: Sequence[Graph], lesson: Lesson) -> dict[str, Any]:
        effort, own, images = self.job.effort, _own(lesson), len(lesson.train)
        finals = [self._final(g, own) for g in graphs]
        tail = self.tail(graphs[0])

        def seconds(steps: int) -> float:
            quantized = budget.scaled(effort, steps).quantized_steps(images)
            return sum(f.seconds(steps, quantized) for f in finals)

        found = self._told(seconds, tail, budget.least_steps(effort, images))
        steps = int(found["steps"])
        quantized = budget.scaled(effort, steps).quantized_steps(images)
        return {**found, "others": sum(f.seconds(steps, quantized) for f in finals[1:]), "tail": tail}

    def quantized(self, floating: Graph, lesson: Lesson, name: str, distilled: int) -> int:
        """Steps of the quantization-aware training of the finalist of that name, after so many of distillation."""
        usual = budget.scaled(self.job.effort, distilled).quantized_steps(len(lesson.train))

        def compute() -> dict[str, Any]:
            kept = load_facts(self.run.path / "stages" / f"plan-distil-{name}")
            own = self._quantized_rate(floating, _own(lesson))
            after = kept["tail"] + kept["others"] + budget.EVALUATIONS * own.judged
            return self._told(lambda n: n * own.step, after, max(1, usual // 2))

        return int(self._kept(f"plan-quantize-{name}", compute, usual))

    def _kept(self, name: str, compute: Callable[[], dict[str, Any]], usual: int) -> int:
        """The steps of a plan, worked out once; the usual ones where there is no limit."""
        if not self.limited:
            return usual
        return int(self.run.stage(name, self.job.key, compute, save_facts, load_facts)["steps"])

    def _told(self, seconds: Callable[[int], float], tail: float, least: int) -> dict[str, Any]:
        left = self.left(tail)
        steps = budget.largest(seconds, left, least)
        over = seconds(steps) - left
        if over > 0.05 * (self.job.time_limit or 0.0):
            self.progress.note(f"The time limit will be missed by about {duration(over)}: {steps} steps are the least.")
        else:
            self.progress.note(f"{duration(max(0.0, left))} are left for training: {steps:,} steps.")
        return {"steps": steps, "seconds": round(seconds(steps), 1), "left": round(left, 1)}

    # --- rates

    def _final(self, graph: Graph, lesson: Lesson) -> Final:
        floating = budget.rate(lambda: GraphModule(graph), lesson, graph.inputs[0].shape, AVERAGE)
        return Final(floating, self._quantized_rate(restore_names(clean(GraphModule(graph).to_graph())), lesson))

    def _quantized_rate(self, graph: Graph, lesson: Lesson) -> Rate:
        def student() -> QuantizedModule:
            return QuantizedModule(graph, self.job.input_grid(graph))

        own = budget.rate(student, lesson, graph.inputs[0].shape, QUANTIZED_AVERAGE, judges=False)
        # Judging needs ranges, which a student has once it has been trained.
        images = len(lesson.val) / lesson.batch
        return replace(own, judged=own.step * images / 2)

    def tail(self, graph: Graph) -> float:
        """Seconds from the end of training to the end of the run: the integer network judged, built, run on the
        emulated core, explained, tested."""
        job = self.job
        started = budget.now()
        integer = lower(restore_names(clean(graph)), None, fixed=job.input_grid(graph))
        costs = estimate(integer, job.target)
        lowered = budget.now() - started
        count = min(SIMULATED, len(job.data.val))
        feeds = stored_inputs(job, integer, job.data.val, count)
        started = budget.now()
        simulate.run(integer, feeds)
        answer = (budget.now() - started) / count
        kept = self._reference_answer()
        conditions = 1 + sum(len(c.severities) for c in corruptions_of(job))
        tested = len(job.data.test) + conditions * min(SAMPLES, len(job.data.test))
        judged = (len(job.data.val) * job.effort.finalists + tested) * answer + tested * kept
        explained = (MOVES + 1) * (kept * (3 * IMAGES + min(VALIDATION, len(job.data.val))) + 3 * lowered)
        return judged + explained + BUILD_SECONDS + PROOF_VECTORS * costs.instructions / EMULATED_PER_SECOND

    def _reference_answer(self) -> float:
        """Seconds that the reference takes for one image, in batches."""
        images = Images.of(self.job.data.val, self.job.preprocessing)
        rows = slice(0, ANSWERED)
        module = GraphModule(self.job.graph).eval()
        started = budget.now()
        with torch.inference_mode():
            module(*images.inputs(rows))
        return (budget.now() - started) / min(ANSWERED, len(images))


def taught_seconds(reference: Graph, blocks: Sequence[Block], step: float, steps: int) -> float:
    """What teaching all variants takes on one core, where a training step of the whole reference takes `step`: a
    block's steps cost its part of the products, and its features and its prices are answers of the network."""
    shapes = reference.shapes

    def macs(names: Sequence[str]) -> int:
        return sum(
            op_of(n).macs(n, [shapes[v] for v in n.inputs], shapes[n.name])
            for n in (reference.by_name[name] for name in names)
        )

    whole = max(1, macs([n.name for n in reference.nodes]))
    names = {b.name: b.nodes for b in regions(reference)}
    answers = step / 3 * FEATURE_IMAGES * 4 / 3 / 32  # of the reference to all images that are learned from
    total = 0.0
    for block in blocks:
        graph = part(reference, block)
        share = macs(list(names[block.name])) / whole
        forms = max(1, total_steps(graph, 4) // 4)
        total += answers + forms * answers / 4 + total_steps(graph, steps) * step * share
    return total


def _measuring(rate: Rate) -> float:
    return rate.loaded + rate.judged + (budget.WARM_STEPS + budget.TIMED_STEPS) * rate.step


def _own(lesson: Lesson) -> Lesson:
    """The same without images that would travel to every worker."""
    return replace(lesson, _cache={})
