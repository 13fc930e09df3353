"""Intervals of proportions."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson_interval(percent: float, n: int) -> tuple[float, float]:
    """95 % interval, in percent, of an accuracy measured on `n` images (Wilson, JASA 22, 1927)."""
    p, z2 = percent / 100, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)
