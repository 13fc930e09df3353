"""Image files: nothing lost silently, nothing decoded beyond the limits, damage named."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from thumbnet.data.images import MAX_PIXELS, read_header, read_image, reduced
from thumbnet.errors import DataError


def gradient(height: int, width: int) -> np.ndarray:
    return np.add.outer(np.arange(height) * 3, np.arange(width) * 5).astype(np.uint8)


def encoded(format_: str, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(gradient(20, 30)).convert(mode).save(buffer, format_)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "format_"), [("png", "PNG"), ("bmp", "BMP"), ("tif", "TIFF"), ("pgm", "PPM"), ("gif", "GIF")]
)
def test_lossless_formats_give_the_pixels_back(tmp_path: Path, suffix: str, format_: str) -> None:
    path = tmp_path / f"i.{suffix}"
    path.write_bytes(encoded(format_))
    assert read_header(path).grey
    np.testing.assert_array_equal(read_image(path, 1, 320)[..., 0], gradient(20, 30))


def test_a_phones_photo_with_a_preview_is_one_photo(tmp_path: Path) -> None:
    photo = Image.fromarray(gradient(20, 30))
    photo.save(tmp_path / "i.jpg", "MPO", save_all=True, append_images=[photo.resize((6, 4))])
    with Image.open(tmp_path / "i.jpg") as saved:
        assert saved.format == "MPO"
    assert read_header(tmp_path / "i.jpg").width == 30
    assert read_image(tmp_path / "i.jpg", 1, 320).shape == (20, 30, 1)


def test_grey_and_colour_are_told_apart_without_decoding(tmp_path: Path) -> None:
    colour = np.stack([gradient(8, 8), gradient(8, 8)[::-1], gradient(8, 8)], -1)
    Image.fromarray(colour).quantize(16).save(tmp_path / "palette.png")
    Image.fromarray(colour).save(tmp_path / "rgb.png")
    Image.fromarray(gradient(8, 8) > 20).save(tmp_path / "bits.png")
    grey = {n: read_header(tmp_path / f"{n}.png").grey for n in ("palette", "rgb", "bits")}
    assert grey == {"palette": False, "rgb": False, "bits": True}


@pytest.mark.parametrize(
    ("mode", "says"),
    [("I;16", "8 bits"), ("I", "8 bits"), ("F", "8 bits"), ("CMYK", "CMYK"), ("LAB", "LAB")],
)
def test_what_eight_bits_of_rgb_cannot_hold_is_refused(tmp_path: Path, mode: str, says: str) -> None:
    path = tmp_path / "i.tif"
    Image.new(mode, (6, 6)).save(path)
    with pytest.raises(DataError, match=says):
        read_header(path)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_an_alpha_channel_is_dropped_only_where_it_says_nothing(tmp_path: Path, mode: str) -> None:
    pixels = np.dstack([gradient(6, 6)] * 3 + [np.full((6, 6), 255, np.uint8)])
    Image.fromarray(pixels).convert(mode).save(tmp_path / "opaque.png")
    assert np.abs(read_image(tmp_path / "opaque.png", 3, 320).astype(int) - pixels[..., :3]).max() <= 12  # palette
    pixels[2, 2, 3] = 200
    image = Image.fromarray(pixels).convert("LA" if mode == "LA" else "RGBA")
    if mode == "P":
        image = Image.fromarray(gradient(6, 6)).convert("P")
        image.info["transparency"] = 0
    image.save(tmp_path / "clear.png")
    with pytest.raises(DataError, match=r"clear\.png is partly transparent"):
        read_image(tmp_path / "clear.png", 3, 320)


def test_animations_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(gradient(6, 6) + v) for v in (0, 90)]
    for name in ("a.gif", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match="2 frames"):
            read_header(tmp_path / name)


def test_photos_are_turned_as_a_viewer_shows_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: top is right
    Image.fromarray(gradient(20, 30)).save(tmp_path / "i.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "i.png", 1, 320)[..., 0], np.rot90(gradient(20, 30), -1))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_large_images_are_reduced_and_stay_the_same_picture(tmp_path: Path, suffix: str) -> None:
    y, x = np.mgrid[0:1600, 0:1000]
    smooth = (127 + 100 * np.sin(x / 150) * np.cos(y / 200)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / f"i.{suffix}", quality=95)
    small = read_image(tmp_path / f"i.{suffix}", 1, 200)
    assert small.shape == (320, 200, 1)
    expected = smooth.reshape(320, 5, 200, 5).mean((1, 3))
    assert np.abs(small[..., 0] - expected).max() < 4


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from([64, 320]))
def test_reduced_sizes_are_bounded_and_never_empty(width: int, height: int, side: int) -> None:
    w, h = reduced((width, height), side)
    assert min(w, h) <= side
    assert max(w, h) <= 16 * side
    assert 1 <= min(w, h) <= min(width, height)


def png_of(width: int, height: int) -> bytes:
    """A PNG that announces a size, with hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 9_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_absurd_sizes_are_refused_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    assert size[0] * size[1] > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(png_of(*size))
    with pytest.raises(DataError, match=r"bomb\.png"):
        read_header(tmp_path / "bomb.png")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    format_=st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM"]),
    cut=st.none() | st.integers(0, 2000),
    flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=8),
)
def test_damage_is_a_data_error_or_an_image(
    tmp_path: Path, format_: str, cut: int | None, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(encoded(format_, "RGB")[:cut])
    for position, value in flips:
        if data:
            data[position % len(data)] ^= value
    path = tmp_path / "i.bin"
    path.write_bytes(bytes(data))
    with contextlib.suppress(DataError):
        read_header(path)
        image = read_image(path, 3, 320)
        assert image.dtype == np.uint8
        assert image.ndim == 3
