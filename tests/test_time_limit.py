"""A run with a time limit, on a clock of its own: plans are kept, and make the run repeatable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_story import Separable
from training_cases import stripes

import thumbnet
from thumbnet.errors import UsageError
from thumbnet.pace import Pace
from thumbnet.result import Result
from thumbnet.search import budget, efforts
from thumbnet.search.budget import Rate

pytestmark = [pytest.mark.emulation, pytest.mark.slow]
PLANS = ("plan-teach", "plan-search")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[Rate]:
    """Nothing takes time but training steps: every network takes the same for one."""
    rates = [Rate(0.1, 0.0)]
    monkeypatch.setattr(budget, "rate", lambda *given, **settings: rates[0])
    monkeypatch.setattr(Pace, "elapsed", property(lambda self: 10.0))
    monkeypatch.setattr(Pace, "tail", lambda self, graph: 5.0)
    monkeypatch.setitem(efforts.EFFORTS, "quick", efforts.Effort(4, ((2, 0.1),), 1, 8, 0, 0.5, 64, 8))
    return rates


def run(run_dir: Path, time_limit: str | None) -> Result:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"input_size": (32, 32), "mean": (127 / 255,), "std": (128 / 255,), "workers": 1}
    limits = {"flash": "24KB", "ram": "12KB"}
    return thumbnet.optimize(
        Separable().eval(),
        stripes(96, 32),
        effort="quick",
        run_dir=run_dir,
        time_limit=time_limit,
        **settings,
        **limits,
    )


def plan(result: Result, name: str) -> int:
    (path,) = (result.run_dir / "stages").glob(f"{name}*/facts.json")
    return int(json.loads(path.read_text())["steps"])


def test_steps_fill_the_time_and_are_recorded(clock: list[Rate], tmp_path: Path) -> None:
    result = run(tmp_path / "run", "50s")
    judging = 5 * 0.1 * 48 / 32 / 2  # of the quantized network along the way: half a step for each batch
    left = 0.97 * 50 - 10 - 5 - judging
    steps, quantized = plan(result, "plan-distil"), plan(result, "plan-quantize")
    # the clock stands still: each plan has all of what is left at its disposal
    assert steps == int(left / (0.1 * 1.5))
    assert quantized == int(left / 0.1)
    details = json.loads((result.run_dir / "details.json").read_text())
    trained = {c["name"]: c["points"][-1]["step"] for c in details["curves"]}
    assert trained["distillation"] == steps
    assert trained["quantization-aware"] == quantized
    assert result.summary["training"]["steps"] >= steps + quantized
    assert json.loads((result.run_dir / "run.json").read_text())["time_limit"] == 50


def test_a_run_that_goes_on_keeps_its_plans_on_a_faster_machine(clock: list[Rate], tmp_path: Path) -> None:
    first = run(tmp_path / "run", "50s")
    before = {p: p.read_bytes() for p in first.run_dir.glob("stages/plan-*/facts.json")}
    model = (first.run_dir / "model.tflite").read_bytes()
    assert len(before) == 4
    for name in ("search", "refine-*"):
        for stage in (first.run_dir / "stages").glob(name):
            (stage / "stage.json").unlink()
    clock[0] = Rate(0.01, 0.0)
    again = run(tmp_path / "run", "50s")
    assert {p: p.read_bytes() for p in again.run_dir.glob("stages/plan-*/facts.json")} == before
    assert (again.run_dir / "model.tflite").read_bytes() == model


def test_too_little_time_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--time-limit 16 s is too short for separable.* at least"):
        run(tmp_path / "run", "16s")
    assert not (tmp_path / "run" / "stages" / "variants").exists()


def test_without_a_limit_nothing_is_planned(tmp_path: Path) -> None:
    result = run(tmp_path / "run", None)
    assert not list(result.run_dir.glob("stages/plan-*"))
