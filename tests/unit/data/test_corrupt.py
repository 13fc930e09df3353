"""Damaged inputs: repeatable, within range, nothing at severity 0, and further away the more severe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thumbnet.data.corrupt import IMAGE_CORRUPTIONS, Corruption, array_corruptions

images = hnp.arrays(np.uint8, st.tuples(*(st.integers(1, n) for n in (3, 12, 12, 3))))
kinds = st.sampled_from(IMAGE_CORRUPTIONS)
by_name = pytest.mark.parametrize("corruption", IMAGE_CORRUPTIONS, ids=lambda c: c.name)


def photos(count: int = 70, size: int = 24) -> np.ndarray:
    """Smooth shapes with some texture, away from the ends of the range."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    waves = np.sin(rng.uniform(2, 20, (count, 1, 1)) * rows + rng.uniform(2, 20, (count, 1, 1)) * columns)
    grey = 128 + 40 * waves + rng.normal(0, 8, waves.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@given(images, kinds, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_severity_0_changes_nothing(pixels: np.ndarray, corruption: Corruption, seed: int) -> None:
    np.testing.assert_array_equal(corruption.corrupted(pixels, 0.0, seed), pixels)


@given(images, kinds, st.floats(0.0, 1.0), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_same_seed_gives_the_same_bytes_of_the_same_type(
    pixels: np.ndarray, corruption: Corruption, severity: float, seed: int
) -> None:
    before = pixels.copy()
    first, again = (corruption.corrupted(pixels, severity, seed) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(pixels, before)
    assert (first.dtype, first.shape) == (np.uint8, pixels.shape)


@by_name
def test_more_severe_is_further_from_the_clean_image(corruption: Corruption) -> None:
    pixels = photos()
    distances = [
        np.abs(corruption.corrupted(pixels, s, 0).astype(float) - pixels).mean() for s in (0.0, *corruption.severities)
    ]
    assert distances == sorted(distances)
    assert len(set(distances)) == len(distances)


def test_the_table_names_each_once_with_rising_severities() -> None:
    assert len({c.name for c in IMAGE_CORRUPTIONS}) == len(IMAGE_CORRUPTIONS)
    for c in IMAGE_CORRUPTIONS:
        assert list(c.severities) == sorted(set(c.severities))
        assert c.severities[0] > 0
        assert c.unit


def test_noise_has_the_standard_deviation_it_says_and_depends_on_the_seed() -> None:
    noise = next(c for c in IMAGE_CORRUPTIONS if c.name == "noise")
    grey = np.full((100, 32, 32, 1), 128, np.uint8)
    one, other = noise.corrupted(grey, 0.08, 0), noise.corrupted(grey, 0.08, 1)
    assert np.std(one) == pytest.approx(255 * 0.08, rel=0.02)
    assert np.mean(one) == pytest.approx(128, abs=0.3)
    assert (one != other).mean() > 0.9
    assert len({x.tobytes() for x in one}) == len(one)  # every image has noise of its own


def test_light_is_added_and_cut_off() -> None:
    by = {c.name: c for c in IMAGE_CORRUPTIONS}
    pixels = np.array([0, 100, 250], np.uint8).reshape(1, 1, 3, 1)
    assert by["brighter"].corrupted(pixels, 0.2, 0).ravel().tolist() == [51, 151, 255]
    assert by["darker"].corrupted(pixels, 0.2, 0).ravel().tolist() == [0, 49, 199]


def test_blur_spreads_within_an_image_and_a_channel_alone() -> None:
    blur = next(c for c in IMAGE_CORRUPTIONS if c.name == "blur")
    pixels = np.zeros((2, 21, 21, 2), np.uint8)
    pixels[0, 10, 10, 0] = 255
    out = blur.corrupted(pixels, 0.05, 0)
    assert 0 < out[0, 10, 12, 0] < out[0, 10, 11, 0] < out[0, 10, 10, 0] < 255
    assert not out[1].any()
    assert not out[0, ..., 1].any()


def test_arrays_get_noise_by_their_spread() -> None:
    training = np.random.default_rng(0).normal(3, 5, (1000, 1, 8, 1)).astype(np.float32)
    (noise,) = array_corruptions(training)
    damaged = noise.corrupted(training, 0.2, 0)
    assert damaged.dtype == np.float32
    assert np.std(damaged - training) == pytest.approx(0.2 * 5, rel=0.05)
    np.testing.assert_array_equal(noise.corrupted(training, 0.0, 0), training)
