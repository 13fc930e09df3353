"""The whole story once, small: a torch network and arrays in, verified firmware and a report out."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import stripes

import thumbnet
from thumbnet.cli import _show
from thumbnet.errors import InfeasibleError, RunError
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.kept import load_float_graph
from thumbnet.result import Result
from thumbnet.search import efforts

pytestmark = [pytest.mark.emulation, pytest.mark.slow]


class Separable(nn.Module):
    """A MobileNet-like network for 32 × 32 grey images."""

    name = "separable"

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.ReLU6(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU6(),
            )

        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(block(16, 32, 1), block(32, 64, 2), block(64, 64, 1))
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def reference() -> Separable:
    """Trained for a moment, so that there is something to lose."""
    torch.manual_seed(0)
    network, data = Separable(), stripes(96, 32)
    x = (torch.from_numpy(data.train.images((32, 32))).permute(0, 3, 1, 2).float() - 127) / 128
    y = torch.from_numpy(data.train.labels)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network.eval()


OTHER_LIMITS = {"energy_mj": 5.0, "cycles": 10_000_000, "latency_ms": 400.0}


def run(reference: Separable, run_dir: Path, **limits: object) -> Result:
    settings: dict[str, object] = {
        "flash": "24KB",
        "ram": "12KB",
        "max_drop": 20,
        "metric_limit": 40,
        **OTHER_LIMITS,
        **limits,
    }
    return thumbnet.optimize(
        reference,
        stripes(96, 32),
        "nrf52840",
        effort="quick",
        seed=1,
        run_dir=run_dir,
        input_size=(32, 32),
        mean=(127 / 255,),
        std=(128 / 255,),
        **settings,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def small_effort() -> None:
    patch = pytest.MonkeyPatch()
    patch.setitem(efforts.EFFORTS, "quick", efforts.Effort(4, ((2, 0.1),), 1, 8, 0, 0.5, 64, 8))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def result(reference: Separable, small_effort: None, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(reference, tmp_path_factory.mktemp("story") / "run")


def test_it_fits_and_is_proved(result: Result) -> None:
    assert result.missed() == ""
    assert result.best["flash_bytes"] <= 24 << 10
    assert result.best["ram_bytes"] <= 12 << 10
    assert result.proof["images"] == 48
    assert result.proof["bit_exact"] is True
    assert result.best["accuracy"] > 60
    assert result.summary["test_images"] == 48


def test_predicted_flash_and_ram_are_within_two_percent_of_the_linked_firmware(result: Result) -> None:
    costs = json.loads((result.run_dir / "details.json").read_text())["best_costs"]
    assert costs["flash_bytes"] == pytest.approx(result.best["flash_bytes"], rel=0.02)
    assert costs["ram_bytes"] == pytest.approx(result.best["ram_bytes"], rel=0.02)


def test_result_json_holds_what_programs_expect(result: Result) -> None:
    data = json.loads((result.run_dir / "result.json").read_text())
    assert set(data) >= {"reference", "best", "drop_points", "test_images", "proof", "seed", "wall_seconds", "versions"}
    assert set(data["reference"]) >= {"accuracy", "size_bytes", "parameters", "macs"}
    assert set(data["best"]) >= {
        "accuracy",
        "accuracy_interval",
        "flash_bytes",
        "code_bytes",
        "ram_bytes",
        "parameters",
        "macs",
        "instructions",
        "cycles",
        "latency_ms",
    }
    assert data["drop_points"] == pytest.approx(data["reference"]["accuracy"] - data["best"]["accuracy"])
    low, high = data["best"]["accuracy_interval"]
    assert low < data["best"]["accuracy"] <= high


def test_the_report_is_one_file_that_asks_for_nothing(result: Result) -> None:
    page = result.report.read_text()
    assert "<html" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page


def test_the_same_call_loads_everything_and_gives_the_same_firmware(result: Result, reference: Separable) -> None:
    before = (result.firmware / "model.c").read_bytes()
    stages = {p: p.stat().st_mtime_ns for p in (result.run_dir / "stages").rglob("stage.json")}
    again = run(reference, result.run_dir)
    assert (again.firmware / "model.c").read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in stages} == stages


@pytest.mark.parametrize("workers", [1, 3])
def test_another_run_with_the_same_seed_gives_the_same_bytes_whatever_the_workers(
    workers: int, result: Result, reference: Separable, tmp_path: Path
) -> None:
    again = run(reference, tmp_path / "again", workers=workers)
    for name in ("firmware/model.c", "model.tflite"):
        assert (again.run_dir / name).read_bytes() == (result.run_dir / name).read_bytes(), name
    assert again.trials == result.trials


def test_the_proof_can_be_repeated_and_notices_a_changed_weight(result: Result, tmp_path: Path) -> None:
    assert thumbnet.verify(result.run_dir).bit_exact
    copy = result.save(tmp_path / "kept")
    assert (copy / "firmware" / "model.c").is_file()


def test_its_networks_go_elsewhere(result: Result, tmp_path: Path) -> None:
    graph = load_float_graph(result.run_dir)
    folder = thumbnet.export(result, "torch", tmp_path / "torch").path
    spec = importlib.util.spec_from_file_location("story_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = np.random.default_rng(0).normal(size=(4, *graph.inputs[0].shape)).astype(np.float32)
    torch.testing.assert_close(module.load()(torch.from_numpy(x)).detach(), torch.from_numpy(evaluate_graph(graph, x)))
    written = thumbnet.export(result, "tflite")
    assert written.path.read_bytes() == (result.run_dir / "model.tflite").read_bytes()
    sources = thumbnet.export(result, "c", tmp_path / "c", layout="arduino").path
    assert (sources / "src" / "model.c").read_bytes() == (result.firmware / "model.c").read_bytes()


def test_limits_that_cannot_be_met_name_the_nearest_that_can(
    reference: Separable, small_effort: None, tmp_path: Path
) -> None:
    with pytest.raises(InfeasibleError, match=r"nearest needs .* KB of flash .* --flash \d+KB would do"):
        run(reference, tmp_path / "r", flash="2KB")
    assert not (tmp_path / "r" / "stages").exists()  # before the reference is asked for its answers


def test_quality_that_is_missed_is_told_and_nothing_is_lost(result: Result) -> None:
    best = result.best | {"accuracy": 80.0}
    missing = Result(result.run_dir, result.summary | {"best": best, "limits": {"metric_limit": 90.0}})
    assert missing.missed() == ("Accuracy 80.0 % on the test split, at least 90 % asked for (missed by 10.00 points)")
    with pytest.raises(InfeasibleError, match=r"missed by 10\.00 points.*verified") as caught:
        _show(missing)
    assert caught.value.exit_code == 6
    assert str(result.run_dir) in str(caught.value)


def test_energy_is_what_the_board_draws_for_as_long_as_it_takes(result: Result) -> None:
    assert result.best["energy_mj"] == pytest.approx(3.3 * 3.0 * result.best["latency_ms"] / 1000)
    assert "Energy" in result.report.read_text()


def test_another_job_may_not_use_the_run_directory(result: Result, reference: Separable) -> None:
    with pytest.raises(RunError, match="another job"):
        run(reference, result.run_dir, flash="30KB")


def test_it_prints_well(result: Result) -> None:
    assert "separable on nrf52840" in repr(result)
    assert "Flash" in result._repr_html_()
    assert result.front
    loaded = Result.load(result.run_dir)
    assert loaded.best == result.best
    assert [t.id for t in loaded.front] == [t.id for t in result.front]
    assert np.all([t.costs is not None for t in result.front])
