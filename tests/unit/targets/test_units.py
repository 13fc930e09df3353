from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnet.errors import UsageError
from thumbnet.targets import parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("256KB", 262144),
        ("256kb", 262144),
        ("96 KiB", 98304),
        (" 1MB ", 1048576),
        ("1.5M", 1572864),
        ("0.5k", 512),
        ("4096", 4096),
        ("12B", 12),
        (300, 300),
    ],
)
def test_sizes_as_people_write_them(text: str | int, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "KB",
        "-5KB",
        "0",
        0,
        -1,
        "1.3",
        "nan",
        "inf",
        "1e9",
        "256 potatoes",
        "1GB",
        "0x100",
        True,
        1 << 50,
        10**400,
    ],
)
def test_nonsense_is_refused_with_advice(text: str | int) -> None:
    with pytest.raises(UsageError, match="256KB"):
        parse_size(text)


@given(st.integers(1, 1 << 20))
def test_kilobytes_are_1024_bytes(n: int) -> None:
    assert parse_size(f"{n}KB") == parse_size(f"{n} KiB") == 1024 * parse_size(n)
