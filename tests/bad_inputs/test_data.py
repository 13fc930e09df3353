"""Data that cannot be used, through the command line. The finer points are in tests/unit/data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from PIL import Image

FITS = ("--input-size", "12x12")


def test_data_that_does_not_exist(thumbnet: Run, here: Path) -> None:
    outcome = thumbnet("optimize", "models:Small", "nowhere", *FITS)
    assert outcome.code == 4
    assert "nowhere" in outcome.error


def test_an_empty_class_folder(thumbnet: Run, images: Path) -> None:
    for file in (images / "val" / "good").iterdir():
        file.unlink()
    outcome = thumbnet("optimize", "models:Small", images, *FITS)
    assert outcome.code == 4
    assert f"{images}/val/good holds no images" in outcome.error


def test_one_class_only(thumbnet: Run, images: Path) -> None:
    shutil.rmtree(images / "train" / "bad")
    outcome = thumbnet("optimize", "models:Small", images, *FITS)
    assert outcome.code == 4
    assert "only one class folder (good)" in outcome.error


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_an_unreadable_image_is_named(thumbnet: Run, images: Path, damage: str) -> None:
    file = images / "train" / "bad" / "1.png"
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[damage])
    outcome = thumbnet("optimize", "models:Small", images, *FITS)
    assert outcome.code == 4
    assert str(file) in outcome.error


def test_colour_images_for_a_grey_network(thumbnet: Run, images: Path) -> None:
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(images / "train" / "bad" / "colour.png")
    outcome = thumbnet("optimize", "models:Small", images, *FITS)
    assert outcome.code in (3, 4)
    assert "channel" in outcome.error


def test_an_npz_of_objects_is_never_unpickled(thumbnet: Run, here: Path) -> None:
    np.savez("d.npz", x=np.array([{"a": 1}], dtype=object), y=np.array([0]))
    outcome = thumbnet("optimize", "models:Small", "d.npz", *FITS)
    assert outcome.code == 4
    assert "never unpickled" in outcome.error


def test_mean_of_pixels_for_float_arrays(thumbnet: Run, here: Path) -> None:
    x = np.random.default_rng(0).normal(size=(24, 12, 12, 1)).astype(np.float32)
    np.savez("d.npz", x=x, y=np.arange(24) % 2)
    outcome = thumbnet("optimize", "models:Small", "d.npz", *FITS, "--mean", "0.5")
    assert outcome.code == 2
    assert "float arrays" in outcome.error
