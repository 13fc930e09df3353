"""Every task once, small: network and data in, verified firmware and a report that names the metric out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import thumbnet
from thumbnet import stages
from thumbnet.errors import DataError, ModelError, UsageError
from thumbnet.progress import Progress, _Sink
from thumbnet.result import Result
from thumbnet.search import efforts

pytestmark = [pytest.mark.emulation, pytest.mark.slow]

Arrays = dict[str, Any]
SIZES = {"train": 64, "val": 32, "test": 32}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(efforts.EFFORTS, "quick", efforts.Effort(2, ((1, 0.5),), 1, 1, 8, 1, 32, 2))
    monkeypatch.setattr(stages, "PROOF_IMAGES", 6)


def fitted(network: nn.Module, inputs: tuple[Any, ...], loss: Callable[[Any], torch.Tensor], steps: int) -> nn.Module:
    """Trained for a moment, so that there is something to lose."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    feeds = [torch.from_numpy(x) for x in inputs]
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network(*feeds)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


def as_seen(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return pixels[:, None].astype(np.float32) / 127.5 - 1


def optimized(model: Any, data: Any, run_dir: Path, **options: Any) -> Result:
    result = thumbnet.optimize(model, data, "nrf52840", effort="quick", run_dir=run_dir, **options)
    assert result.proof["bit_exact"] is True
    assert result.proof["tflm_equal"] is not False
    return result


class Noted(_Sink):
    """What was told along the way."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def checked(result: Result, key: str, name: str) -> dict[str, Any]:
    """What programs and people read: the metric's own key and name, and no accuracy."""
    summary: dict[str, Any] = json.loads((result.run_dir / "result.json").read_text())
    assert summary["metric"]["key"] == key
    low, high = summary["best"][f"{key}_interval"]
    assert low <= summary["best"][key] <= high
    for text in ((result.run_dir / "result.json").read_text(), (result.run_dir / "details.json").read_text()):
        assert '"accuracy"' not in text
    page = result.report.read_text()
    assert f"{name} against flash" in page
    assert result.rows()[0][0] == f"{name} on the test split"
    drop = summary.get("drop_points", summary.get("drop"))
    worse = summary["reference"][key] - summary["best"][key]
    assert drop == pytest.approx(worse if summary["metric"]["higher_is_better"] else -worse)
    loaded = Result.load(result.run_dir)
    assert [t.id for t in loaded.front] == [t.id for t in result.front]
    assert loaded.trials == result.trials or len(loaded.trials) == len(result.trials)
    return summary


# --- segmentation


class UNet(nn.Module):
    name = "unet"

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

        self.first, self.down, self.deep = block(1, 8), block(8, 16, 2), block(16, 16)
        self.up, self.last, self.head = nn.Upsample(scale_factor=2), block(24, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.first(x)
        coarse = self.up(self.deep(self.down(fine)))
        return self.head(self.last(torch.cat([fine, coarse], 1)))  # type: ignore[no-any-return]


def squares(count: int, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Bright and dark squares on grey, with their masks."""
    images, masks = rng.normal(110, 20, (count, 16, 16)), np.zeros((count, 16, 16), np.uint8)
    for k, (top, left) in enumerate(rng.integers(0, 9, (count, 2))):
        place = (k, slice(top, top + 7), slice(left, left + 7))
        images[place] += (90, -80)[k % 2]
        masks[place] = 1 + k % 2
    return images.clip(0, 255).astype(np.uint8), masks


def test_segmentation_from_a_folder_by_the_command_s_path(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    parts = {split: squares(count, rng) for split, count in SIZES.items()}
    for split, arrays in parts.items():
        for kind, values in zip(("images", "masks"), arrays, strict=True):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
            for k, pixels in enumerate(values):
                Image.fromarray(pixels).save(tmp_path / "data" / split / kind / f"{k:02}.png")
    wanted = torch.from_numpy(parts["train"][1]).long()
    network = fitted(UNet(), (as_seen(parts["train"][0]),), lambda o: F.cross_entropy(o, wanted), 30)
    limits: dict[str, Any] = {"flash": "40KB", "ram": "12KB", "max_drop": 20}
    ends, said = nn.Sequential(network, nn.Softmax(1)), Noted()  # as networks of Keras do
    limits["progress"] = Progress(said)
    result = optimized(ends, tmp_path / "data", tmp_path / "run", input_size=(16, 16), **limits)
    assert any(n.startswith("The softmax at the end is left out") for n in said.notes)
    summary = checked(result, "miou", "mIoU")
    assert summary["task"] == "segmentation"
    assert summary["best"]["miou"] > 60
    assert {f["name"] for f in summary["best"]["also"]} >= {"IoU, 0", "IoU, 1", "IoU, 2", "Pixel accuracy"}
    assert result.missed() == ""
    assert "IoU, 2" in result.report.read_text()
    header = (result.firmware / "model.h").read_text()
    assert "model_class_name" not in header  # classes are channels of a map, not outputs


# --- several inputs and outputs, with the user's own loss and metric: the path of detectors


class TwoHeads(nn.Module):
    name = "two heads"

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.row = nn.Sequential(nn.Linear(5, 8), nn.ReLU())
        self.kind, self.where = nn.Linear(24, 2), nn.Conv2d(16, 4, 1)

    def forward(self, image: torch.Tensor, sensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.body(image)
        return self.kind(torch.cat([features.mean((2, 3)), self.row(sensors)], 1)), self.where(features)


def own_loss(outputs: Any, targets: Any) -> torch.Tensor:
    kind, where = outputs
    return F.cross_entropy(kind, targets["kind"]) + (where - targets["where"]).square().mean()


def own_metric(outputs: Any, targets: Any) -> torch.Tensor:
    return 100 * (outputs[0].argmax(1) == targets["kind"]).float().mean()


own_metric.title, own_metric.unit, own_metric.digits = "Right kinds", "%", 1  # type: ignore[attr-defined]


def test_two_inputs_two_outputs_and_the_user_s_own_functions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    data: Arrays = {}
    for split, count in SIZES.items():
        kind = np.arange(count) % 2
        image = rng.integers(0, 160, (count, 12, 12)).astype(np.uint8)
        image[kind == 1] += 60
        sensors = rng.normal(size=(count, 5)).astype(np.float32)
        where = np.broadcast_to(kind[:, None, None, None], (count, 4, 3, 3)).astype(np.float32)
        data |= {f"x_{split}": {"sensors": sensors, "image": image}, f"y_{split}": {"kind": kind, "where": where}}
    inputs = as_seen(data["x_train"]["image"]), data["x_train"]["sensors"]
    targets = {k: torch.from_numpy(np.array(v)) for k, v in data["y_train"].items()}
    network = fitted(TwoHeads(), inputs, lambda o: own_loss(o, targets), 25)
    result = optimized(network, data, tmp_path / "run", loss=own_loss, metric=own_metric)
    summary = checked(result, "own_metric", "Right kinds")
    assert summary["task"] == "custom"
    assert summary["best"]["own_metric"] > 80
    header = (result.firmware / "model.h").read_text()
    for line in ("MODEL_INPUTS 2", "MODEL_INPUT1_OFFSET 144", "MODEL_OUTPUTS 2", "MODEL_OUTPUT1_CHANNELS 4"):
        assert line in header
    assert thumbnet.verify(result.run_dir).bit_exact
    again = thumbnet.compile(result.run_dir / "model.tflite", "nrf52840", tmp_path / "compiled")
    assert again.proof is not None
    assert again.proof.bit_exact
    assert thumbnet.profile(tmp_path / "compiled").ram_bytes == thumbnet.profile(result.run_dir).ram_bytes


# --- numbers, labels, anomalies


def test_regression_on_rows_of_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    data: Arrays = {}
    for split, count in SIZES.items():
        x = rng.normal(size=(4 * count, 10)).astype(np.float32)
        data |= {f"x_{split}": x, f"y_{split}": np.stack([10 * x[:, :3].sum(1), x[:, 4]], 1)}
    wanted = torch.from_numpy(data["y_train"]).float()
    layers = nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)
    network = fitted(nn.Sequential(*layers), (data["x_train"],), lambda o: (o - wanted).square().mean(), 80)
    result = optimized(network, data, tmp_path / "run", task="regression", max_drop=3.0)
    summary = checked(result, "mae", "Mean absolute error")
    assert summary["best"]["mae"] < 6
    assert {f["name"]: f["value"] for f in summary["best"]["also"]}["R²"] > 0.3
    assert result.missed() == ""
    assert "at most 3" in result.report.read_text()
    better = result.summary | {"drop": 5.0}
    assert "5.0000 lost on the test split, 3 allowed" in Result(result.run_dir, better).missed()


def test_several_labels_at_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    data: Arrays = {"classes": ["rows", "columns", "bright"]}
    for split, count in SIZES.items():
        y = rng.integers(0, 2, (count, 3))
        x = rng.normal(90, 20, (count, 16, 16)) + 40 * y[:, 2, None, None]
        x[:, ::2] += 50 * y[:, 0, None, None]
        x[:, :, ::2] += 50 * y[:, 1, None, None]
        data |= {f"x_{split}": x.clip(0, 255).astype(np.uint8), f"y_{split}": y}
    wanted = torch.from_numpy(data["y_train"]).float()
    layers = nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)
    loss = F.binary_cross_entropy_with_logits
    network = fitted(nn.Sequential(*layers, *head), (as_seen(data["x_train"]),), lambda o: loss(o, wanted), 60)
    ends, said = nn.Sequential(network, nn.Sigmoid()), Noted()
    options = {"task": "multi-label", "input_size": (16, 16), "max_drop": 30, "progress": Progress(said)}
    result = optimized(ends, data, tmp_path / "run", **options)
    assert any(n.startswith("The sigmoid at the end is left out") for n in said.notes)
    summary = checked(result, "map", "Mean average precision")
    assert summary["best"]["map"] > 60
    assert "static const char *const names" in (result.firmware / "model.h").read_text()
    with pytest.raises(ModelError, match="ends in a softmax"):  # which orders samples otherwise than its logits do
        optimized(nn.Sequential(network, nn.Softmax(1)), data, tmp_path / "other", **options)


def test_anomalies_by_an_auto_encoder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    basis = rng.normal(size=(3, 24))

    def normal(count: int) -> np.ndarray[Any, Any]:
        return (rng.normal(size=(count, 3)) @ basis + rng.normal(0, 0.1, (count, 24))).astype(np.float32)

    odd = normal(40) + rng.normal(0, 0.6, (40, 24)).astype(np.float32)
    data = {"x_train": normal(192), "x_test": np.concatenate([normal(40), odd]), "y_test": np.repeat([0, 1], 40)}
    x = torch.from_numpy(data["x_train"])
    layers = nn.Linear(24, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 32), nn.ReLU()
    network = nn.Sequential(*layers, nn.Linear(32, 24))
    result = optimized(
        fitted(network, (data["x_train"],), lambda o: (o - x).square().mean(), 200), data, tmp_path / "r"
    )
    summary = checked(result, "auc", "ROC AUC")
    assert (summary["task"], summary["test_images"]) == ("anomaly", 40)
    assert summary["best"]["auc"] > 75
    with pytest.raises(UsageError, match="cannot be varied"):
        optimized(network, data, tmp_path / "other", augment="photo")


# --- what does not go together


def test_what_does_not_fit_is_refused_before_any_work(tmp_path: Path) -> None:
    network, rng = nn.Sequential(nn.Linear(4, 2)), np.random.default_rng(0)
    x = rng.normal(size=(30, 4)).astype(np.float32)
    cases: list[tuple[type[Exception], str, Any, dict[str, Any]]] = [
        (DataError, "numbers of shape", {"x": x, "y": x}, {"task": "regression"}),
        (UsageError, "needs a loss and a metric", {"x": x, "y": x}, {"task": "custom"}),
        (UsageError, "no task 'guessing'", {"x": x, "y": x}, {"task": "guessing"}),
        (UsageError, "no function", {"x": x, "y": x}, {"task": "custom", "loss": "a b", "metric": own_metric}),
        (UsageError, "cannot be imported", {"x": x, "y": x}, {"task": "custom", "loss": "no_such:f", "metric": "a:b"}),
        (UsageError, "has no function 'nothing'", {"x": x, "y": x}, {"loss": "json:nothing"}),
        (DataError, r"takes 1 input\(s\), the data has 2", {"x": (x, x), "y": np.arange(30) % 2}, {}),
        (UsageError, "takes a vector", {"x": x, "y": np.arange(30) % 2}, {"augment": "photo"}),
    ]
    program = torch.export.export(network, (torch.zeros(2, 4),))
    for error, says, data, options in cases:
        with pytest.raises(error, match=says):
            thumbnet.optimize(program, data, "nrf52840", run_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
