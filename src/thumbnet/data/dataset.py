"""Data sets in memory: three splits of images and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from thumbnet.errors import DataError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Decoded = npt.NDArray[Any] | Sequence[Pixels]  # one array, or a list where image sizes differ

MAX_CACHED_SIZES = 3


@dataclass(frozen=True, eq=False)
class Split:
    """Images (or other arrays) with their labels, resized on request."""

    name: str
    source: Decoded
    labels: Labels
    _resized: dict[tuple[int, int], npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, size: tuple[int, int]) -> npt.NDArray[Any]:
        """[N, height, width, C] at this (height, width); uint8 images by PIL's antialiased bilinear filter."""
        if size not in self._resized:
            while len(self._resized) >= MAX_CACHED_SIZES:
                self._resized.pop(next(iter(self._resized)))
            self._resized[size] = self._resize(size)
        return self._resized[size]

    def _resize(self, size: tuple[int, int]) -> npt.NDArray[Any]:
        if isinstance(self.source, np.ndarray) and self.source.shape[1:3] == size:
            return self.source
        if len(self.source) and self.source[0].dtype != np.uint8:
            raise DataError(
                f"Arrays of shape {self.source[0].shape} cannot be resized to {size}.",
                "Only uint8 images can.",
            )
        return np.stack([_resize_image(image, size) for image in self.source])


def _resize_image(image: Pixels, size: tuple[int, int]) -> Pixels:
    grey = image.shape[-1] == 1
    picture = Image.fromarray(image[..., 0] if grey else image)
    resized = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return resized[..., None] if grey else resized


@dataclass(frozen=True, eq=False)
class Dataset:
    """A classification data set. `licence` is shown when the data is used."""

    name: str
    classes: tuple[str, ...]
    channels: int
    native_size: tuple[int, int]  # of the first image
    kind: Literal["image", "array"]
    train: Split
    val: Split
    test: Split
    licence: str | None = None

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        return (self.train, self.val, self.test)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over classes, pixels, labels and their order."""
        h = hashlib.sha256(repr(self.classes).encode())
        for split in self.splits:
            h.update(split.name.encode())
            h.update(split.labels.tobytes())
            for image in split.source:
                h.update(repr(image.shape).encode())
                h.update(np.ascontiguousarray(image).data)
        return h.hexdigest()


def dataset_from_arrays(
    parts: Mapping[str, tuple[Decoded, npt.NDArray[np.integer[Any]]]],
    *,
    classes: Sequence[str],
    name: str = "arrays",
    licence: str | None = None,
) -> Dataset:
    """A data set from decoded splits `{"train": (images, labels), "val": ..., "test": ...}`.

    Images are uint8 [N, H, W, C] (or a list of [H, W, C] of different sizes), other inputs float32 [N, H, W, C].
    Raises `DataError` where counts differ, a split is empty or lacks a class, labels are out of range, or values are
    not finite.
    """
    if len(classes) < 2:
        raise DataError(
            f"'{name}' has {len(classes)} class ({', '.join(classes)}).",
            "Classification needs at least two classes.",
        )
    splits: dict[str, Split] = {}
    for part in ("train", "val", "test"):
        if part not in parts:
            raise DataError(f"'{name}' has no {part} split.", "Give train, val and test.")
        source, labels = parts[part]
        _check(name, part, source, labels, classes)
        splits[part] = Split(part, source, np.asarray(labels, np.int64))
    first = splits["train"].source[0]
    kind: Literal["image", "array"] = "image" if first.dtype == np.uint8 else "array"
    height, width, channels = first.shape
    return Dataset(
        name,
        tuple(classes),
        channels,
        (height, width),
        kind,
        splits["train"],
        splits["val"],
        splits["test"],
        licence,
    )


def _check(name: str, part: str, source: Decoded, labels: npt.NDArray[Any], classes: Sequence[str]) -> None:
    where = f"The {part} split of '{name}'"
    if len(source) != len(labels):
        raise DataError(f"{where} has {len(source)} inputs but {len(labels)} labels.", "Give one label per input.")
    if len(source) == 0:
        raise DataError(f"{where} is empty.", "Every split needs examples of every class.")
    present = set(np.unique(labels).tolist())
    if not present <= set(range(len(classes))):
        raise DataError(f"{where} has labels {sorted(present)}; they must lie in 0..{len(classes) - 1}.")
    missing = [c for k, c in enumerate(classes) if k not in present]
    if missing:
        raise DataError(f"{where} has no example of class '{missing[0]}'.", "Every split needs every class.")
    first = source[0]
    if first.ndim != 3 or any(image.shape[2] != first.shape[2] for image in source):
        raise DataError(f"{where} must hold inputs of shape (height, width, channels), all with the same channels.")
    if first.dtype != np.uint8 and not all(np.isfinite(image).all() for image in source):
        raise DataError(f"{where} holds values that are not finite.", "Remove NaN and infinity from the inputs.")
