"""Networks of several sizes in one run: small budgets, the test split closed until the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_evaluation import order, sealed
from test_story import Separable
from training_cases import stripes

import thumbnet
from thumbnet.exporters.tflite import to_tflite
from thumbnet.integer.graph import IntegerGraph
from thumbnet.result import Result

pytestmark = [pytest.mark.emulation, pytest.mark.slow]
__all__ = ["order"]


def run(run_dir: Path, workers: int = 2, **limits: Any) -> Result:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"input_size": (32, 32), "mean": (127 / 255,), "std": (128 / 255,)}
    data = sealed(stripes(96, 32))
    return thumbnet.optimize(
        Separable().eval(), data, effort="quick", run_dir=run_dir, workers=workers, **settings, **limits
    )


def test_a_front_comes_out_where_no_cost_is_limited(order: list[str], tmp_path: Path) -> None:
    result = run(tmp_path / "a")
    assert order == ["closed", "opened"]
    networks = result.networks
    assert 3 <= len(networks) <= 5
    assert [n["flash_bytes"] for n in networks] == sorted(n["flash_bytes"] for n in networks)
    check_marks(networks)
    (chosen,) = [n for n in networks if n["chosen"]]
    assert chosen["val_accuracy"] == max(n["val_accuracy"] for n in networks)
    assert chosen["accuracy"] == result.best["accuracy"]
    for n in networks:
        folder = result.run_dir / "front" / n["id"]
        graph = IntegerGraph.load(folder / "integer.json")
        assert (result.run_dir / n["model"]).read_bytes() == to_tflite(graph)
        low, high = n["accuracy_interval"]
        assert low <= n["accuracy"] <= high
    best = (result.run_dir / "model.tflite").read_bytes()
    assert (result.run_dir / chosen["model"]).read_bytes() == best
    page = result.report.read_text()
    assert "Networks of several sizes" in page
    assert all(n["id"] in page for n in networks)
    assert "Networks of several sizes" in result._repr_html_()
    check_other_workers(result, tmp_path / "b")


def check_marks(networks: list[dict[str, Any]]) -> None:
    for n in networks:
        beaten = any(
            o["flash_bytes"] <= n["flash_bytes"]
            and o["val_accuracy"] >= n["val_accuracy"]
            and (o["flash_bytes"], o["val_accuracy"]) != (n["flash_bytes"], n["val_accuracy"])
            for o in networks
        )
        assert n["undominated"] is not beaten


def check_other_workers(result: Result, run_dir: Path) -> None:
    again = run(run_dir, workers=1)
    assert again.networks == result.networks
    for n in again.networks:
        assert (again.run_dir / n["model"]).read_bytes() == (result.run_dir / n["model"]).read_bytes()


def test_with_a_limit_on_quality_the_smallest_that_keeps_it_is_built(order: list[str], tmp_path: Path) -> None:
    result = run(tmp_path / "run", max_drop=90)
    assert result.networks[0]["chosen"]
    assert result.best["val_accuracy"] == result.networks[0]["val_accuracy"]


def test_one_network_where_a_cost_is_limited_or_no_front_is_asked_for(order: list[str], tmp_path: Path) -> None:
    result = run(tmp_path / "run", front=False)
    assert result.networks == []
    assert not (result.run_dir / "front").exists()
    assert "front" not in json.loads((result.run_dir / "result.json").read_text())
