"""Data for tasks besides classification: arrays, pairs and folders, with several inputs and targets."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from thumbnet.data import load_data
from thumbnet.data.assemble import with_masks_of
from thumbnet.errors import DataError, UsageError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
ROWS = RNG.normal(size=(40, 5)).astype(np.float32)
TARGETS = {
    "multi-label": RNG.integers(0, 2, (40, 3)),
    "regression": RNG.normal(size=40),
    "segmentation": RNG.integers(0, 3, (40, 8, 8)),
    "custom": RNG.normal(size=(40, 2, 3)),
}


def splits(x: Any, y: Any) -> dict[str, Any]:
    return {f"{a}_{s}": v for s in ("train", "val", "test") for a, v in (("x", x), ("y", y))}


# --- arrays and pairs


@pytest.mark.parametrize("task", TARGETS)
@pytest.mark.parametrize("form", ["npz", "dealt", "pairs"])
def test_targets_of_each_task(task: str, form: str, tmp_path: Path) -> None:
    y = TARGETS[task]
    if form == "npz":
        np.savez(tmp_path / "d.npz", **splits(PIXELS, y))
        data = load_data(tmp_path / "d.npz", task=task)
        assert len(data.train) == 40
    elif form == "dealt":
        data = load_data({"x": PIXELS, "y": y}, task=task)
        assert [len(s) for s in data.splits] == [28, 6, 6]
    else:
        data = load_data(list(zip(PIXELS, y, strict=True)), task=task)
        assert [len(s) for s in data.splits] == [28, 6, 6]
    assert data.task == task
    shape = (1,) if task == "regression" else y.shape[1:]
    assert np.asarray(data.train.labels).shape[1:] == shape
    assert load_data({"x": PIXELS, "y": y}, task=task).digest == load_data({"x": PIXELS, "y": y}, task=task).digest
    other = y.copy()
    other[0] = abs(1 - other[0])
    assert load_data({"x": PIXELS, "y": y}, task=task).digest != load_data({"x": PIXELS, "y": other}, task=task).digest


def test_several_inputs_and_targets_by_keys_dicts_tuples_and_pairs(tmp_path: Path) -> None:
    y, z = np.arange(40) % 2, ROWS[:, :2]
    keys = {
        f"{a}_{s}.{n}": v
        for s in ("train", "val", "test")
        for a, n, v in (("x", "image", PIXELS), ("x", "row", ROWS), ("y", "kind", y), ("y", "where", z))
    }
    np.savez(tmp_path / "d.npz", **keys)
    by_key = load_data(tmp_path / "d.npz", task="custom")
    by_dict = load_data(splits({"image": PIXELS, "row": ROWS}, {"kind": y, "where": z}), task="custom")
    by_pair = load_data(
        {
            s: [
                ({"image": a, "row": b}, {"kind": c, "where": d}) for a, b, c, d in zip(PIXELS, ROWS, y, z, strict=True)
            ]
            for s in ("train", "val", "test")
        },
        task="custom",
    )
    for data in (by_key, by_dict, by_pair):
        assert (data.input_names, data.target_names) == (("image", "row"), ("kind", "where"))
        assert data.test.further_inputs[0].shape == (40, 1, 5, 1)
        np.testing.assert_array_equal(data.test.labels, y)
        np.testing.assert_array_equal(data.test.further_targets[0], z)
    assert by_key.digest == by_dict.digest
    by_tuple = load_data(splits((PIXELS, ROWS), (y, z)), task="custom")
    assert (by_tuple.input_names, by_tuple.target_names) == (("0", "1"), ())


def test_classification_takes_several_inputs_too() -> None:
    data = load_data({"x.a": PIXELS, "x.b": ROWS, "y": np.arange(40) % 2})
    assert data.task == "classification"
    assert [len(s.further_inputs[0]) for s in data.splits] == [len(s) for s in data.splits]


def test_samples_without_labels_are_for_anomaly_detection() -> None:
    odd = np.arange(40) % 2
    data = load_data({"x_train": ROWS, "x_test": ROWS + 3, "y_test": odd})
    assert data.task == "anomaly"
    assert not data.train.labels.any()
    assert len(data.val) + len(data.test) == 40
    assert set(data.val.labels) == set(data.test.labels) == {0, 1}
    assert any("half of test validates" in n for n in data.notes)
    dealt = load_data({"x": ROWS, "y": odd}, task="anomaly")
    assert not dealt.train.labels.any()
    assert dealt.val.labels.sum() + dealt.test.labels.sum() == 20
    kept = load_data(splits(ROWS, odd), task="anomaly")
    assert len(kept.train) == 20
    assert any("20 anomalies of train" in n for n in kept.notes)


REFUSED = [
    ("multi-label", {"x": PIXELS, "y": TARGETS["custom"]}, "Give a 0 or 1 for every label"),
    ("multi-label", {"x": PIXELS, "y": 2 * TARGETS["multi-label"]}, "hold 2"),
    ("regression", {"x": PIXELS, "y": np.where(np.arange(40) == 7, np.nan, 1.0)}, r"not finite \(number 7\)"),
    ("regression", {"x": PIXELS, "y": np.array(["a"] * 40)}, "array of numbers"),
    ("regression", {"x": PIXELS, "y": np.zeros(39)}, "40 inputs but 39"),
    ("segmentation", {"x": PIXELS, "y": np.zeros((40, 8, 8))}, "class numbers"),
    ("segmentation", {"x": PIXELS, "y": np.full((40, 8, 8), 256)}, "hold numbers from 256"),
    ("segmentation", {"x": PIXELS, "y": np.zeros((40, 8, 8), int)}, "hold 1 class"),
    ("segmentation", {"x": PIXELS, "y": TARGETS["segmentation"], "classes": ["a", "b"]}, "the class 2 of 2"),
    ("anomaly", splits(ROWS, np.zeros(40, int)), "does not hold normal samples and anomalies"),
    ("anomaly", {"x": ROWS, "y": np.arange(40)}, "must be 0 or 1"),
    ("custom", {"x.a": PIXELS, "x.b": ROWS[:39], "y": ROWS}, "40 inputs but 39"),
    ("custom", {f"x.{k}": PIXELS for k in range(17)} | {"y": ROWS}, "At most 16"),
    ("classification", {"x": PIXELS, "y": TARGETS["regression"]}, "say the task"),
    (None, {"x": PIXELS, "y": TARGETS["multi-label"]}, "task='multi-label'"),
]


@pytest.mark.parametrize(("task", "source", "says"), REFUSED)
def test_targets_that_cannot_be_meant(task: str | None, source: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_data(source, task=task)


def test_pairs_that_change_on_the_way() -> None:
    with pytest.raises(DataError, match="item 1 of 'pairs' has shape"):
        load_data([(PIXELS[0], np.zeros(2)), (PIXELS[1], np.zeros(3))] * 5, task="regression")
    with pytest.raises(DataError, match="Item 1 of 'pairs' has other inputs"):
        load_data([(PIXELS[0], 1.0), ((PIXELS[1], ROWS[1]), 1.0)] * 5, task="regression")


def test_an_unknown_task_and_data_of_another() -> None:
    with pytest.raises(UsageError, match="no task 'clustering'"):
        load_data({"x": PIXELS, "y": np.arange(40) % 2}, task="clustering")
    data = load_data({"x": PIXELS, "y": np.arange(40) % 2})
    with pytest.raises(DataError, match="data for classification, not for regression"):
        load_data(data, task="regression")


# --- folders


def save(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def masked_folder(root: Path, count: int = 8) -> Path:
    rng = np.random.default_rng(1)
    for k in range(count):
        size = (10, 12) if k % 2 else (8, 8)
        save(root / "images" / f"{k}.png", rng.integers(0, 256, size).astype(np.uint8))
        save(root / "masks" / f"{k}.png", (np.indices(size).sum(0) // 8).astype(np.uint8))
    return root


def test_images_and_masks(tmp_path: Path) -> None:
    data = load_data(masked_folder(tmp_path / "d"))
    assert data.task == "segmentation"
    assert data.classes == ("0", "1", "2")
    assert sum(len(s) for s in data.splits) == 8
    fitted = with_masks_of(data, (4, 4))
    assert fitted.train.labels.shape == (len(data.train), 4, 4)
    assert fitted.train.labels[:, 0, 0].max() == 0
    for split in ("train", "val", "test"):
        masked_folder(tmp_path / "s" / split, 4 if split != "train" else 6)
    assert [len(s) for s in load_data(tmp_path / "s").splits] == [6, 4, 4]


def test_palette_masks_are_their_indices(tmp_path: Path) -> None:
    root = masked_folder(tmp_path / "d")
    mask = Image.fromarray(np.full((8, 8), 2, np.uint8), "L").convert("P")
    mask.putdata([3] * 64)
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9])
    mask.save(root / "masks" / "0.png")
    assert load_data(root).classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: (d / "masks" / "3.png").unlink(), "3.png has no mask"),
        (lambda d: save(d / "masks" / "3.png", np.zeros((9, 9), np.uint8)), "Masks need their images' size"),
        (lambda d: save(d / "masks" / "3.png", np.zeros((10, 12, 3), np.uint8)), "Save masks as PNG"),
        (lambda d: (d / "masks" / "3.png").write_bytes(b"PNG?"), "cannot be read"),
    ],
)
def test_masks_that_do_not_fit(change: Any, says: str, tmp_path: Path) -> None:
    root = masked_folder(tmp_path / "d")
    change(root)
    with pytest.raises(DataError, match=says):
        load_data(root)


def table(root: Path, text: str, count: int = 8) -> Path:
    for k in range(count):
        save(root / f"{k}.png", np.full((6, 6), 9 * k, np.uint8))
    (root / "targets.csv").write_text(text)
    return root


ANGLES = "file,angle,length\n" + "".join(f"{k}.png,{k / 2},{k}\n" for k in range(8))


def test_a_table_of_targets(tmp_path: Path) -> None:
    data = load_data(table(tmp_path / "d", ANGLES))
    assert (data.task, data.classes) == ("regression", ("angle", "length"))
    for split in data.splits:
        brightness = np.array([x.mean() / 9 for x in split.source])
        np.testing.assert_allclose(split.labels, np.stack([brightness / 2, brightness], 1))
    binary = "file,red,round\n" + "".join(f"{k}.png,{k % 2},{k // 4}\n" for k in range(8))
    assert load_data(table(tmp_path / "b", binary)).task == "multi-label"
    assert load_data(tmp_path / "b", task="regression").task == "regression"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,on\n" + "".join(f"{k}.png,1\n" for k in range(8)), "may be a number or a label"),
        ("", "first line names the columns"),
        ("file\n0.png\n", "first line names the columns"),
        ("file,a,a\n0.png,1,2\n", "once each"),
        ("file,a\n", "names no image"),
        ("file,a\n0.png,1,2\n", "Line 2 of .* has 3 columns"),
        ("file,a\n0.png,high\n", "no number"),
        ("file,a\n0.png,nan\n", "Line 2 of .* holds nan"),
        ("file,a\n../d/0.png,1\n", "not below"),
        ("file,a\n/etc/hostname,1\n", "not below"),
        ("file,a\n9.png,1\n", "does not exist"),
        ("file,a\ntargets.csv,1\n", "is no image"),
        ("file,a\n0.png,1\n0.png,1\n", "a second time"),
        ("file,a\n" + '"' + "x" * 200_000 + '",1\n', "cannot be read"),
    ],
)
def test_tables_that_cannot_be_read(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        load_data(table(tmp_path / "d", text))


@given(st.text(max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_table_is_read_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "targets.csv").write_text("file,a\n" + text, errors="ignore")
        with pytest.raises(DataError):
            load_data(root)


def test_normal_and_odd_samples(tmp_path: Path) -> None:
    for part, kinds in (("train", {"good": 6}), ("test", {"good": 6, "scratch": 4, "hole": 2})):
        for kind, count in kinds.items():
            for k in range(count):
                save(tmp_path / "d" / part / kind / f"{k}.png", RNG.integers(0, 256, (6, 6)).astype(np.uint8))
    data = load_data(tmp_path / "d", task="anomaly")
    assert (len(data.train), len(data.val), len(data.test)) == (6, 6, 6)
    assert data.val.labels.sum() == data.test.labels.sum() == 3
    assert any("'good' are taken as normal" in n for n in data.notes)
    (tmp_path / "d" / "train" / "good").rename(tmp_path / "d" / "train" / "a")
    (tmp_path / "d" / "train" / "b").mkdir()
    with pytest.raises(DataError, match="which samples are normal"):
        load_data(tmp_path / "d", task="anomaly")
