"""Bad input at the command line: one clear sentence, the right exit code, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def thumbnet(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "thumbnet", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, " ".join(done.stderr.split())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for k in range(3):
                pixels = np.full((8, 8), 40 * k, np.uint8)
                Image.fromarray(pixels).save(folder / f"{k}.png")
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--target", "nrf52480"), 5, "nrf52840"),
        (("--flash", "lots"), 2, "lots"),
        (("--ram", "-3KB"), 2, "-3KB"),
        (("--effort", "heroic"), 2, "quick, standard, thorough"),
        (("--input-size", "12"), 2, "HEIGHTxWIDTH"),
        (("--mean", "grey"), 2, "--mean"),
    ],
)
def test_options(images: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    status, text = thumbnet("optimize", "nothing.pt2", images, *arguments)
    assert (status, says in text) == (code, True), text


def test_a_model_that_does_not_exist(images: Path) -> None:
    status, text = thumbnet("optimize", "nothing.pt2", images)
    assert status == 3
    assert "nothing.pt2" in text


def test_a_file_that_is_no_model(images: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt2"
    model.write_bytes(b"not a model at all")
    status, text = thumbnet("optimize", model, images)
    assert status == 3
    assert "model.pt2" in text


def test_data_that_does_not_exist(tmp_path: Path) -> None:
    status, text = thumbnet("optimize", "m.pt2", tmp_path / "nowhere")
    assert status == 4
    assert "nowhere" in text


def test_an_empty_class_folder(images: Path) -> None:
    for file in (images / "val" / "b").iterdir():
        file.unlink()
    status, text = thumbnet("optimize", "m.pt2", images)
    assert status == 4
    assert "holds no images" in text


def test_one_class_only(tmp_path: Path) -> None:
    (tmp_path / "d" / "only").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "d" / "only" / "0.png")
    status, text = thumbnet("optimize", "m.pt2", tmp_path / "d")
    assert status == 4
    assert "at least two" in text


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_an_unreadable_image_is_named(images: Path, damage: str) -> None:
    file = images / "train" / "a" / "1.png"
    content = {"truncated": file.read_bytes()[:40], "text": b"hello", "empty": b""}[damage]
    file.write_bytes(content)
    status, text = thumbnet("optimize", "m.pt2", images)
    assert status == 4
    assert "1.png" in text


def test_16_bit_and_animated_images_are_refused(images: Path) -> None:
    deep = images / "train" / "a" / "deep.png"
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(deep)
    assert "8 bits" in thumbnet("optimize", "m.pt2", images)[1]
    deep.unlink()
    frames = [Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (0, 255)]
    frames[0].save(images / "train" / "a" / "moving.webp", save_all=True, append_images=frames[1:])
    assert "animated" in thumbnet("optimize", "m.pt2", images)[1]


def test_an_npz_with_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object), y=np.array([0]))
    status, text = thumbnet("optimize", "m.pt2", tmp_path / "d.npz")
    assert status == 4
    assert "plain arrays" in text


def test_a_run_that_has_not_finished(tmp_path: Path) -> None:
    assert thumbnet("verify", tmp_path)[0] == 7
    assert thumbnet("report", tmp_path)[0] == 7
