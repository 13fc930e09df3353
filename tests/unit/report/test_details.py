"""What the report declares to read is what the types of the run hold."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from thumbnet.cost.plan import Buffer
from thumbnet.report import details
from thumbnet.results import Constraints, Costs, LayerCost, Trial


@pytest.mark.parametrize(
    ("declared", "held"),
    [
        (details.LayerCostJson, LayerCost),
        (details.CostsJson, Costs),
        (details.TrialJson, Trial),
        (details.BufferJson, Buffer),
        (details.LimitsJson, Constraints),
    ],
)
def test_declared_keys_are_the_fields(declared: Any, held: Any) -> None:
    assert set(declared.__annotations__) == {f.name for f in fields(held)}
