"""Folders: which layouts are understood, and what is said of those that are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thumbnet.data import folder as folder_module
from thumbnet.data import load_data
from thumbnet.errors import DataError


def write(folder: Path, count: int, seed: int, size: tuple[int, int] = (8, 8)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for k in range(count):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{k:03}.png")


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    for s, split in enumerate(("train", "val", "test")):
        for c, name in enumerate(("bad", "good")):
            write(tmp_path / "d" / split / name, 20 if split == "train" else 4, seed=10 * s + c)
    return tmp_path / "d"


def test_other_files_and_hidden_ones_are_left_out(splits: Path) -> None:
    before = load_data(splits).digest
    (splits / "train" / "bad" / "._000.png").write_bytes(b"what macOS leaves")
    (splits / "train" / "bad" / "Thumbs.db").write_bytes(b"what Windows leaves")
    (splits / "train" / ".git").mkdir()
    (splits / "README.md").write_text("what people leave")
    assert load_data(splits).digest == before


def test_images_may_lie_deeper_in_their_class(splits: Path) -> None:
    (splits / "train" / "bad" / "batch 2").mkdir()
    shutil.move(splits / "train" / "bad" / "000.png", splits / "train" / "bad" / "batch 2" / "000.png")
    assert len(load_data(splits).train) == 40


@pytest.mark.parametrize("gone", ["val", "test"])
def test_two_splits_make_three(splits: Path, gone: str) -> None:
    shutil.rmtree(splits / gone)
    data = load_data(splits)
    assert [len(s) for s in data.splits] == [34, 6, 8]
    assert any("15 % of train" in note for note in data.notes)


def test_class_folders_called_train_and_test_are_classes(tmp_path: Path) -> None:
    write(tmp_path / "train", 5, seed=0)
    write(tmp_path / "car", 5, seed=1)
    assert load_data(tmp_path).classes == ("car", "train")


def test_copies_across_splits_are_told(splits: Path) -> None:
    assert load_data(splits).notes == ()
    shutil.copy(splits / "train" / "bad" / "003.png", splits / "test" / "bad" / "copy.png")
    shutil.copy(splits / "train" / "bad" / "004.png", splits / "train" / "good" / "copy.png")
    notes = load_data(splits).notes
    assert any("1 of 9 test images" in note for note in notes)
    assert any("more than one class" in note for note in notes)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda d: shutil.rmtree(d / "train"), "no train folder"),
        (lambda d: [shutil.rmtree(d / s) for s in ("val", "test")], "neither val nor test"),
        (lambda d: shutil.rmtree(d / "val" / "good"), "val/good does not exist"),
        (lambda d: shutil.copytree(d / "val" / "good", d / "val" / "other"), "'other' that"),
        (lambda d: shutil.copytree(d / "val", d / "validation"), "two folders for val"),
        (lambda d: (shutil.rmtree(d / "val/bad"), write_text(d / "val/bad/a.heic")), "1 other files, such as a.heic"),
    ],
)
def test_layouts_that_cannot_be_meant(splits: Path, spoil: object, says: str) -> None:
    spoil(splits)  # type: ignore[operator]
    with pytest.raises(DataError, match=says):
        load_data(splits)


def write_text(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("")


def test_images_without_class_folders(tmp_path: Path) -> None:
    write(tmp_path, 4, seed=0)
    with pytest.raises(DataError, match="no class folders"):
        load_data(tmp_path)


def test_too_few_images_to_split(tmp_path: Path) -> None:
    write(tmp_path / "a", 2, seed=0)
    write(tmp_path / "b", 9, seed=1)
    with pytest.raises(DataError, match=r"a holds 2 images\. At least three"):
        load_data(tmp_path)


def test_images_of_different_sizes_are_brought_to_one(tmp_path: Path) -> None:
    write(tmp_path / "a", 5, seed=0, size=(8, 12))
    write(tmp_path / "b", 5, seed=1, size=(20, 12))
    data = load_data(tmp_path)
    assert data.train.images((6, 6)).shape == (6, 6, 6, 1)
    assert data.native_size == (14, 12)


def test_memory_is_bounded_by_keeping_images_smaller(splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad", "good"):
        write(splits / "train" / name, 3, seed=5, size=(320, 320))
    monkeypatch.setattr(folder_module, "MAX_BYTES", 200_000)
    data = load_data(splits)
    assert max(image.shape[0] for image in data.train.source) == 160
    assert any("160 pixels" in note for note in data.notes)
    monkeypatch.setattr(folder_module, "MAX_BYTES", 2_000)
    with pytest.raises(DataError, match="Use a part of them"):
        load_data(splits)
