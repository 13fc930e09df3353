"""Arrays and pairs: what is understood, what is refused, and what a hostile file cannot do."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from thumbnet.data import arrays as arrays_module
from thumbnet.data import load_data
from thumbnet.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (40, 6, 8), dtype=np.uint8)
Y = np.arange(40) % 2


def given_splits(**changes: Any) -> dict[str, Any]:
    arrays = {f"{a}_{s}": v for s in ("train", "val", "test") for a, v in (("x", X), ("y", Y))}
    return {**arrays, **changes}


# --- what is understood


def test_grey_colour_and_channels_first_images() -> None:
    assert load_data(given_splits()).channels == 1
    colour = RNG.integers(0, 256, (40, 6, 8, 3), dtype=np.uint8)
    last = load_data({"x": colour, "y": Y})
    first = load_data({"x": colour.transpose(0, 3, 1, 2), "y": Y})
    np.testing.assert_array_equal(last.train.images((6, 8)), first.train.images((6, 8)))


def test_class_names_and_whole_numbers_of_any_type() -> None:
    data = load_data({"x": X.astype(np.int64), "y": Y.astype(np.uint8)[:, None], "classes": np.array(["no", "yes"])})
    assert data.classes == ("no", "yes")
    assert data.kind == "image"


def test_signals_become_images_of_height_one() -> None:
    data = load_data({"x": RNG.normal(size=(40, 50)), "y": Y})
    assert data.kind == "array"
    assert data.native_size == (1, 50)
    low, high = data.value_range or (0, 0)
    assert low == min(float(x.min()) for x in data.train.source)
    assert high == max(float(x.max()) for x in data.train.source)


class Endless(torch.utils.data.Dataset[Any]):
    """As many torch data sets are: indexable, with a length, and no `IndexError` at the end."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(X[k % 40].astype(np.float32))[None], int(Y[k % 40])


def test_a_torch_data_set_is_channels_first() -> None:
    data = load_data(Endless())
    assert sum(len(s) for s in data.splits) == 40
    assert data.train.images((6, 8)).shape == (28, 6, 8, 1)


def test_pictures_of_different_sizes() -> None:
    def pairs() -> Iterator[tuple[Image.Image, int]]:
        for k in range(40):
            yield Image.fromarray(X[k, : 3 + k % 4]), int(Y[k])

    assert load_data(pairs()).test.images((4, 4)).shape == (6, 4, 4, 1)


def test_splits_of_pairs() -> None:
    pairs = list(zip(X, Y, strict=True))
    data = load_data({"train": pairs[:20], "val": pairs[20:30], "test": pairs[30:]})
    assert [len(s) for s in data.splits] == [20, 10, 10]
    with pytest.raises(DataError, match="no test split"):
        load_data({"train": pairs[:20], "val": pairs[20:]})


def test_many_channels_are_resized_one_by_one() -> None:
    x = RNG.integers(0, 256, (40, 6, 8, 5), dtype=np.uint8)
    small = load_data(given_splits(x_train=x, x_val=x, x_test=x)).train.images((3, 4))
    alone = load_data(given_splits(**{f"x_{s}": x[..., 2] for s in ("train", "val", "test")})).train.images((3, 4))
    np.testing.assert_array_equal(small[..., 2], alone[..., 0])


def test_the_digest_tells_every_difference() -> None:
    base = load_data(given_splits()).digest
    assert base == load_data(given_splits()).digest
    other = X.copy()
    other[3, 2, 1] ^= 1
    for change in (
        {"x_val": other},
        {"y_test": 1 - Y},
        {"x_train": X[::-1], "y_train": Y[::-1]},
        {"classes": ["a", "b"]},
    ):
        assert load_data(given_splits(**change)).digest != base


# --- what is refused


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y_val": Y[:-1]}, "40 inputs but 39 labels"),
        ({"x_val": X[:0], "y_val": Y[:0]}, "val split of 'arrays' is empty"),
        ({"y_train": np.zeros(40, int), "y_val": np.zeros(40, int), "y_test": np.zeros(40, int)}, "has 1 class"),
        ({"y_test": np.zeros(40, int)}, "no example of class '1'"),
        ({"y_test": Y - 1}, "labels from -1 to 0"),
        ({"y_train": Y * 2}, "no example of class '1'"),
        ({"y_train": np.eye(2)[Y]}, "argmax"),
        ({"y_train": Y + 0.5}, "whole numbers"),
        ({"y_train": Y * 10**9}, "10001 classes"),
        ({"x_train": X.astype(np.int64) - 7}, "span -7 to"),
        ({"x_train": X > 3}, "of type bool"),
        ({"x_train": X.astype(complex)}, "of type complex"),
        ({"x_train": X[..., None, None]}, "5 axes"),
        ({"x_test": X.astype(np.float32)}, "float32, where the first of train"),
        ({"classes": ["a", "a"]}, "two classes of one name"),
    ],
)
def test_arrays_that_cannot_be_used(change: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_data(given_splits(**change))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_placed(value: float) -> None:
    x = RNG.normal(size=(40, 6, 8))
    x[7, 1, 1] = value
    with pytest.raises(DataError, match=r"val split.*number 7.*not finite"):
        load_data(given_splits(x_train=X / 1.0, x_val=x, x_test=X / 1.0))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([], "yields nothing"),
        ([1, 2], "Item 0 of 'pairs' is a int"),
        ([(X[0], 0), (X[1], 0.5)], "label of item 1"),
        ([(X[0], 0), (X[1], "cat")], "label of item 1 .* 'cat'"),
        ([(Image.new("RGBA", (4, 4)), 0)], "mode RGBA"),
        ({"x": X}, "lacks x_train"),
        (7, "A int is no data set"),
    ],
)
def test_objects_that_are_no_data(source: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        load_data(source)


# --- hostile files


def npz(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_a_header_that_promises_more_than_there_is_allocates_nothing(tmp_path: Path) -> None:
    honest = npy(np.zeros((4, 2), np.uint8))
    lying = honest.replace(b"(4, 2), }", b"(99999999999999, 9), }".ljust(9))
    path = npz(tmp_path / "d.npz", {"x.npy": lying, "y.npy": npy(Y)})
    with pytest.raises(DataError, match=r"d\.npz"):
        load_data(path)


def test_a_file_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz(tmp_path / "d.npz", {"x.npy": npy(np.zeros(3_000_000, np.uint8)), "y.npy": npy(Y)})
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(arrays_module, "MAX_BYTES", 2_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *a: pytest.fail("opened"))
    with pytest.raises(DataError, match="unpacks to"):
        load_data(path)


def test_members_that_are_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.sh"):
        load_data(npz(tmp_path / "d.npz", {"run.sh": b"#!/bin/sh"}))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_data(tmp_path / "d.npz")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("npz") / "d.npz"
    np.savez_compressed(path, x=X, y=Y)
    return path.read_bytes()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    cut=st.none() | st.integers(0, 3000),
    flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 255)), max_size=6),
)
def test_a_damaged_file_is_a_data_error_or_data(
    tmp_path: Path, whole: bytes, cut: int | None, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(whole[:cut])
    for position, value in flips:
        if data:
            data[position % len(data)] ^= value
    (tmp_path / "d.npz").write_bytes(bytes(data))
    with contextlib.suppress(DataError):
        assert load_data(tmp_path / "d.npz").kind == "image"
