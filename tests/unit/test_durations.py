"""Lengths of time as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnet.durations import parse_duration
from thumbnet.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30min", 1800), ("30 min", 1800), ("2h", 7200), ("1h 30min", 5400), ("1.5H", 5400), ("90", 90)],
)
def test_lengths_are_read_as_people_mean_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "bad", ["", "soon", "-5min", "5 parsecs", "min", "0s", "5min!", 0, -1, float("nan"), True, None]
)
def test_what_is_no_length_is_refused(bad: object) -> None:
    with pytest.raises(UsageError, match="no length of time"):
        parse_duration(bad)  # type: ignore[arg-type]


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h {minutes}min {seconds}s") == 3600 * hours + 60 * minutes + seconds
