"""Folders for every task: classes, masks, tables of targets, normal and odd samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.data.assemble import Samples, assemble, dealt
from thumbnet.data.dataset import SPLITS, Dataset, Meaning
from thumbnet.data.deal import deal
from thumbnet.data.folder import ALIASES, File, folders_in, images_in, load_folder, short_side
from thumbnet.data.images import Header, read_header, read_image, read_mask
from thumbnet.data.table import TABLE, read_table
from thumbnet.data.targets import read_targets
from thumbnet.errors import DataError

NORMAL = ("good", "normal", "ok")  # names of the class folder of normal samples, where train does not tell
_LAYOUTS = {
    "segmentation": "Give images/ and masks/ with files of equal names, directly or in train/, val/ and test/.",
    "table": f"Give the images and a {TABLE} (file, value, …), directly or in train/, val/ and test/.",
}


def load_any_folder(folder: Path, seed: int = 0, task: str | None = None) -> Dataset:
    """The data set of a folder.

    Without `task`: images/ and masks/ are for segmentation, a targets.csv is for regression (or for multi-label
    classification, where it holds several columns of nothing but 0 and 1), everything else has class folders.
    Raises `DataError` naming the folder or file that does not fit.
    """
    if not folder.is_dir():
        raise DataError(f"The data folder {folder} does not exist.", "Give a folder with one subfolder per class.")
    if task == "segmentation" or (task is None and _roots(folder, _has_masks)):
        return _load_masks(folder, seed)
    if task in ("regression", "multi-label", "custom") or (task is None and _roots(folder, _has_table)):
        return _load_table(folder, seed, task)
    return _load_anomalies(folder, seed) if task == "anomaly" else load_folder(folder, seed)


@dataclass(frozen=True)
class _Item:
    path: Path
    header: Header
    target: Any  # the path of a mask, or a row of numbers


def _has_masks(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def _has_table(folder: Path) -> bool:
    return (folder / TABLE).is_file()


def _roots(folder: Path, is_root: Callable[[Path], bool]) -> dict[str, Path]:
    """The folders that hold data: the folder itself under "", or those of its splits."""
    if is_root(folder):
        return {"": folder}
    named = {p.name.lower(): p for p in folders_in(folder)}
    found = {s: named[n] for s, names in ALIASES.items() for n in names if n in named}
    return {s: p for s, p in found.items() if is_root(p)}


def _load_masks(folder: Path, seed: int) -> Dataset:
    notes: list[str] = []
    parts = _split(_roots(folder, _has_masks), _masked, folder, "segmentation", seed, notes)
    read, side = _reader(folder, parts, notes)
    samples: dict[str, Samples] = {}
    for split, items in parts.items():
        images = [read(i) for i in items]
        masks = [read_mask(i.target, side) for i in items]
        for item, image, mask in zip(items, images, masks, strict=True):
            if image.shape[:2] != mask.shape:
                raise DataError(
                    f"The mask {item.target} has {mask.shape[0]} × {mask.shape[1]} pixels, its image "
                    f"{image.shape[0]} × {image.shape[1]}.",
                    "Masks need their images' size.",
                )
        samples[split] = Samples(images, masks)
    return assemble(samples, meaning=Meaning("segmentation"), classes=None, name=folder.resolve().name, notes=notes)


def _masked(folder: Path) -> list[_Item]:
    masks = {p.stem: p for p in images_in(folder / "masks", "The folder")}
    items = []
    for path in images_in(folder / "images", "The folder"):
        if path.stem not in masks:
            raise DataError(f"The image {path} has no mask.", f"Add {folder / 'masks' / path.stem}.png, or remove it.")
        items.append(_Item(path, read_header(path), masks[path.stem]))
    return items


def _load_table(folder: Path, seed: int, task: str | None) -> Dataset:
    notes: list[str] = []
    columns: list[tuple[str, ...]] = []

    def rows(root: Path) -> list[_Item]:
        names, found = read_table(root / TABLE)
        columns.append(names)
        return [_Item(path, read_header(path), values) for path, values in found]

    parts = _split(_roots(folder, _has_table), rows, folder, "table", seed, notes)
    if len(set(columns)) > 1:
        raise DataError(f"The {TABLE} of the splits of {folder} have other columns.", "Give all the same.")
    kind = task or _told_by([i.target for items in parts.values() for i in items], folder, notes)
    read, _ = _reader(folder, parts, notes)
    samples = {}
    for split, items in parts.items():
        values = np.array([i.target for i in items], np.float64)
        samples[split] = Samples([read(i) for i in items], read_targets(values, f"of {folder}", kind))
    return assemble(samples, meaning=Meaning(kind), classes=columns[0], name=folder.resolve().name, notes=notes)


def _told_by(rows: Sequence[Sequence[float]], folder: Path, notes: list[str]) -> str:
    """The task that the numbers of a table leave no doubt about."""
    binary = all(v in (0.0, 1.0) for row in rows for v in row)
    if binary and len(rows[0]) == 1:
        raise DataError(
            f"The {TABLE} of {folder} holds one column of 0 and 1: that may be a number or a label.",
            "Say which: --task regression or multi-label; for two classes make class folders.",
        )
    kind = "multi-label" if binary else "regression"
    notes.append(f"{folder} is taken as data for {kind}, by what its {TABLE} holds; --task says otherwise.")
    return kind


def _load_anomalies(folder: Path, seed: int) -> Dataset:
    """`train/<normal>`, `test/<normal>`, `test/<defect>`, …, as MVTec AD has them; or class folders to be dealt."""
    notes: list[str] = []
    named = {p.name.lower(): p for p in folders_in(folder)}
    found = {s: named[n] for s, names in ALIASES.items() for n in names if n in named and folders_in(named[n])}
    if found and not {"train", "test"} <= set(found):
        raise DataError(f"{folder} lacks a train or a test folder.", "Give train/good, test/good and test/<defect>.")
    root = found.get("train", folder)
    classes = [p.name for p in folders_in(root)]
    normal = classes[0] if len(classes) == 1 and found else next((c for c in classes if c.lower() in NORMAL), None)
    if normal is None:
        raise DataError(
            f"{root} does not tell which samples are normal ({', '.join(classes[:8]) or 'no folders'}).",
            f"Call their folder one of {', '.join(NORMAL)}.",
        )
    notes.append(f"The samples in '{normal}' are taken as normal, all others as anomalies.")
    items: dict[str, list[_Item]] = {}
    for split, path in (found or {"": folder}).items():
        files = [(f, int(p.name != normal)) for p in folders_in(path) for f in images_in(p, "The class folder")]
        items[split] = [_Item(f, read_header(f), odd) for f, odd in files]
    read, _ = _reader(folder, items, notes)
    samples = {
        s: Samples([read(i) for i in own], np.array([i.target for i in own], np.int64)) for s, own in items.items()
    }
    name = folder.resolve().name
    if not found:
        samples = dealt(samples[""], task="anomaly", name=name, seed=seed)
    return assemble(samples, meaning=Meaning("anomaly"), classes=None, name=name, notes=notes)


def _split(
    roots: dict[str, Path], read: Callable[[Path], list[_Item]], folder: Path, layout: str, seed: int, notes: list[str]
) -> dict[str, list[_Item]]:
    """The items of each split: as the folders have them, or dealt by content."""
    if "" in roots:
        items = read(folder)
        if len(items) < len(SPLITS):
            raise DataError(f"{folder} holds {len(items)} samples.", "At least three are needed.")
        return _dealt(items, seed, (0.70, 0.15, 0.15))
    if "train" not in roots or len(roots) < 2:
        raise DataError(f"{folder} does not hold what its task needs.", _LAYOUTS[layout])
    given = {split: read(path) for split, path in roots.items()}
    if len(given) == len(SPLITS):
        return given
    (held_out,) = (s for s in given if s != "train")
    notes.append(
        f"{folder} has no {'test' if held_out == 'val' else 'val'} folder: {roots[held_out].name} is the test split, "
        "and 15 % of train are held out for validation."
    )
    return {**_dealt(given["train"], seed, (0.85, 0.15, 0.0)), "test": given[held_out]}


def _dealt(items: list[_Item], seed: int, shares: tuple[float, float, float]) -> dict[str, list[_Item]]:
    parts = deal([0] * len(items), [i.header.sha256 for i in items], seed, shares=shares)
    return {s: [i for i, part in zip(items, parts, strict=True) if part == k] for k, s in enumerate(SPLITS)}


def _reader(
    folder: Path, parts: dict[str, list[_Item]], notes: list[str]
) -> tuple[Callable[[_Item], npt.NDArray[np.uint8]], int]:
    """How images are read, all alike, and the short side that they are reduced to."""
    headers = [i.header for items in parts.values() for i in items]
    files = [File(folder, 0, h) for h in headers]
    channels = 1 if all(h.grey for h in headers) else 3
    side = short_side(folder, files, channels, notes)
    return lambda item: read_image(item.path, channels, side), side
