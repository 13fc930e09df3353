"""Python objects that yield (input, target) pairs, as data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.data import arrays as limits
from thumbnet.data.arrays import typed
from thumbnet.data.assemble import Samples, assemble, dealt
from thumbnet.data.dataset import SPLITS, Dataset, Decoded, Meaning
from thumbnet.data.targets import read_targets
from thumbnet.errors import DataError

Pixels = npt.NDArray[Any]


def from_splits(splits: Mapping[str, Iterable[Any]], *, name: str = "pairs", task: str | None = None) -> Dataset:
    """A data set from `{"train": pairs, "val": pairs, "test": pairs}`, each an iterable of (input, target)."""
    kind = task or "classification"
    collected = {s: _collected(splits[s], f"{name}, {s}", kind) for s in SPLITS if s in splits}
    meaning = next(m for _, m in collected.values())
    if any(m != meaning for _, m in collected.values()):
        raise DataError(f"The splits of '{name}' have different inputs or targets.", "Give all the same.")
    return assemble({s: part for s, (part, _) in collected.items()}, meaning=meaning, classes=None, name=name)


def from_pairs(pairs: Iterable[Any], *, name: str = "pairs", seed: int = 0, task: str | None = None) -> Dataset:
    """A data set from an iterable of (input, target), dealt 70/15/15.

    Inputs: Pillow images, arrays [H, W] or [H, W, C], or torch tensors, whose channels come first. uint8 images may
    differ in size. Several inputs, or targets, are a tuple or dict. Targets: whole numbers, or for other tasks than
    classification numbers and arrays of one shape.
    """
    samples, meaning = _collected(pairs, name, task or "classification")
    parts = dealt(samples, task=meaning.task, name=name, seed=seed)
    return assemble(parts, meaning=meaning, classes=None, name=name)


def _collected(pairs: Iterable[Any], name: str, task: str) -> tuple[Samples, Meaning]:
    inputs: list[tuple[Pixels, ...]] = []
    targets: list[tuple[Pixels, ...]] = []
    meaning, size = Meaning(task), 0
    for k, pair in enumerate(_items(pairs)):
        x, y, names = _pair(pair, k, name, task)
        size += sum(v.nbytes for v in (*x, *(y if task != "classification" else ())))
        if size > limits.MAX_BYTES or k >= limits.MAX_ITEMS:
            raise DataError(f"'{name}' yields more than 4 GB or 5 million inputs.", "Use a part of them.")
        if inputs and (len(x), len(y), names) != (
            len(inputs[0]),
            len(targets[0]),
            (meaning.input_names, meaning.target_names),
        ):
            raise DataError(f"Item {k} of '{name}' has other inputs or targets than item 0.", "Yield all alike.")
        meaning = Meaning(task, *names)
        inputs.append(x)
        targets.append(y)
    if not inputs:
        raise DataError(f"'{name}' yields nothing.", "Yield (input, label) pairs.")
    first: Decoded = [x[0] for x in inputs]
    further_x = tuple(_stacked([x[k] for x in inputs], f"input {k}", name) for k in range(1, len(inputs[0])))
    wanted = [_targets([t[k] for t in targets], task, name) for k in range(len(targets[0]))]
    return Samples(first, wanted[0], further_x, tuple(v for v in wanted[1:] if isinstance(v, np.ndarray))), meaning


def _targets(values: list[Pixels], task: str, name: str) -> Decoded:
    """One array; masks of several sizes as a list."""
    what = f"of '{name}'"
    if task == "segmentation" and len({v.shape for v in values}) > 1:
        return [read_targets(v[None], what, task)[0] for v in values]
    return read_targets(_stacked(values, "target", name), what, task)


def _stacked(values: list[Pixels], what: str, name: str) -> Pixels:
    odd = next((k for k, v in enumerate(values) if v.shape != values[0].shape), None)
    if odd is not None:
        raise DataError(
            f"The {what} of item {odd} of '{name}' has shape {values[odd].shape}, that of item 0 {values[0].shape}.",
            "Give all of one shape.",
        )
    return np.stack(values)


def _items(pairs: Iterable[Any]) -> Iterator[Any]:
    """Sequences by index, up to their length: a torch `Dataset` need not end its iteration by itself."""
    sequence: Any = pairs
    if hasattr(sequence, "__getitem__") and hasattr(sequence, "__len__"):
        return (sequence[k] for k in range(len(sequence)))
    return iter(pairs)


Names = tuple[tuple[str, ...], tuple[str, ...]]


def _pair(pair: Any, k: int, name: str, task: str) -> tuple[tuple[Pixels, ...], tuple[Pixels, ...], Names]:
    if not isinstance(pair, Sequence) or isinstance(pair, str | bytes) or len(pair) != 2:
        raise DataError(
            f"Item {k} of '{name}' is a {type(pair).__name__}, not an (input, label) pair.",
            "Yield pairs of array and int.",
        )
    x, y = pair
    inputs, input_names = _ports(x)
    given, own_names = ((y,), ()) if task == "classification" else _ports(y)
    targets = tuple(_class_number(v, k, name) if task == "classification" else _number(v) for v in given)
    target_names = () if all(n.isdigit() for n in own_names) else own_names
    names = (input_names if len(inputs) > 1 else (), target_names)
    return tuple(_image(v, k, name) for v in inputs), targets, names


def _ports(value: Any) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Several values with their names (numbers in a tuple), or one without a name."""
    if isinstance(value, Mapping):
        return tuple(value.values()), tuple(map(str, value))
    if isinstance(value, tuple):
        return value, tuple(str(k) for k in range(len(value)))
    return (value,), ()


def _class_number(label: Any, k: int, name: str) -> Pixels:
    number = np.asarray(label)
    if number.size != 1 or not np.issubdtype(number.dtype, np.integer):
        raise DataError(
            f"The label of item {k} of '{name}' is {str(label)[:40]!r}, not a whole number.",
            "Number the classes from 0, or say the task: 'regression', 'segmentation', ….",
        )
    return number.reshape(()).astype(np.int64)


def _number(value: Any) -> Pixels:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _image(x: Any, k: int, name: str) -> Pixels:
    """As [H, W, C]."""
    if getattr(x, "mode", "L") not in ("L", "RGB") and hasattr(x, "convert"):
        raise DataError(f"Item {k} of '{name}' is an image of mode {x.mode}.", "Convert it to L or RGB first.")
    channels_first = hasattr(x, "detach")  # a torch tensor
    value = np.asarray(x.detach().cpu() if channels_first else x)
    if value.ndim in (1, 2):
        value = np.atleast_2d(value)[..., None]
    elif value.ndim == 3 and channels_first:
        value = value.transpose(1, 2, 0)
    if value.ndim != 3:
        raise DataError(f"Item {k} of '{name}' has shape {value.shape}.", "Give (height, width, channels).")
    return typed(value, f"item {k}", name)
