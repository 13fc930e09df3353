"""What one run was asked to do, understood and checked before any work starts."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thumbnet.data import (
    Augmentation,
    Dataset,
    Preprocessing,
    Task,
    default_augmentation,
    load_data,
    task_of,
)
from thumbnet.data.tasks.custom import Own, Owned
from thumbnet.errors import UsageError
from thumbnet.functions import own_function
from thumbnet.graph.graph import Graph
from thumbnet.importers.imported import Check
from thumbnet.interface import (
    check_fit,
    in_order,
    load_reference,
    preprocessing_of,
    real_inputs,
    with_fitting_masks,
    without_ends,
)
from thumbnet.results import Constraints, Metric, check_task_name
from thumbnet.search.efforts import Effort, effort_named
from thumbnet.search.moves import GreyInput
from thumbnet.targets import Target
from thumbnet.version import __version__

GREY_IMAGES = 256  # that are looked at for colours


@dataclass(frozen=True, eq=False)
class Job:
    """A checked request. `graph` is the imported reference, already compared with its own framework."""

    name: str
    graph: Graph
    data: Dataset
    task: Task
    target: Target
    limits: Constraints
    effort_name: str
    seed: int
    preprocessing: Preprocessing
    augmentation: Augmentation
    agreement: Check | None = None  # of the graph with the model's own framework, on random and real inputs
    left_out: str = ""  # what the model ends in and `graph` does not, as told to the user
    time_limit: float | None = None  # seconds of the whole run
    front: bool = False  # whether networks of several sizes are asked for

    @property
    def effort(self) -> Effort:
        effort = effort_named(self.effort_name)
        return effort.of_front() if self.front else effort

    @property
    def default_run_dir(self) -> Path:
        return Path("runs") / f"{self.name}-{self.target.name}"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two jobs the same: equal identities may share a run directory."""
        own = {"functions": self.task.identity} if isinstance(self.task, Owned) else {}
        return {
            "model": self.graph.digest,
            "data": self.data.digest,
            "target": self.target.name,
            "board": hashlib.sha256(repr(self.target).encode()).hexdigest(),  # a description may change, name and all
            "limits": {k: v for k, v in vars(self.limits).items() if v is not None},
            "effort": self.effort_name,
            "seed": self.seed,
            "preprocessing": self.preprocessing.json(),
            "augmentation": asdict(self.augmentation),
            **own,
            **({} if self.time_limit is None else {"time_limit": self.time_limit}),
            **({"front": True} if self.front else {}),
        }

    @property
    def key(self) -> str:
        """What a kept stage must have been made for; another version's stages are made again."""
        return hashlib.sha256(repr([__version__, *sorted(self.identity.items())]).encode()).hexdigest()

    def preprocessing_at(self, shape: tuple[int, ...]) -> Preprocessing:
        """The same for a first input of another shape."""
        return self.preprocessing.at(shape)

    def input_grid(self, graph: Graph) -> dict[str, tuple[float, int]]:
        """Quantization of `graph`'s inputs, fixed so that a pixel becomes its stored byte without arithmetic where
        possible."""
        each = self.preprocessing_at(graph.inputs[0].shape).each
        return {i.name: p.input_qparams() for i, p in zip(graph.inputs, each, strict=True)}

    def greys(self, graph: Graph) -> tuple[bool, ...]:
        """Whether candidates take grey images: they all do where the images have no colour, to the same effect."""
        if self.data.kind != "image" or not GreyInput.options(graph):
            return (False,)
        some = self.data.train.images(self.preprocessing.size)[:GREY_IMAGES]
        coloured = bool((some != some[..., :1]).any())
        return (False, True) if coloured else (True,)

    @property
    def resizable(self) -> bool:
        """Whether a smaller input is the same task: one image, and targets that are no maps of it."""
        outputs = [self.graph.shapes[v] for v in self.graph.outputs]
        one_image = self.data.kind == "image" and len(self.graph.inputs) == 1
        return one_image and all(len(s) == 1 for s in outputs)

    @staticmethod
    def of(
        model: Any,
        data: Any,
        board: Target,
        limits: Constraints,
        effort: str,
        seed: int,
        input_size: tuple[int, int] | None,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        weights: str | Path | None,
        augment: str | None,
        task: str | None = None,
        loss: Own | str | None = None,
        metric: Own | str | None = None,
        time_limit: float | None = None,
        front: bool = False,
    ) -> Job:
        """Raises an error of `thumbnet.errors` for each argument that cannot be used, the cheap checks first."""
        effort_named(effort)
        if augment is not None:
            Augmentation.named(augment)
        if task is not None:
            check_task_name(task)
        own = own_function("loss", loss), own_function("metric", metric)
        dataset = load_data(data, seed=seed, task=task or ("custom" if all(own) and _is_open(data) else None))
        imported = load_reference(model, dataset, input_size, weights)
        graph = imported.graph
        dataset = in_order(dataset, graph)
        name = getattr(model, "name", None) or (
            Path(model).stem if isinstance(model, str | Path) else type(model).__name__
        )
        preprocessing = preprocessing_of(graph, dataset, mean, std)
        agreement = imported.checked(real_inputs(dataset, preprocessing)).check
        dataset = with_fitting_masks(dataset, graph)
        purpose, graph, left_out = without_ends(task_of(dataset, *own), graph)
        check_fit(purpose, dataset, graph)
        _check_metric_limit(limits, purpose.metric)
        usual = "none" if preprocessing.vector else default_augmentation(dataset)
        augmentation = Augmentation.named(augment or usual)
        _check_augmentation(dataset, preprocessing, augmentation)
        name = _slug(str(name))
        return Job(
            *(name, graph, dataset, purpose, board, limits, effort, seed, preprocessing, augmentation, agreement),
            left_out=left_out,
            time_limit=time_limit,
            front=front,
        )


def _check_metric_limit(limits: Constraints, metric: Metric) -> None:
    if metric.in_points and limits.metric_limit is not None and not 0 <= limits.metric_limit <= 100:
        raise UsageError(
            f"metric_limit is {limits.metric_limit:g}, but {metric.name.lower()} is a percentage.",
            "Give a number from 0 to 100.",
        )


def _check_augmentation(data: Dataset, preprocessing: Preprocessing, augmentation: Augmentation) -> None:
    if preprocessing.vector and augmentation != Augmentation.named("none"):
        raise UsageError("The model takes a vector, which cannot be varied as an image.", "Leave --augment out.")
    if data.task == "anomaly" and augmentation != Augmentation.named("none"):
        raise UsageError(
            "Samples for anomaly detection cannot be varied: the reference reproduced them as they are.",
            "Leave --augment out.",
        )


def _is_open(data: Any) -> bool:
    """Whether the task of the data is for the user to say."""
    return not isinstance(data, Dataset | str | Path)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") or "model"
