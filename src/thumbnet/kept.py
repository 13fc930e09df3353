"""What stages leave behind, and how the run directory keeps it: JSON and safetensors, nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from thumbnet.errors import RunError, ThumbnetError
from thumbnet.files import read_json, write_json_atomic
from thumbnet.graph.graph import Graph
from thumbnet.importers.quantized_models import load_integer_graph
from thumbnet.integer.graph import IntegerGraph
from thumbnet.results import Costs, Trial, costs_from_json, trial_from_json
from thumbnet.search.recipe import Recipe
from thumbnet.search.variants import Variant
from thumbnet.training.loop import Point


@dataclass(frozen=True, eq=False)
class Baseline:
    """The reference as it came: its answers (soft targets for the students) and what plain int8 would need."""

    train_outputs: tuple[torch.Tensor, ...]  # [N, ...] for each output; none where they are too large to keep
    val_accuracy: float  # the task's metric, as everywhere
    costs: Costs  # estimated, for the reference lowered as it is
    val_interval: tuple[float, float] | None = None  # 95 %


@dataclass(frozen=True, eq=False)
class Finalist:
    """A network that came through the search, in float, with batch norms."""

    recipe_id: str
    graph: Graph
    curve: tuple[Point, ...]


@dataclass(frozen=True, eq=False)
class Finished:
    """A finalist after distillation and quantization-aware training: the integer network."""

    recipe_id: str
    integer: IntegerGraph
    graph: Graph  # the float network it was lowered from
    val_accuracy: float  # of the integer network
    costs: Costs
    curves: dict[str, tuple[Point, ...]]
    val_interval: tuple[float, float] | None = None  # 95 %; None in what an older version kept

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width) of the first input; (length,) of a vector."""
        *size, last = self.integer.tensors[self.integer.inputs[0]].shape
        return (last, *size)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first input; (1, length) of a vector."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, self.shape[0])


def save_tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "tensors.safetensors")


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "tensors.safetensors")


def save_facts(folder: Path, facts: dict[str, Any]) -> None:
    write_json_atomic(folder / "facts.json", facts)


def load_facts(folder: Path) -> dict[str, Any]:
    return dict(read_json(folder / "facts.json"))


def save_search(folder: Path, found: tuple[list[Finalist], list[Trial]]) -> None:
    finalists, trials = found
    for finalist in finalists:
        finalist.graph.save(folder / f"{finalist.recipe_id}.json")
    write_json_atomic(
        folder / "search.json",
        {
            "finalists": [{"id": f.recipe_id, "curve": list(f.curve)} for f in finalists],
            "trials": [asdict(t) for t in trials],
        },
    )


def load_search(folder: Path) -> tuple[list[Finalist], list[Trial]]:
    data = read_json(folder / "search.json")
    finalists = [
        Finalist(f["id"], Graph.load(folder / f"{f['id']}.json"), tuple(f["curve"])) for f in data["finalists"]
    ]
    return finalists, [trial_from_json(t) for t in data["trials"]]


def save_variants(folder: Path, variants: tuple[tuple[Variant, ...], ...]) -> None:
    tensors = {
        f"{k}/{j}/{node}/{key}": torch.from_numpy(w.copy())
        for k, own in enumerate(variants)
        for j, v in enumerate(own)
        for node, weights in v.taught.items()
        for key, w in weights.items()
    }
    save_file(tensors, folder / "taught.safetensors")
    facts = [
        [
            {"block": v.block, "skipped": v.skipped, "loss": v.loss, "steps": v.steps, **Recipe(v.moves).json()}
            for v in own
        ]
        for own in variants
    ]
    write_json_atomic(folder / "variants.json", facts)


def load_variants(folder: Path) -> tuple[tuple[Variant, ...], ...]:
    taught: dict[tuple[int, int], dict[str, dict[str, npt.NDArray[np.float32]]]] = {}
    for name, tensor in load_file(folder / "taught.safetensors").items():
        k, j, rest = name.split("/", 2)
        node, key = rest.rsplit("/", 1)
        taught.setdefault((int(k), int(j)), {}).setdefault(node, {})[key] = tensor.numpy()
    return tuple(
        tuple(
            Variant(v["block"], Recipe.from_json(v).moves, v["skipped"], v["loss"], taught.get((k, j), {}), v["steps"])
            for j, v in enumerate(own)
        )
        for k, own in enumerate(read_json(folder / "variants.json"))
    )


def save_finished(folder: Path, finished: Finished) -> None:
    finished.integer.save(folder / "integer.json")
    finished.graph.save(folder / "graph.json")
    write_json_atomic(
        folder / "finished.json",
        {
            "id": finished.recipe_id,
            "val_accuracy": finished.val_accuracy,
            "val_interval": finished.val_interval,
            "costs": asdict(finished.costs),
            "curves": finished.curves,
        },
    )


def load_finished(folder: Path) -> Finished:
    data = read_json(folder / "finished.json")
    return Finished(
        data["id"],
        IntegerGraph.load(folder / "integer.json"),
        Graph.load(folder / "graph.json"),
        data["val_accuracy"],
        costs_from_json(data["costs"]),
        {k: tuple(v) for k, v in data["curves"].items()},
        _pair(data.get("val_interval")),
    )


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


def load_float_graph(run_dir: Path) -> Graph:
    """The float network from which a finished run's integer network was lowered.

    Raises `RunError` where the run's stages do not hold it (any more).
    """
    wanted = load_integer_graph(run_dir / "integer.json").digest
    for path in sorted((run_dir / "stages").glob("refine-*/graph.json")):
        try:
            if load_integer_graph(path.with_name("integer.json")).digest == wanted:
                graph = Graph.load(path)
                graph.validate()
                return graph
        except (ThumbnetError, KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, SafetensorError):
            continue  # damaged, or of an older version
    raise RunError(
        f"{run_dir} does not keep the float network of its result (in stages/refine-…).",
        "Run 'thumbnet optimize' again with the same arguments; it computes what is missing.",
    )
