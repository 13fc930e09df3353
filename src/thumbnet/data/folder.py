"""Folders of class folders, with or without train, val and test above them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thumbnet.data.dataset import SPLITS, Dataset, Decoded, Labels, dataset_from_arrays
from thumbnet.data.deal import deal
from thumbnet.data.images import SUFFIXES, Header, read_header, read_image, reduced
from thumbnet.errors import DataError

MAX_BYTES = 2 << 30  # of all decoded images together
SHORT_SIDES = (320, 288, 256, 224, 192, 160, 128, 96, 64)  # images are reduced to the first that keeps within MAX_BYTES
ALIASES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class File:
    """An image file, its class, and what is known without decoding it."""

    path: Path
    label: int
    header: Header


def load_folder(folder: Path, seed: int = 0) -> Dataset:
    """Reads all images once. Grey if all files are grey, else RGB; classes in the order of their folders' names.

    Without split folders, images are dealt 70/15/15 within each class by a hash of seed and content; copies of one
    image stay together. With train and val but no test, val is the test split and train gives up 15 % for validation;
    with train and test but no val likewise. Raises `DataError` naming the folder or file.
    """
    if not folder.is_dir():
        raise DataError(f"The data folder {folder} does not exist.", "Give a folder with one subfolder per class.")
    notes: list[str] = []
    found = _split_folders(folder)
    classes = _class_names(found["train"] if found else folder)
    splits = _given(folder, found, classes, seed, notes) if found else _dealt(folder, classes, seed)
    for split, files in splits.items():
        splits[split] = sorted(files, key=lambda f: (f.label, f.path))
    notes += _duplicates(splits)
    everything = [f for files in splits.values() for f in files]
    channels = 1 if all(f.header.grey for f in everything) else 3
    side = short_side(folder, everything, channels, notes)
    arrays: dict[str, tuple[Decoded, Labels]] = {}
    for split in SPLITS:
        images = [read_image(f.path, channels, side) for f in splits[split]]
        arrays[split] = (images, np.array([f.label for f in splits[split]], np.int64))
    return dataset_from_arrays(arrays, classes=classes, name=folder.resolve().name, notes=notes)


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folders of the splits, where there are any: those of these names that hold folders themselves."""
    found: dict[str, Path] = {}
    for path in folders_in(folder):
        for split, names in ALIASES.items():
            if path.name.lower() in names and folders_in(path):
                if split in found:
                    raise DataError(
                        f"{folder} has two folders for {split}: {found[split].name} and {path.name}.", "Keep one."
                    )
                found[split] = path
    if found and "train" not in found:
        raise DataError(
            f"{folder} has a {next(iter(found.values())).name} folder but no train folder.",
            f"Add {folder / 'train'}, or put the class folders directly into {folder}.",
        )
    if len(found) == 1:
        raise DataError(
            f"{folder} has a train folder but neither val nor test.",
            f"Add {folder / 'val'} and {folder / 'test'}, or give {found['train']}, which is then split 70/15/15.",
        )
    return found


def _class_names(folder: Path) -> list[str]:
    names = [p.name for p in folders_in(folder)]
    if len(names) < 2:
        what = f"only one class folder ({names[0]})" if names else "no class folders"
        raise DataError(
            f"{folder} has {what}.",
            "Classification needs at least two, one per class, with the images in them; --task names others.",
        )
    return names


def _given(
    folder: Path, found: dict[str, Path], classes: Sequence[str], seed: int, notes: list[str]
) -> dict[str, list[File]]:
    for path in found.values():
        extra = [p.name for p in folders_in(path) if p.name not in classes]
        if extra:
            raise DataError(
                f"{path} has a class folder '{extra[0]}' that {found['train']} lacks.",
                "Every split needs the same class folders.",
            )
    splits = {split: _files(path, classes) for split, path in found.items()}
    if len(splits) == 3:
        return splits
    (held_out,) = (s for s in splits if s != "train")
    train = splits["train"]
    parts = deal([f.label for f in train], [f.header.sha256 for f in train], seed, shares=(0.85, 0.15, 0.0))
    notes.append(
        f"{folder} has no {'test' if held_out == 'val' else 'val'} folder: the images of {found[held_out].name} are "
        "the test split, and 15 % of train are held out for validation."
    )
    return {
        "train": [f for f, part in zip(train, parts, strict=True) if part == 0],
        "val": [f for f, part in zip(train, parts, strict=True) if part == 1],
        "test": splits[held_out],
    }


def _dealt(folder: Path, classes: Sequence[str], seed: int) -> dict[str, list[File]]:
    files = _files(folder, classes)
    for k, name in enumerate(classes):
        count = sum(f.label == k for f in files)
        if count < len(SPLITS):
            raise DataError(
                f"The class folder {folder / name} holds {count} image{'s' if count > 1 else ''}.",
                "At least three are needed: one each to train, to validate and to test with.",
            )
    parts = deal([f.label for f in files], [f.header.sha256 for f in files], seed)
    return {s: [f for f, part in zip(files, parts, strict=True) if part == k] for k, s in enumerate(SPLITS)}


def _files(folder: Path, classes: Sequence[str]) -> list[File]:
    return [File(path, k, read_header(path)) for k, name in enumerate(classes) for path in images_in(folder / name)]


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, sorted."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def images_in(folder: Path, kind: str = "The class folder") -> list[Path]:
    """The image files below a folder, sorted. Raises `DataError` where there are none."""
    if not folder.is_dir():
        raise DataError(f"{kind} {folder} does not exist.", "Every split needs every class.")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    images = [p for p in files if p.suffix.lower() in SUFFIXES]
    if not images:
        other = f" (but {len(files)} other files, such as {files[0].name})" if files else ""
        raise DataError(f"{kind} {folder} holds no images{other}.", f"Known endings: {', '.join(sorted(SUFFIXES))}.")
    return images


def _duplicates(splits: dict[str, list[File]]) -> list[str]:
    """Notes on files that occur in two places where they should not."""
    notes = []
    label: dict[str, int] = {}
    twice = {f.header.sha256 for f in _all(splits) if label.setdefault(f.header.sha256, f.label) != f.label}
    if twice:
        notes.append(f"{len(twice)} images occur in more than one class.")
    seen = {f.header.sha256 for f in splits["train"]}
    for split in ("val", "test"):
        leaked = sum(f.header.sha256 in seen for f in splits[split])
        if leaked:
            notes.append(
                f"{leaked} of {len(splits[split])} {split} images are in train too, which flatters the figures."
            )
    return notes


def _all(splits: dict[str, list[File]]) -> Iterable[File]:
    return (f for files in splits.values() for f in files)


def short_side(folder: Path, files: list[File], channels: int, notes: list[str]) -> int:
    """The short side that images are reduced to, so that all fit into memory; `notes` hears of it."""
    for side in SHORT_SIDES:
        sizes = [reduced((f.header.width, f.header.height), side) for f in files]
        if sum(w * h for w, h in sizes) * channels <= MAX_BYTES:
            if side < SHORT_SIDES[0]:
                notes.append(f"{len(files)} images are kept at {side} pixels (short side), to need less than 2 GB.")
            return side
    raise DataError(
        f"{folder} holds {len(files)} images, more than fit into 2 GB even at {SHORT_SIDES[-1]} pixels.",
        "Use a part of them.",
    )
