"""Honest evaluation: the test split stays closed until the end, and both networks see the same damaged samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_story import Separable
from training_cases import stripes

import thumbnet
from thumbnet import robustness as robust
from thumbnet import stages
from thumbnet.data import Dataset, Split, load_data
from thumbnet.data.corrupt import IMAGE_CORRUPTIONS
from thumbnet.graph.evaluate import evaluate_values
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.job import Job
from thumbnet.refine import integer_answers
from thumbnet.report.insight import robustness_sentence
from thumbnet.report.report import render
from thumbnet.result import Result
from thumbnet.search import efforts
from thumbnet.targets import limits_on, load_target
from thumbnet.training.images import Images
from thumbnet.training.loop import predict
from thumbnet.training.module import GraphModule

pytestmark = [pytest.mark.emulation, pytest.mark.slow]
BOARD = load_target("nrf52840")
HIDDEN = {"source", "labels", "further_inputs", "further_targets", "_resized", "images"}


class Sealed(Split):
    """A split that nobody may look into while `closed`; how many samples there are is no secret."""

    closed = False

    def __getattribute__(self, name: str) -> Any:
        if name in HIDDEN and Sealed.closed:
            raise AssertionError(f"'{name}' of the test split was read before the end")
        return super().__getattribute__(name)

    def __len__(self) -> int:
        return len(object.__getattribute__(self, "labels"))


def sealed(data: Dataset) -> Dataset:
    values = {f.name: getattr(data, f.name) for f in fields(data)}
    own = data.test
    test = Sealed("test", own.source, own.labels, own.further_inputs, own.further_targets)
    return Dataset(**{**values, "test": test})


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Closes the test split when the story begins (the data has been checked and hashed), opens it for the report."""
    began, ended, heard = stages.load_reference, stages.report, []

    def close(*given: Any) -> Any:
        Sealed.closed = True
        heard.append("closed")
        return began(*given)

    def unseal(*given: Any) -> Any:
        Sealed.closed = False
        heard.append("opened")
        return ended(*given)

    monkeypatch.setattr(stages, "load_reference", close)
    monkeypatch.setattr(stages, "report", unseal)
    monkeypatch.setitem(efforts.EFFORTS, "quick", efforts.Effort(6, ((4, 0.3), (2, 0.6)), 2, 2, 20, 0.5, 64, 4))
    yield heard
    Sealed.closed = False


def optimized(run_dir: Path, data: Dataset) -> Result:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"input_size": (32, 32), "mean": (127 / 255,), "std": (128 / 255,)}
    limits = {"flash": "18KB", "ram": "9KB"}
    return thumbnet.optimize(Separable().eval(), data, effort="quick", run_dir=run_dir, **settings, **limits)


def test_the_test_split_stays_closed_until_the_report(order: list[str], tmp_path: Path) -> None:
    result = optimized(tmp_path / "run", sealed(stripes(96, 32)))
    assert order == ["closed", "opened"]
    inputs = np.load(tmp_path / "run" / "proof_inputs.npy")
    validation = stripes(96, 32).val.images((32, 32))
    assert inputs.reshape(48, -1).tobytes() == (validation.astype(np.int16) - 128).astype(np.int8).tobytes()
    check_summary(result)
    check_details(result)
    before = (result.run_dir / "result.json").read_bytes()
    kept = [p.stat().st_mtime_ns for p in stage_files(result)]
    again = optimized(tmp_path / "run", sealed(stripes(96, 32)))
    assert again.summary["robustness"] == json.loads(before)["robustness"]
    assert [p.stat().st_mtime_ns for p in stage_files(again)] == kept


def stage_files(result: Result) -> list[Path]:
    return [result.run_dir / "stages" / name / "facts.json" for name in ("robustness", "insight")]


def check_summary(result: Result) -> None:
    found = result.summary["robustness"]
    assert (found["samples"], found["of"], found["kind"]) == (48, 48, "measured")
    assert len(found["points"]) == 1 + sum(len(c.severities) for c in IMAGE_CORRUPTIONS)
    clean = found["points"][0]
    assert clean["reference"] == result.baseline["accuracy"]  # all test samples, at the reference's size
    assert clean["corruption"] == "none"
    assert clean["drop"] == pytest.approx(clean["reference"] - clean["result"])
    assert robustness_sentence(found, result.metric) in result.table().caption  # type: ignore[attr-defined]
    for side in (result.baseline, result.best):
        low, high = side["val_accuracy_interval"]
        assert low <= side["val_accuracy"] <= high
        assert low < high


def check_details(result: Result) -> None:
    details = json.loads((result.run_dir / "details.json").read_text())
    assert len(details["finalists"]) == 2
    for finalist in details["finalists"]:
        low, high = finalist["interval"]
        assert low <= finalist["score"] <= high
    chosen = next(f for f in details["finalists"] if f["id"] == details["validation"]["best_trial"])
    assert chosen["score"] == result.best["val_accuracy"] == max(f["score"] for f in details["finalists"])
    assert [m["move"] for m in details["insight"]["moves"]] == details["moves"]
    page = result.report.read_text()
    for text in ("Why this network", "Noise, blur and other light"):
        assert text in page
    for move in details["insight"]["moves"]:
        assert move["move"][:20] in page
    for group in details["insight"]["groups"]:
        assert group["group"] in page


def test_both_networks_see_the_same_damage(order: list[str], tmp_path: Path) -> None:
    """The figures of one damaged condition, computed again from pixels."""
    data = stripes(96, 32, seed=3)
    result = optimized(tmp_path / "run", data)
    Sealed.closed = False
    point = next(
        p for p in result.summary["robustness"]["points"] if p["corruption"] == "blur" and p["severity"] == 0.03
    )
    blur = next(c for c in IMAGE_CORRUPTIONS if c.name == "blur")
    pixels = blur.corrupted(data.test.images((32, 32)), 0.03, 0)
    labels = data.test.labels
    torch.manual_seed(0)
    network = Separable().eval()
    x = (torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2) - 127) / 128
    with torch.no_grad():
        assert point["reference"] == pytest.approx(100 * float((network(x).argmax(1).numpy() == labels).mean()))
    integer = IntegerGraph.load(result.run_dir / "integer.json")
    job = job_of(data)
    split = Split("test", pixels, labels)
    answers = torch.cat([b.outputs[0] for b in integer_answers(job, integer, split)])
    assert point["result"] == pytest.approx(100 * float((answers.argmax(1).numpy() == labels).mean()))


def job_of(data: Dataset) -> Job:
    torch.manual_seed(0)
    network = Separable().eval()
    return Job.of(
        *(network, data, BOARD, limits_on(BOARD), "quick", 0),
        *((32, 32), (127 / 255,), (128 / 255,), None, None),
    )


def test_a_large_test_split_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust, "SAMPLES", 10)
    split = robust._some(stripes(96, 32).test, (32, 32))
    assert len(split) == 10
    assert [int(np.where((stripes(96, 32).test.images((32, 32)) == x).all((1, 2, 3)))[0][0]) for x in split.source] == [
        0, 5, 10, 16, 21, 26, 31, 37, 42, 47,
    ]  # fmt: skip


def test_what_is_no_image_gets_noise_alone() -> None:
    x = np.random.default_rng(0).normal(0, 2, (40, 6)).astype(np.float32)
    data = load_data({"x": x, "y": np.arange(40) % 2})
    network = torch.nn.Linear(6, 2).eval()
    job = Job.of(network, data, BOARD, limits_on(BOARD), "quick", 0, *[None] * 5)
    (noise,) = robust.corruptions_of(job)
    assert noise.name == "noise"
    assert noise.unit == "of the standard deviation of the training inputs"
    damaged = noise.corrupted(np.asarray(data.test.source), 0.4, 0)
    outputs = predict(GraphModule(job.graph), Images.of(Split("test", damaged, data.test.labels), job.preprocessing))
    assert outputs.shape == (len(data.test), 2)


def test_a_metric_of_ones_own_is_not_called_thousands_of_times() -> None:
    calls = []

    def right(outputs: torch.Tensor, targets: torch.Tensor) -> float:
        calls.append(len(outputs))
        return float((outputs.argmax(1) == targets).float().mean())

    data = stripes(96, 32)
    torch.manual_seed(0)
    job = Job.of(
        *(Separable().eval(), data, BOARD, limits_on(BOARD), "quick", 0),
        *((32, 32), (127 / 255,), (128 / 255,), None, None, None, None, right),
    )
    graph = clean(job.graph)
    integer = lower(graph, ranges_of(job, graph), fixed=job.input_grid(graph))
    found = robust.robustness(job, job.graph, integer)
    conditions = 1 + sum(len(c.severities) for c in IMAGE_CORRUPTIONS)
    assert len(calls) == 2 * conditions
    assert found["mean"]["more_lost_interval"] == [None, None]
    assert robustness_sentence(found, job.task.metric)
    page = render({"metric": job.task.metric.json(), "robustness": found}, {})  # type: ignore[typeddict-item]
    assert "than the reference to them." in page


def ranges_of(job: Job, graph: Graph) -> dict[str, tuple[float, float]]:
    images = Images.of(job.data.train, job.preprocessing)
    values = evaluate_values(graph, {graph.inputs[0].name: images.normalized(slice(0, 64))})
    return {k: (float(v.min()), float(v.max())) for k, v in values.items()}
