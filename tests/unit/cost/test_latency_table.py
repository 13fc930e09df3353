from __future__ import annotations

from pathlib import Path

from thumbnet.cost.latency_table import latency_page


def test_the_page_is_made_from_the_cores_and_the_measured_kernels() -> None:
    """Written by `python -m thumbnet.cost.latency_table > docs/latency.md`."""
    assert (Path(__file__).parents[3] / "docs" / "latency.md").read_text() == latency_page()
