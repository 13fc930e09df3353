"""What one run was asked to do, understood and checked before any work starts."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from thumbnet.data import Augmentation, Dataset, Preprocessing, load_data
from thumbnet.errors import DataError, ModelError, UsageError
from thumbnet.graph.graph import Graph
from thumbnet.importers import load
from thumbnet.results import Constraints
from thumbnet.search.efforts import Effort, effort_named
from thumbnet.targets import Target, load_target
from thumbnet.targets.units import parse_size
from thumbnet.version import __version__


@dataclass(frozen=True, eq=False)
class Job:
    """A checked request. `graph` is the imported reference, already compared with its own framework."""

    name: str
    graph: Graph
    data: Dataset
    target: Target
    limits: Constraints
    effort_name: str
    seed: int
    preprocessing: Preprocessing
    augmentation: Augmentation

    @property
    def effort(self) -> Effort:
        return effort_named(self.effort_name)

    @property
    def default_run_dir(self) -> Path:
        return Path("runs") / f"{self.name}-{self.target.name}"

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two jobs the same: equal identities may share a run directory."""
        return {
            "model": self.graph.digest,
            "data": self.data.digest,
            "target": self.target.name,
            "limits": {k: v for k, v in vars(self.limits).items() if v is not None},
            "effort": self.effort_name,
            "seed": self.seed,
            "preprocessing": self.preprocessing.json(),
            "augmentation": asdict(self.augmentation),
        }

    @property
    def key(self) -> str:
        """What a kept stage must have been made for; another version's stages are made again."""
        return hashlib.sha256(repr([__version__, *sorted(self.identity.items())]).encode()).hexdigest()

    def preprocessing_at(self, size: tuple[int, int]) -> Preprocessing:
        """The same for inputs of another (height, width)."""
        return replace(self.preprocessing, size=size)

    def input_grid(self, graph: Graph) -> dict[str, tuple[float, int]]:
        """Quantization of `graph`'s input, fixed so that a pixel becomes its stored byte without arithmetic where
        possible."""
        return {graph.inputs[0].name: self.preprocessing.input_qparams()}

    @staticmethod
    def of(
        model: Any,
        data: Any,
        target: str,
        flash: str | int | None,
        ram: str | int | None,
        latency_ms: float | None,
        macs: int | None,
        max_drop: float | None,
        effort: str,
        seed: int,
        input_size: tuple[int, int] | None,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
        weights: str | Path | None,
        augment: str | None,
    ) -> Job:
        """Raises an error of `thumbnet.errors` for each argument that cannot be used, the cheap checks first."""
        board = load_target(target)
        limits = Constraints(
            flash_bytes=min(board.flash_bytes, parse_size(flash)) if flash is not None else board.flash_bytes,
            ram_bytes=min(board.ram_bytes, parse_size(ram)) if ram is not None else board.ram_bytes,
            latency_ms=_positive("latency_ms", latency_ms),
            macs=None if macs is None else int(_positive("macs", macs) or 0),
            max_drop=_positive("max_drop", max_drop, zero=True),
        )
        effort_named(effort)
        if augment is not None:
            Augmentation.named(augment)
        dataset = data if isinstance(data, Dataset) else load_data(data, seed=seed)
        shape = None if input_size is None else (dataset.channels, *input_size)
        graph = load(model, input_shape=shape, weights=weights)
        name = getattr(model, "name", None) or (
            Path(model).stem if isinstance(model, str | Path) else type(model).__name__
        )
        preprocessing = _preprocessing(graph, dataset, mean, std)
        augmentation = Augmentation.named(augment or ("photo" if dataset.kind == "image" else "none"))
        return Job(_slug(str(name)), graph, dataset, board, limits, effort, seed, preprocessing, augmentation)


def _preprocessing(
    graph: Graph, data: Dataset, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Preprocessing:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelError(
            f"The model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs.",
            "Classification takes one of each; export the part of the network that classifies.",
        )
    shape, classes = graph.inputs[0].shape, graph.shapes[graph.outputs[0]]
    if len(shape) != 3 or shape[0] != data.channels:
        raise DataError(
            f"The model takes (channels, height, width) = {shape}, the data has {data.channels} channel(s).",
            "Convert the images or use a model for that many channels.",
        )
    if classes[0] != len(data.classes):
        raise DataError(
            f"The model tells {classes[0]} classes apart, the data has {len(data.classes)}: {', '.join(data.classes)}.",
            "Give the network a head for these classes and fine-tune it first.",
        )
    size, channels = (shape[1], shape[2]), shape[0]
    if data.value_range is not None:
        if mean is not None or std is not None:
            raise UsageError(
                "mean and std are for uint8 images; this data is float arrays.",
                "Leave them out: values go in as they are.",
            )
        return Preprocessing.of_array(size, channels, data.value_range)
    # Moved to the int8 grid (by less than half a pixel value), so that training and firmware see the same inputs.
    return Preprocessing(size, channels, _per_channel(mean, channels), _per_channel(std, channels)).on_grid()


def _per_channel(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...]:
    if values is None:
        return (0.5,) * channels
    if len(values) not in (1, channels):
        raise UsageError(f"mean and std need one value or {channels}, not {len(values)}.")
    return tuple(values) * channels if len(values) == 1 else tuple(values)


def _positive(name: str, value: float | None, *, zero: bool = False) -> float | None:
    if value is not None and not (0 < value < math.inf or (value == 0 and zero)):
        raise UsageError(f"{name} must be positive, not {value}.", "Leave it out for no limit.")
    return value


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-") or "model"
