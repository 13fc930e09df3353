"""Folders of class folders, with or without train, val and test above them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from thumbnet.data.dataset import Dataset, Decoded, dataset_from_arrays
from thumbnet.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
MAX_PIXELS = 64_000_000  # of one image, checked before decoding
KEEP_SIDE = 320  # longer images are reduced to this short side when decoded: memory, and no board sees more
SPLITS = ("train", "val", "test")
_ALIASES = {
    "val": ("val", "valid", "validation"),
    "train": ("train", "training"),
    "test": ("test", "testing"),
}
SHARES = (0.70, 0.15)  # of train and val where the folder has no splits


def load_folder(folder: Path, seed: int = 0) -> Dataset:
    """Reads all images. Grey if all files are grey, else RGB.

    Without split folders, images are dealt 70/15/15 within each class by a hash of seed and file name, so that adding a
    file moves no other. Raises `DataError` naming the folder or file.
    """
    if not folder.is_dir():
        raise DataError(f"The data folder {folder} does not exist.", "Give a folder with one subfolder per class.")
    parts = {s: next((folder / a for a in _ALIASES[s] if (folder / a).is_dir()), None) for s in SPLITS}
    if parts["train"] is None:
        classes = _class_names(folder)
        files = {s: [f for f in _dealt(folder, classes, seed) if f[2] == s] for s in SPLITS}
    else:
        classes = _class_names(parts["train"])
        files = {}
        for split, path in parts.items():
            if path is None:
                raise DataError(f"{folder} has a train folder but no {split} folder.", f"Add {folder / split}.")
            files[split] = [(f, k, split) for k, c in enumerate(classes) for f in _images_in(path / c)]
    channels = _channels([f for s in SPLITS for f, _, _ in files[s]])
    arrays: dict[str, tuple[Decoded, npt.NDArray[np.int64]]] = {}
    for split in SPLITS:
        images = [_read(f, channels) for f, _, _ in files[split]]
        same = len({i.shape for i in images}) == 1
        arrays[split] = (
            np.stack(images) if same else images,
            np.array([k for _, k, _ in files[split]], np.int64),
        )
    return dataset_from_arrays(arrays, classes=classes, name=folder.name)


def _class_names(folder: Path) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise DataError(
            f"{folder} has {len(names)} class folder{'' if len(names) == 1 else 's'}.",
            "Classification needs at least two, one per class, with the images in them.",
        )
    return names


def _images_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"The class folder {folder} does not exist.", "Every split needs every class.")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise DataError(f"The class folder {folder} holds no images.", f"Known endings: {', '.join(sorted(SUFFIXES))}.")
    return files


def _dealt(folder: Path, classes: list[str], seed: int) -> list[tuple[Path, int, str]]:
    dealt = []
    for k, name in enumerate(classes):
        files = _images_in(folder / name)
        if len(files) < len(SPLITS):
            raise DataError(
                f"The class folder {folder / name} holds {len(files)} image(s).", "At least three are needed."
            )
        ranked = sorted(files, key=lambda f: hashlib.sha256(f"{seed}/{f.relative_to(folder)}".encode()).digest())
        test = max(1, round(len(files) * (1 - sum(SHARES))))
        val = max(1, round(len(files) * SHARES[1]))
        chosen = {f: "test" if i < test else "val" if i < test + val else "train" for i, f in enumerate(ranked)}
        dealt += [(f, k, chosen[f]) for f in files]
    return dealt


def _channels(files: list[Path]) -> int:
    for file in files:
        with _opened(file) as image:
            if image.mode not in ("L", "1", "I;16", "I"):
                return 3
    return 1


def _opened(file: Path) -> Image.Image:
    try:
        image = Image.open(file)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as e:
        raise DataError(f"The image {file} cannot be read.", "It may be damaged; remove or replace it.") from e
    if image.width * image.height > MAX_PIXELS or not image.width or not image.height:
        raise DataError(f"The image {file} has {image.width} × {image.height} pixels.", "At most 64 million are read.")
    return image


def _read(file: Path, channels: int) -> npt.NDArray[np.uint8]:
    with _opened(file) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(f"The image {file} is animated.", "Save the frames as separate images.")
        if image.mode in ("I;16", "I", "F"):
            raise DataError(f"The image {file} has more than 8 bits per channel.", "Convert it to 8 bits first.")
        try:
            picture = image.convert("L" if channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError) as e:
            raise DataError(
                f"The image {file} cannot be read: {e}.", "It may be truncated; remove or replace it."
            ) from e
    if min(picture.size) > KEEP_SIDE:
        factor = KEEP_SIDE / min(picture.size)
        size = (round(picture.width * factor), round(picture.height * factor))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels[..., None] if channels == 1 else pixels
