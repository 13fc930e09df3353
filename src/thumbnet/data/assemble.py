"""Splits of any task from inputs and targets: checked, dealt where they are not yet, named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.data.dataset import SPLITS, Dataset, Decoded, Meaning, Split, dataset_of
from thumbnet.data.deal import deal
from thumbnet.data.targets import UNLABELLED
from thumbnet.errors import DataError

MAX_CLASSES = 254  # of masks: 255 means none


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and targets of some samples, before they are a split. Masks may be a list where their sizes differ."""

    source: Decoded
    targets: Decoded
    further_inputs: tuple[npt.NDArray[Any], ...] = ()
    further_targets: tuple[npt.NDArray[Any], ...] = ()

    def __len__(self) -> int:
        return len(self.source)

    def at(self, rows: npt.NDArray[np.intp]) -> Samples:
        return Samples(
            _taken(self.source, rows),
            _taken(self.targets, rows),
            tuple(x[rows] for x in self.further_inputs),
            tuple(y[rows] for y in self.further_targets),
        )

    def split(self, name: str) -> Split:
        return Split(name, self.source, self.targets, self.further_inputs, self.further_targets)  # type: ignore[arg-type]


def _taken(values: Decoded, rows: npt.NDArray[np.intp]) -> Decoded:
    return values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows.tolist()]


def assemble(
    parts: Mapping[str, Samples],
    *,
    meaning: Meaning,
    classes: Sequence[str] | None,
    name: str,
    notes: Sequence[str] = (),
) -> Dataset:
    """A data set from its splits. Anomaly detection trains on the normal samples of `train` alone; without `val`, half
    of `test` validates there."""
    found, told = dict(parts), list(notes)
    if meaning.task == "anomaly":
        found = _normal_only(found, name, told)
    names = tuple(classes) if classes else tuple(_numbered(meaning.task, found))
    _check_names(meaning.task, names, found, name)
    splits = {s: part.split(s) for s, part in found.items()}
    return dataset_of(splits, classes=names, name=name, notes=told, meaning=meaning)


def dealt(samples: Samples, *, task: str, name: str, seed: int) -> dict[str, Samples]:
    """70/15/15 by content; classes (and anomalies) alike in all parts, but no anomaly to train with."""
    sizes = {len(x) for x in (samples.targets, *samples.further_inputs, *samples.further_targets)}
    if sizes != {len(samples)}:
        other = next(s for s in sizes if s != len(samples))
        raise DataError(f"'{name}' has {len(samples)} inputs but {other} labels.", "Give one label per input.")
    contents = _contents(samples)
    labelled = task in ("classification", "anomaly")
    labels = np.asarray(samples.targets).tolist() if labelled else [0] * len(samples)
    part = np.array(deal(labels, contents, seed), np.int64)
    if task == "anomaly":
        odd = np.flatnonzero(np.asarray(samples.targets) == 1)
        halves = deal([1] * len(odd), [contents[i] for i in odd], seed, shares=(0.0, 0.5, 0.5))
        part[odd] = [max(1, p) for p in halves]
    return {split: samples.at(np.flatnonzero(part == k)) for k, split in enumerate(SPLITS)}


def _contents(samples: Samples) -> list[str]:
    """A digest per sample, of all its inputs."""
    found = [hashlib.sha256(np.ascontiguousarray(v).data) for v in samples.source]
    for array in samples.further_inputs:
        for digest, v in zip(found, array, strict=True):
            digest.update(np.ascontiguousarray(v).data)
    return [digest.hexdigest() for digest in found]


def _normal_only(parts: dict[str, Samples], name: str, notes: list[str]) -> dict[str, Samples]:
    train, test = parts.get("train"), parts.get("test")
    if train is not None and (odd := int((np.asarray(train.targets) == 1).sum())):
        notes.append(f"{odd} anomalies of train are left out: an auto-encoder learns from normal samples alone.")
        parts["train"] = train.at(np.flatnonzero(np.asarray(train.targets) == 0))
    if "val" not in parts and test is not None:
        contents = _contents(test)
        half = np.array(deal(np.asarray(test.targets).tolist(), contents, 0, shares=(0.0, 0.5, 0.5)), np.int64)
        notes.append(f"'{name}' has no labelled val split: half of test validates, the other half tests.")
        parts |= {"val": test.at(np.flatnonzero(half != 2)), "test": test.at(np.flatnonzero(half == 2))}
    for split in ("val", "test"):
        if split in parts and set(np.unique(np.asarray(parts[split].targets)).tolist()) != {0, 1}:
            raise DataError(
                f"The {split} split of '{name}' does not hold normal samples and anomalies.",
                "Both are needed to judge with: labels 0 and 1.",
            )
    return parts


def _numbered(task: str, parts: Mapping[str, Samples]) -> list[str]:
    """Names where the data has none: numbers."""
    targets = [p.targets for p in parts.values() if len(p)]
    if task == "classification":
        highest = max((int(np.asarray(y).max()) for y in targets), default=0)
    elif task == "segmentation":
        highest = max((int(m[m != UNLABELLED].max(initial=0)) for y in targets for m in y), default=0)
    elif task in ("multi-label", "regression"):
        first = np.asarray(parts["train"].targets) if "train" in parts else np.zeros((0, 1))
        highest = int(np.prod(first.shape[1:])) - 1
    else:
        return ["normal", "anomaly"] if task == "anomaly" else []
    return [str(k) for k in range(min(max(highest + 1, 0), 10_001))]


def _check_names(task: str, names: Sequence[str], parts: Mapping[str, Samples], name: str) -> None:
    if task == "segmentation":
        if not 2 <= len(names) <= MAX_CLASSES:
            raise DataError(
                f"The masks of '{name}' hold {len(names)} class{'' if len(names) == 1 else 'es'}.",
                f"Segmentation takes 2 to {MAX_CLASSES}; are the masks class numbers, such as 0, 1, 2?",
            )
        for split, part in parts.items():
            highest = max((int(m[m != UNLABELLED].max(initial=0)) for m in part.targets), default=0)
            if highest >= len(names):
                raise DataError(
                    f"The masks of the {split} split of '{name}' hold the class {highest} of {len(names)}.",
                    f"Number the classes 0 to {len(names) - 1}.",
                )
    if task in ("multi-label", "regression"):
        shapes = {np.asarray(p.targets).shape[1:] for p in parts.values()}
        if len(shapes) > 1:
            raise DataError(f"The targets of '{name}' have several shapes: {sorted(shapes)}.", "Give all alike.")
        if task == "multi-label" and shapes != {(len(names),)}:
            raise DataError(f"'{name}' has {len(names)} names for targets of shape {shapes}.", "Name every label.")


def with_masks_of(data: Dataset, size: tuple[int, int]) -> Dataset:
    """The data set with its masks at `size` (height, width), by the nearest pixel."""
    splits = [replace(s, labels=np.stack([_resized(m, size) for m in s.labels])) for s in data.splits]
    return replace(data, train=splits[0], val=splits[1], test=splits[2])


def _resized(mask: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if mask.shape == size:
        return mask
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(np.intp) for n, m in zip(size, mask.shape, strict=True))
    return np.asarray(mask[rows[:, None], columns])
