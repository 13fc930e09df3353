"""Where a network and its data meet: which array feeds which input, and whether targets are what it answers."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from thumbnet.data import Dataset, Preprocessing, Split, Task
from thumbnet.data.assemble import with_masks_of
from thumbnet.data.tasks.custom import End, Owned
from thumbnet.errors import DataError, ModelError, UsageError
from thumbnet.graph.graph import Graph, Node, Shape
from thumbnet.graph.ops.activation import Softmax
from thumbnet.graph.passes.drop_final_softmax import SOFTMAX, drop_final
from thumbnet.importers.imported import Imported
from thumbnet.importers.load import load_imported
from thumbnet.training.images import Images

_COMPARED = 32  # real inputs
_ENDS = {  # by task: what is left out where an output is computed by it, since losses are of logits
    "classification": SOFTMAX,
    "multi-label": ("sigmoid",),
    "segmentation": (*SOFTMAX, "sigmoid"),
}
_NOT_THE_END = {"multi-label": (*SOFTMAX, "sigmoid"), "segmentation": (*SOFTMAX, "sigmoid")}


def load_reference(
    model: Any, data: Dataset, input_size: tuple[int, int] | None, weights: str | Path | None
) -> Imported:
    """The float graph of a model, compared with the model.

    A module in code gets its inputs' shapes from the data where that tells them: arrays have one, and several inputs.
    """
    in_code = isinstance(model, nn.Module) or (isinstance(model, str) and ":" in model and not Path(model).exists())
    if data.input_names and in_code:
        return load_imported(model, input_shape=_input_shapes(model, data), weights=weights)
    if input_size is None and data.kind == "array" and in_code:
        return _for_arrays(model, data, weights)
    shape = None if input_size is None else (data.channels, *input_size)
    return load_imported(model, input_shape=shape, weights=weights)


def _for_arrays(model: Any, data: Dataset, weights: str | Path | None) -> Imported:
    """A module for float arrays: their shape is its input's. A single row may be a vector, or an image of one row."""
    whole = (data.channels, *data.native_size)
    if whole[0] == whole[1] == 1:
        try:
            return load_imported(model, input_shape=whole[2:], weights=weights)
        except ModelError:  # it takes rows of pixels
            pass
    return load_imported(model, input_shape=whole, weights=weights)


def _input_shapes(model: Any, data: Dataset) -> list[Shape]:
    """By name where the module's arguments are called as the data's inputs, else in their order."""
    arrays = [np.asarray(data.train.source[0]), *(x[0] for x in data.train.further_inputs)]
    shapes = [_network_shape(x.shape) for x in arrays]
    if not isinstance(model, nn.Module):
        return shapes
    named = dict(zip(data.input_names, shapes, strict=True))
    parameters = tuple(inspect.signature(model.forward).parameters)
    return [named[p] for p in parameters] if set(parameters) == set(named) else shapes


def _network_shape(shape: Shape) -> Shape:
    """(height, width, channels) as the network has it: a single row of single values is a vector."""
    height, width, channels = shape
    return (width,) if height == channels == 1 else (channels, height, width)


def in_order(data: Dataset, graph: Graph) -> Dataset:
    """The data set with its inputs in the graph's order: by their names where these are the graph's, else as given."""
    count = max(1, len(data.input_names))
    if count != len(graph.inputs):
        raise DataError(
            f"The model takes {len(graph.inputs)} input(s), the data has {count}.",
            f"The model's are {', '.join(i.name for i in graph.inputs)}; see docs/tasks.md for several.",
        )
    names = [i.name for i in graph.inputs]
    if count == 1 or set(names) != set(data.input_names) or names == list(data.input_names):
        return data
    order = [data.input_names.index(n) for n in names]
    splits = [_reordered(s, order) for s in data.splits]
    kind: Any = "image" if splits[0].source[0].dtype == np.uint8 else "array"
    height, width, channels = splits[0].source[0].shape
    return replace(
        data,
        train=splits[0],
        val=splits[1],
        test=splits[2],
        kind=kind,
        channels=channels,
        native_size=(height, width),
        meaning=replace(data.meaning, input_names=tuple(names)),
    )


def _reordered(split: Split, order: list[int]) -> Split:
    source = split.source if isinstance(split.source, np.ndarray) else np.stack(list(split.source))
    arrays = [source, *split.further_inputs]
    first, *others = (arrays[k] for k in order)
    return Split(split.name, first, split.labels, tuple(others), split.further_targets)


def preprocessing_of(
    graph: Graph, data: Dataset, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Preprocessing:
    """How samples become the network's inputs. Raises `DataError` where they do not fit."""
    further = []
    for k, array in enumerate(data.train.further_inputs):
        span = None if array.dtype == np.uint8 else (float(array.min()), float(array.max()))
        made = _one(graph.inputs[k + 1].shape, array.shape[1:], span, None, None)
        if made.size != array.shape[1:3]:
            raise DataError(
                f"The model's input '{graph.inputs[k + 1].name}' is {made.size[0]} × {made.size[1]}, the data's "
                f"{array.shape[1]} × {array.shape[2]}.",
                "Only the first of several inputs is resized.",
            )
        further.append(made)
    if data.value_range is not None and (mean is not None or std is not None):
        raise UsageError(
            "mean and std are for uint8 images; this data is float arrays.",
            "Leave them out: values go in as they are.",
        )
    own = (*data.native_size, data.channels)
    first = _one(graph.inputs[0].shape, own, data.value_range, mean, std)
    return replace(first, further=tuple(further))


def _one(
    shape: Shape,
    own: Shape,
    value_range: tuple[float, float] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Preprocessing:
    """Of one input; `own` is the data's (height, width, channels)."""
    vector = len(shape) == 1
    if vector and own != (1, shape[0], 1):
        raise DataError(
            f"The model takes {shape[0]} values, the data has (height, width, channels) = {own}.",
            "Give arrays [N, length].",
        )
    if not vector and (len(shape) != 3 or shape[0] != own[2]):
        raise DataError(
            f"The model takes (channels, height, width) = {shape}, the data has {own[2]} channel(s).",
            "Convert the images or use a model for that many channels.",
        )
    size, channels = ((1, shape[0]), 1) if vector else ((shape[1], shape[2]), shape[0])
    if value_range is not None:
        return replace(Preprocessing.of_array(size, channels, value_range), vector=vector)
    # Moved to the int8 grid (by less than half a pixel value), so that training and firmware see the same inputs.
    made = Preprocessing(size, channels, _per_channel(mean, channels), _per_channel(std, channels)).on_grid()
    return replace(made, vector=vector)


def _per_channel(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...]:
    if values is None:
        return (0.5,) * channels
    if len(values) not in (1, channels):
        raise UsageError(f"mean and std need one value or {channels}, not {len(values)}.")
    return tuple(values) * channels if len(values) == 1 else tuple(values)


def real_inputs(data: Dataset, preprocessing: Preprocessing) -> list[npt.NDArray[np.float32]]:
    """Some training samples as the network sees them, an array for each input: for the comparison of an import."""
    split = data.train
    some = np.linspace(0, len(split) - 1, min(_COMPARED, len(split))).round().astype(int)
    chosen = Split(
        split.name,
        [split.source[k] for k in some],
        split.labels[some],
        tuple(x[some] for x in split.further_inputs),
        tuple(y[some] for y in split.further_targets),
    )
    return [x.numpy() for x in Images.of(chosen, preprocessing).inputs(slice(None))]


def with_fitting_masks(data: Dataset, graph: Graph) -> Dataset:
    """Masks at the size of the network's answer; classes that no mask holds get numbers as names, as the others."""
    shape = graph.shapes[graph.outputs[0]]
    if data.task != "segmentation" or len(shape) != 3:
        return data
    if shape[0] > len(data.classes) and data.classes == tuple(str(k) for k in range(len(data.classes))):
        data = replace(data, classes=tuple(str(k) for k in range(shape[0])))
    return with_masks_of(data, (shape[1], shape[2]))


def check_fit(task: Task, data: Dataset, graph: Graph) -> None:
    """Raises `DataError` or `ModelError` where the targets cannot be what the network answers."""
    outputs = [graph.shapes[v] for v in graph.outputs]
    targets = [np.asarray(y).shape[1:] for y in (data.train.labels, *data.train.further_targets)]
    task.check(outputs, targets, [i.shape for i in graph.inputs])
    refused = _NOT_THE_END.get(task.name, () if task.name == "classification" else SOFTMAX)
    for value in graph.outputs:
        node = graph.by_name.get(value)
        if node is not None and node.op in refused:
            raise ModelError(
                f"The model ends in a {node.op} ('{value}'); the task {task.name} takes what comes before it.",
                "Leave it out of the model, and do what it did in your loss, metric and application.",
            )


def without_ends(task: Task, graph: Graph) -> tuple[Task, Graph, str]:
    """The network that ends in logits where the task wants them, what that means for the task, and what to tell of it.

    Metrics of the tasks are the same for logits (the largest class, the order of scores, one half); the user's own loss
    and metric get what the model gave, since what is left out is put behind the logits for them. A softmax at the end
    of a classifier stays for now: the reference's answers are its own, and every clean-up takes it away.
    """
    own = isinstance(task, Owned)
    if task.name == "classification" and not own:
        return task, graph, ""
    both = isinstance(task, Owned) and task.own_loss is not None and task.own_metric is not None
    made, gone = drop_final(graph, _ENDS.get(task.name, SOFTMAX if both else ()))
    left = [n for n in gone if n is not None]
    if not left:
        return task, graph, ""
    what = " and ".join(dict.fromkeys(f"the {n.op.replace('_', '-')}" for n in left))
    told = f"{what[0].upper()}{what[1:]} at the end is left out: the network found gives logits"
    if isinstance(task, Owned):
        task = replace(task, ends=tuple(None if n is None else _end(n) for n in gone))
        told += "; your own functions get them with it"
    return task, made, f"{told}. See docs/tasks.md."


def _end(node: Node) -> End:
    return End(node.op, 0 if node.op == "sigmoid" else Softmax.axis(node))
