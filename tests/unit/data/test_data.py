"""Data sets: folders, arrays, pairs, preprocessing, augmentation, intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import multinomial

from thumbnet.data import Augmentation, Classification, Preprocessing, load_data
from thumbnet.data.preprocessing import luma
from thumbnet.errors import DataError, UsageError


def write_images(folder: Path, count: int, size: tuple[int, int] = (12, 10), mode: str = "L", seed: int = 0) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    for k in range(count):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{k:03}.png")


def test_a_folder_without_splits_is_dealt_within_each_class_and_stably(tmp_path: Path) -> None:
    write_images(tmp_path / "d" / "bad", 20)
    write_images(tmp_path / "d" / "good", 40, seed=1)
    data = load_data(tmp_path / "d")
    assert data.classes == ("bad", "good")
    assert [np.bincount(s.labels).tolist() for s in data.splits] == [[14, 28], [3, 6], [3, 6]]
    assert data.digest == load_data(tmp_path / "d").digest
    assert data.digest != load_data(tmp_path / "d", seed=1).digest


def test_a_folder_with_splits_keeps_them_and_grey_stays_grey(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("valid", 3), ("test", 4)):
        for name in ("a", "b"):
            write_images(tmp_path / split / name, count)
    data = load_data(tmp_path)
    assert [len(s) for s in data.splits] == [10, 6, 8]
    assert data.channels == 1
    assert data.train.images((6, 8)).shape == (10, 6, 8, 1)


def test_one_colour_image_makes_the_data_colour(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 4)
    write_images(tmp_path / "b", 4, mode="RGB")
    assert load_data(tmp_path).train.images((5, 5)).shape[-1] == 3


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((1, 32, 32, 1), np.uint8)
    stripes[:, :, ::2] = 255
    arrays = {
        f"{a}_{s}": v
        for s in ("train", "val", "test")
        for a, v in (("x", np.repeat(stripes, 2, 0)), ("y", np.array([0, 1])))
    }
    small = load_data(arrays).train.images((4, 4))
    assert abs(int(small[0, 2, 2, 0]) - 127) < 12


def test_npz_and_pairs_give_the_same_inputs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3, 5, 2)).astype(np.float32), np.arange(40) % 2
    np.savez(tmp_path / "d.npz", x=x, y=y)
    a, b = load_data(tmp_path / "d.npz"), load_data(list(zip(x, y, strict=True)))
    assert a.kind == b.kind == "array"
    for p, q in zip(a.splits, b.splits, strict=True):
        np.testing.assert_array_equal(p.source, q.source)
        np.testing.assert_array_equal(p.labels, q.labels)


def test_arrays_cannot_be_resized() -> None:
    x = np.zeros((8, 4, 4, 1), np.float32)
    arrays = {f"{a}_{s}": v for s in ("train", "val", "test") for a, v in (("x", x), ("y", np.arange(8) % 2))}
    with pytest.raises(DataError, match="cannot be resized"):
        load_data(arrays).train.images((2, 2))


def test_the_input_of_equal_channels_is_pixel_minus_128() -> None:
    p = Preprocessing((1, 256), 1, (127 / 255,), (128 / 255,))
    assert p.input_qparams() == (1 / 128, -1)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1)
    stored = p.quantize(pixels, *p.input_qparams())
    np.testing.assert_array_equal(stored.ravel(), np.arange(-128, 128))


@given(mean=st.floats(0, 1), std=st.floats(0.01, 1), channels=st.integers(1, 3))
def test_equal_channels_are_stored_as_pixel_minus_128_whatever_the_mean(mean: float, std: float, channels: int) -> None:
    p = Preprocessing((16, 16), channels, (mean,) * channels, (std,) * channels)
    scale, zero = p.input_qparams()
    assert np.float32(scale) == scale
    assert -128 <= zero <= 127
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(channels, -1)
    stored = p.quantize(pixels, scale, zero)
    np.testing.assert_array_equal(stored, pixels.astype(int) - 128)
    real = (stored.astype(float) - zero) * scale
    assert np.abs(real.transpose(0, 3, 1, 2) - p.normalize(pixels)).max() <= 0.501 * scale
    on_grid = p.on_grid()
    assert on_grid.input_qparams() == (scale, zero)
    assert np.abs(real.transpose(0, 3, 1, 2) - on_grid.normalize(pixels)).max() <= 1e-4 * scale + 1e-6


def test_grey_is_what_pillow_makes_of_colours_in_training_and_in_the_firmware() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    pixels[0] = pixels[0, ..., :1]  # grey to begin with
    wanted = np.stack([np.asarray(Image.fromarray(x).convert("L")) for x in pixels])[..., None]
    np.testing.assert_array_equal(luma(pixels), wanted)
    np.testing.assert_array_equal(luma(pixels)[0], pixels[0, ..., :1])
    p = Preprocessing((9, 7), 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    grey = p.at((1, 9, 7))
    assert (grey.shape, grey.json()["grey"], grey.uniform) == ((1, 9, 7), True, True)
    assert "grey" not in p.at((3, 4, 4)).json()
    assert p.at((3, 4, 5)).size == p.at((4, 5)).size == (4, 5)
    scale, zero = grey.input_qparams()
    stored = grey.quantize(pixels, scale, zero)
    np.testing.assert_array_equal(stored, (wanted.astype(int) - 128).astype(np.int8))
    real = grey.normalize(pixels)
    np.testing.assert_allclose((stored.transpose(0, 3, 1, 2) - np.float32(zero)) * np.float32(scale), real, atol=1e-5)
    of_colours = p.normalize(np.repeat(wanted, 3, -1))
    gain, offset = (np.array(c, np.float32)[:, None, None] for c in zip(*p.colours, strict=True))
    np.testing.assert_allclose(real * gain + offset, of_colours, atol=1e-5)
    floats = np.repeat(rng.normal(size=(2, 4, 4, 1)).astype(np.float32), 3, -1)
    np.testing.assert_allclose(luma(floats), floats[..., :1], rtol=1e-6)


def test_training_and_firmware_see_the_same_inputs_on_the_grid() -> None:
    p = Preprocessing((16, 16), 1, (0.5,), (0.5,)).on_grid()
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    scale, zero = p.input_qparams()
    fake = torch.fake_quantize_per_tensor_affine(torch.from_numpy(p.normalize(pixels)), scale, zero, -128, 127)
    stored = torch.from_numpy(p.quantize(pixels, scale, zero)).permute(0, 3, 1, 2)
    torch.testing.assert_close(fake, (stored.float() - zero) * scale)


@given(low=st.floats(-100, 100), width=st.floats(0, 100))
@example(low=1e-42, width=1e-42)  # below the smallest normal float32
def test_float_inputs_cover_their_range_and_zero_exactly(low: float, width: float) -> None:
    p = Preprocessing.of_array((1, 3), 1, (low, low + width))
    scale, zero = p.input_qparams()
    x = np.array([low, low + width, 0.0], np.float32).reshape(1, 1, 3, 1)
    real = (p.quantize(x, scale, zero).astype(float) - zero) * scale
    assert np.abs(real - x).max() <= 1.01 * scale
    assert real.ravel()[2] == 0
    assert p.table(scale, zero) is None


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ((123.7,), (0.5,), "divide one for 0..255"),
        ((0.5,), (58.4,), "divide one for 0..255"),
        ((0.5,), (0.0,), "0 excluded"),
        ((float("nan"),), (0.5,), "not within"),
        ((0.5, 0.5), (0.5,), "1 channels, 2 means"),
    ],
)
def test_mean_and_std_that_cannot_be_meant(mean: tuple[float, ...], std: tuple[float, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Preprocessing((4, 4), 1, mean, std)


@given(mean=st.lists(st.floats(0, 1), min_size=3, max_size=3), std=st.lists(st.floats(0.05, 1), min_size=3, max_size=3))
def test_quantized_pixels_stay_within_half_a_step_of_the_normalized_ones(mean: list[float], std: list[float]) -> None:
    p = Preprocessing((16, 16), 3, tuple(mean), tuple(std))
    pixels = np.arange(768).astype(np.uint8).reshape(1, 16, 16, 3)
    scale, zero = p.input_qparams()
    real = (p.quantize(pixels, scale, zero).astype(float) - zero) * scale
    # one step: half from rounding the value, half from rounding the zero point at the ends of the range
    assert np.abs(real.transpose(0, 3, 1, 2) - p.normalize(pixels)).max() <= 1.01 * scale


def test_augmentation_is_reproducible_and_changes_each_image_on_its_own() -> None:
    x = torch.rand(6, 1, 16, 16)
    surface = Augmentation.named("surface")
    a = surface.apply(x, surface.draw(6, torch.Generator().manual_seed(3)))
    b = surface.apply(x, surface.draw(6, torch.Generator().manual_seed(3)))
    assert torch.equal(a, b)
    same = surface.apply(x[:1].expand(6, -1, -1, -1), surface.draw(6, torch.Generator().manual_seed(3)))
    assert len({tuple(v.flatten().tolist()) for v in same}) == 6
    assert torch.equal(Augmentation.named("none").apply(x, Augmentation.named("none").draw(6, torch.Generator())), x)


def test_a_view_is_the_same_at_every_resolution() -> None:
    surface = Augmentation(flip=True, upside_down=True, transpose=True, shift=0.0, contrast=0.0, brightness=0.0)
    view = surface.draw(8, torch.Generator().manual_seed(0))
    small = torch.rand(8, 1, 4, 4)
    large = small.repeat_interleave(3, 2).repeat_interleave(3, 3)
    torch.testing.assert_close(surface.apply(large, view)[:, :, ::3, ::3], surface.apply(small, view))


def test_wilson_interval_against_a_published_value() -> None:
    # 81 of 263: 0.2553 to 0.3662 (Newcombe, Statistics in Medicine 17, 1998, table I, method 3)
    labels = np.zeros(263, int)
    answers = (np.arange(263) >= 81).astype(int)
    low, high = Classification(("a", "b")).interval(labels, answers)
    assert low == pytest.approx(25.53, abs=0.01)
    assert high == pytest.approx(36.62, abs=0.01)


def test_paired_interval_ignores_images_on_which_both_agree() -> None:
    task = Classification(("a", "b"))
    labels = np.zeros(100, int)
    right, wrong = labels.copy(), labels.copy()
    wrong[50:] = 1
    low, high = task.drop_interval(labels, right, right)
    assert low == -high < 0 < high < 3
    assert task.drop_interval(labels, wrong, wrong) == (low, high)
    after = right.copy()
    after[:4] = 1
    low, high = task.drop_interval(labels, right, after)
    assert low < 4 < high


@pytest.mark.parametrize(("lost", "won"), [(0.05, 0.02), (0.1, 0.1), (0.01, 0.0), (0.2, 0.05)])
def test_paired_interval_covers_the_true_drop_about_95_times_in_100(lost: float, won: float) -> None:
    n, task = 90, Classification(("a", "b"))
    labels, covered = np.zeros(n, int), 0.0
    for a in range(n + 1):  # every outcome: a images lost, b won, with its probability
        for b in range(n + 1 - a):
            chance = multinomial.pmf([a, b, n - a - b], n, [lost, won, 1 - lost - won])
            if chance > 1e-9:
                before, after = np.zeros(n, int), np.zeros(n, int)
                after[:a], before[a : a + b] = 1, 1
                low, high = task.drop_interval(labels, before, after)
                covered += chance * (low <= 100 * (lost - won) <= high)
    assert covered > 0.935


def test_confusion_counts_rows_by_truth() -> None:
    counts = Classification(("a", "b")).confusion(np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert counts.tolist() == [[1, 1], [0, 1]]
