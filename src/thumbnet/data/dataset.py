"""Data sets in memory: three splits of inputs and targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from thumbnet.errors import DataError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Targets = npt.NDArray[Any]  # class numbers int64 [N], masks uint8 [N, H, W], or numbers of any fixed shape
Decoded = npt.NDArray[Any] | Sequence[npt.NDArray[Any]]  # one array, or a list where image sizes may differ

SPLITS = ("train", "val", "test")
MAX_CACHED_SIZES = 3
MAX_CLASSES = 10_000
MAX_CHANNELS = 64


@dataclass(frozen=True, eq=False)
class Split:
    """Images (or other arrays) with their labels, resized on request. The arrays are shared: do not write into them.

    `labels` are the targets, whatever the task; masks may be a list where their sizes differ. `further_inputs`
    [N, H, W, C] and `further_targets` [N, ...] are those besides the first.
    """

    name: str
    source: Decoded
    labels: Targets
    further_inputs: tuple[npt.NDArray[Any], ...] = ()
    further_targets: tuple[Targets, ...] = ()
    _resized: dict[tuple[int, int], npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, size: tuple[int, int]) -> npt.NDArray[Any]:
        """[N, height, width, C] at this (height, width), the aspect ratio not kept; the last three sizes are cached.

        uint8 images by Pillow's antialiased bilinear filter. Float arrays exist at their own size only: raises
        `DataError` for any other.
        """
        size = (int(size[0]), int(size[1]))
        if size not in self._resized:
            while len(self._resized) >= MAX_CACHED_SIZES:
                self._resized.pop(next(iter(self._resized)))
            self._resized[size] = self._resize(size)
        return self._resized[size]

    def _resize(self, size: tuple[int, int]) -> npt.NDArray[Any]:
        if isinstance(self.source, np.ndarray) and self.source.shape[1:3] == size:
            return self.source
        first = self.source[0]
        if first.dtype != np.uint8 and first.shape[:2] != size:
            raise DataError(
                f"Inputs of {first.shape[0]} × {first.shape[1]} values cannot be resized to {size[0]} × {size[1]}.",
                "Only uint8 images can: use a model for inputs of the data's size.",
            )
        out = np.empty((len(self.source), *size, first.shape[2]), first.dtype)
        for k, image in enumerate(self.source):
            out[k] = image if image.shape[:2] == size else _resize_image(image, size)
        return out


def _resize_image(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Pillow takes grey or RGB; other channel counts go one by one, which is the same filter."""
    to = (size[1], size[0])
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize(to, Image.Resampling.BILINEAR))
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
    return np.stack([np.asarray(p.resize(to, Image.Resampling.BILINEAR)) for p in planes], axis=-1)


@dataclass(frozen=True)
class Meaning:
    """What the targets of a data set are, and the names of inputs and targets where there are several."""

    task: str = "classification"
    input_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set for one task.

    `kind` is "image" (uint8, any size) or "array" (float32, one size), of the first input. `classes` names classes,
    labels, or the numbers of a regression. `licence` and `notes` are shown when the data is used: `notes` tell what was
    decided on loading, or looks wrong. `input_names` is empty where there is one input, `target_names` where targets
    have no names.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    native_size: tuple[int, int]  # (height, width); the medians where images differ
    kind: Literal["image", "array"]
    train: Split
    val: Split
    test: Split
    licence: str | None = None
    notes: tuple[str, ...] = ()
    meaning: Meaning = Meaning()

    @property
    def task(self) -> str:
        return self.meaning.task

    @property
    def input_names(self) -> tuple[str, ...]:
        return self.meaning.input_names

    @property
    def target_names(self) -> tuple[str, ...]:
        return self.meaning.target_names

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        return (self.train, self.val, self.test)

    @cached_property
    def value_range(self) -> tuple[float, float] | None:
        """(lowest, highest) value of the training inputs; None for images, whose pixels span 0..255 by definition."""
        if self.kind == "image":
            return None
        return min(float(x.min()) for x in self.train.source), max(float(x.max()) for x in self.train.source)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over classes, pixels, labels and their order."""
        h = hashlib.sha256(repr(self.classes).encode())
        for split in self.splits:
            h.update(split.name.encode())
            _add(h, split.labels, described=self.task != "classification")
            for image in split.source:
                h.update(repr((image.shape, str(image.dtype))).encode())
                h.update(np.ascontiguousarray(image).data)
            for array in (*split.further_inputs, *split.further_targets):
                _add(h, array)
        if self.meaning != Meaning():
            h.update(repr(self.meaning).encode())
        return h.hexdigest()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{s.name} {len(s)}" for s in self.splits)
        height, width = self.native_size
        what = f"{len(self.classes)} classes" if self.task == "classification" else self.task
        return f"<Dataset {self.name}: {what}, {sizes}, {height} × {width} × {self.channels}>"


def _add(h: Any, array: Decoded, *, described: bool = True) -> None:
    if not isinstance(array, np.ndarray):
        for item in array:
            _add(h, item)
        return
    if described:
        h.update(repr((array.shape, str(array.dtype))).encode())
    h.update(np.ascontiguousarray(array).tobytes())


CLASSIFIES = Meaning()


def dataset_from_arrays(
    parts: Mapping[str, tuple[Decoded, npt.NDArray[np.integer[Any]]]],
    *,
    classes: Sequence[str],
    name: str = "arrays",
    licence: str | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    """A classification data set from decoded splits `{"train": (images, labels), "val": ..., "test": ...}`.

    Images are uint8 [N, H, W, C] (or a list of [H, W, C] of different sizes), other inputs float32 [N, H, W, C].
    Raises `DataError` where counts differ, a split is empty or lacks a class, labels are out of range, or values are
    not finite.
    """
    splits = {s: Split(s, x, np.asarray(y)) for s, (x, y) in parts.items()}
    return dataset_of(splits, classes=classes, name=name, licence=licence, notes=notes)


def dataset_of(
    splits: Mapping[str, Split],
    *,
    classes: Sequence[str],
    name: str,
    licence: str | None = None,
    notes: Sequence[str] = (),
    meaning: Meaning = CLASSIFIES,
) -> Dataset:
    """A data set of any task, from its splits. Raises `DataError` as `dataset_from_arrays` does; targets besides class
    numbers have been checked by who made them."""
    if meaning.task == "classification":
        _check_classes(name, classes)
    for part in SPLITS:
        if part not in splits:
            raise DataError(f"'{name}' has no {part} split.", "Give train, val and test.")
        if meaning.task == "classification":
            _check_labels(name, part, splits[part].source, splits[part].labels, classes)
        _check_counts(name, part, splits[part])
    first = splits["train"].source[0]
    for part in SPLITS:
        _check_inputs(name, part, splits[part].source, first)
        for k, array in enumerate(splits[part].further_inputs):
            _check_inputs(name, part, array, splits["train"].further_inputs[k][0])
    if meaning.task == "classification":
        splits = {k: replace(v, labels=np.asarray(v.labels, np.int64)) for k, v in splits.items()}
    train, val, test = (splits[s] for s in SPLITS)
    kind: Literal["image", "array"] = "image" if first.dtype == np.uint8 else "array"
    height, width = (int(v) for v in np.median([x.shape[:2] for x in train.source], axis=0))
    size, facts = (height, width), (licence, tuple(notes), meaning)
    return Dataset(name, tuple(classes), first.shape[2], size, kind, train, val, test, *facts)


def _check_counts(name: str, part: str, split: Split) -> None:
    where = f"The {part} split of '{name}'"
    for what, arrays in (("inputs", split.further_inputs), ("targets", (split.labels, *split.further_targets))):
        for array in arrays:
            if len(array) != len(split.source):
                raise DataError(
                    f"{where} has {len(split.source)} inputs but {len(array)} {what} of another kind.",
                    "Give one of each for every sample.",
                )
    if len(split.source) == 0:
        raise DataError(f"{where} is empty.", "Every split needs examples.")


def _check_classes(name: str, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DataError(
            f"'{name}' has {len(classes)} class ({', '.join(classes)}).",
            "Classification needs at least two classes.",
        )
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"'{name}' has {len(classes)} classes.", "At most 10,000 are supported; are the labels class numbers?"
        )
    if len(set(classes)) < len(classes):
        raise DataError(f"'{name}' has two classes of one name.", "Give every class its own name.")


def _check_labels(name: str, part: str, source: Decoded, labels: npt.NDArray[Any], classes: Sequence[str]) -> None:
    where = f"The {part} split of '{name}'"
    if len(source) != len(labels):
        raise DataError(f"{where} has {len(source)} inputs but {len(labels)} labels.", "Give one label per input.")
    if len(source) == 0:
        raise DataError(f"{where} is empty.", "Every split needs examples of every class.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise DataError(
            f"{where} has labels from {low} to {high} for {len(classes)} classes.",
            f"Number the classes 0 to {len(classes) - 1}.",
        )
    missing = sorted(set(range(len(classes))) - set(np.unique(labels).tolist()))
    if missing:
        raise DataError(
            f"{where} has no example of class '{classes[missing[0]]}'.",
            "Every split needs every class; labels count from 0 without gaps.",
        )


def _check_inputs(name: str, part: str, source: Decoded, first: npt.NDArray[Any]) -> None:
    where = f"The {part} split of '{name}'"
    if first.ndim != 3 or 0 in first.shape or first.shape[2] > MAX_CHANNELS:
        raise DataError(
            f"{where} holds inputs of shape {first.shape}.",
            f"They must be (height, width, channels) with at most {MAX_CHANNELS} channels.",
        )
    for k, x in enumerate(source):
        fits = x.ndim == 3 and x.dtype == first.dtype and x.shape[2] == first.shape[2] and 0 not in x.shape
        if not fits or (x.dtype != np.uint8 and x.shape != first.shape):
            raise DataError(
                f"{where} holds an input (number {k}) of shape {x.shape} and type {x.dtype}, "
                f"where the first of train is {first.shape} and {first.dtype}.",
                "Only the height and width of uint8 images may differ.",
            )
        if x.dtype != np.uint8 and not np.isfinite(x).all():
            raise DataError(
                f"{where} holds an input (number {k}) with values that are not finite.", "Remove NaN and infinity."
            )
