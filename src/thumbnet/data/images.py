"""One image file, read with care: limits before decoding, and no silent loss of what a file holds."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from thumbnet.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".gif"})
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
MAX_FILE_BYTES = 256 << 20
MAX_PIXELS = 64_000_000  # of one image, checked before decoding

_GREY = {"1", "L", "LA", "La"}
_DEEP = {"I", "F"}  # and all I;16 variants
_NUMBERED = {"1", "L", "P"}  # masks
_FOREIGN = {"CMYK", "LAB", "HSV"}
# What Pillow's decoders raise on damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


@dataclass(frozen=True)
class Header:
    """What is known of an image without decoding it."""

    width: int
    height: int
    grey: bool
    sha256: str  # of the file


def read_header(path: Path) -> Header:
    """Raises `DataError` where the file is no image that can be used."""
    data = _bytes(path)
    with _opened(path, data) as image:
        try:
            grey = image.mode in _GREY or (image.mode in ("P", "PA") and _grey_palette(image))
        except _DAMAGE as e:
            raise _damaged(path, e) from e
        return Header(image.width, image.height, grey, hashlib.sha256(data).hexdigest())


def read_image(path: Path, channels: int, short_side: int) -> npt.NDArray[np.uint8]:
    """Decodes to uint8 [height, width, channels], turned as its EXIF data says, reduced to `short_side` if larger.

    Raises `DataError` naming the file where it is damaged, or where 8-bit grey or RGB could not hold it: transparency,
    more than 8 bits, animation, colours of print.
    """
    with _opened(path, _bytes(path)) as image:
        if image.format == "JPEG" and min(image.size) >= 2 * short_side:
            image.draft(None, (2 * short_side, 2 * short_side))  # at least that large: halving in the decoder is cheap
        try:
            picture = _flat(path, ImageOps.exif_transpose(image))
            picture = picture.convert("L" if channels == 1 else "RGB")
        except _DAMAGE as e:
            raise _damaged(path, e) from e
    if min(picture.size) > short_side:
        picture = picture.resize(reduced(picture.size, short_side), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels[..., None] if channels == 1 else pixels


def read_mask(path: Path, short_side: int) -> npt.NDArray[np.uint8]:
    """The class numbers [height, width] of an image of grey values or palette indices, reduced as its image is.

    Raises `DataError` naming the file where it is damaged, or has colours instead of numbers.
    """
    with _opened(path, _bytes(path)) as image:
        if image.format in ("JPEG", "MPO", "WEBP") or image.mode not in _NUMBERED:
            raise DataError(
                f"The mask {path} is a {image.format} of mode {image.mode}.",
                "Save masks as PNG, grey or with a palette: each pixel is the number of its class.",
            )
        try:
            picture = image.convert("L") if image.mode == "1" else image.copy()
            if min(picture.size) > short_side:
                picture = picture.resize(reduced(picture.size, short_side), Image.Resampling.NEAREST)
            numbers = np.array(picture, np.uint8)
        except _DAMAGE as e:
            raise _damaged(path, e) from e
        return np.minimum(numbers, 1) if image.mode == "1" else numbers


def reduced(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(width, height) with the shorter side at most `short_side`, the longer one at most 16 times that."""
    factor = min(1.0, short_side / min(size))
    return tuple(max(1, min(16 * short_side, round(side * factor))) for side in size)  # type: ignore[return-value]


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"The image {path} has {size >> 20} MB.", "At most 256 MB are read; reduce it first.")
        return path.read_bytes()
    except OSError as e:
        raise DataError(f"The image {path} cannot be read: {e.strerror}.", "Check its permissions.") from e


@contextmanager
def _opened(path: Path, data: bytes) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata and size: the former does not matter, the latter is checked
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photo and its preview
        except Image.DecompressionBombError as e:
            raise _too_large(path) from e
        except _DAMAGE as e:
            raise DataError(
                f"The image {path} cannot be read.", "It may be damaged or no image: replace or remove it."
            ) from e
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(path)
            if frames > 1:
                raise DataError(
                    f"The image {path} is animated ({frames} frames).", "Save the frames as separate images."
                )
            if image.mode in _DEEP or image.mode.startswith("I;"):
                raise DataError(
                    f"The image {path} has more than 8 bits per channel.",
                    "Convert it to 8 bits, or give the values as float32 arrays in an .npz file.",
                )
            if image.mode in _FOREIGN:
                raise DataError(f"The image {path} has {image.mode} colours.", "Convert it to RGB first.")
            yield image


def _flat(path: Path, image: Image.Image) -> Image.Image:
    """Without its alpha channel, if that says nothing."""
    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return image
    with_alpha = image.convert("RGBA")
    if with_alpha.getchannel("A").getextrema()[0] != 255:
        raise DataError(
            f"The image {path} is partly transparent.", "Paint it on the background that the camera will see."
        )
    return with_alpha.convert("RGB")


def _grey_palette(image: Image.Image) -> bool:
    palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"The image {path} cannot be decoded ({error}).", "It may be truncated: replace or remove it.")


def _too_large(path: Path) -> DataError:
    return DataError(f"The image {path} has more than {MAX_PIXELS // 1_000_000} million pixels.", "Reduce it first.")
