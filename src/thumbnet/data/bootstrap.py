"""Intervals where no formula is known: the metric on samples drawn again with replacement (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
SEED = 0  # two networks judged on the same samples meet the same draws, so that differences are paired
_CHUNK_CELLS = 4_000_000  # counts held at once

Floats = npt.NDArray[np.float64]


def resampled(size: int, scorer: Callable[[npt.NDArray[np.int64]], Floats], resamples: int = RESAMPLES) -> Floats:
    """The metric of each of `resamples` draws of `size` samples with replacement."""
    rng = np.random.default_rng(SEED)
    chunk = max(1, _CHUNK_CELLS // max(1, size))
    scores = []
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(0, size, (rows, size))
        counts = np.stack([np.bincount(row, minlength=size) for row in drawn])
        scores.append(np.asarray(scorer(counts), np.float64))
    return np.concatenate(scores)


def percentile_interval(scores: Floats) -> tuple[float, float]:
    """The middle 95 % of the scores; draws without a score (a class that was not drawn) are left out."""
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return float("-inf"), float("inf")
    low, high = np.quantile(finite, (0.025, 0.975))
    return float(low), float(high)
