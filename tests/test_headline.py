"""The headline benchmark: its networks, its fitting, its figures, and every method on a problem of a few seconds."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import headline
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from headline_methods import METHODS
from headline_networks import CifarResNet, MobileNetV1, cifar_resnet, mobilenet_v1, read_npz
from headline_plot import accuracy_against_flash
from headline_problems import PROBLEMS, SHARED, Problem, shared
from headline_pruning import lowest
from headline_results import BEGIN, END, between_marks, merged, rows, short_table, table
from headline_setting import STEPS, Width, chosen, largest, resolutions
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thumbnet import stages, story
from thumbnet.data import Dataset, dataset_from_arrays
from thumbnet.errors import DataError
from thumbnet.search import efforts

needs_shared = pytest.mark.skipif(
    not os.environ.get(SHARED), reason=f"{SHARED} does not name the folder of data sets and models"
)


# --- networks


def backbone(widths: tuple[int, ...] = (8, *[12] * 13), seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays as the MobileNetV1 file has them: HWIO kernels, depthwise [3, 3, C, 1], biases."""
    rng = np.random.default_rng(seed)
    shapes = [("conv", (3, 3, 3, widths[0]))]
    for inputs, outputs in pairwise(widths):
        shapes += [("dw", (3, 3, inputs, 1)), ("conv", (1, 1, inputs, outputs))]
    out = {}
    for k, (kind, shape) in enumerate(shapes):
        fan = np.prod(shape[:3]) if kind == "conv" else 9
        out[f"{k:02}_{kind}_kernel"] = rng.normal(0, np.sqrt(2 / fan), shape).astype(np.float32)
        out[f"{k:02}_bias"] = rng.normal(0.3, 0.1, shape[2] if kind == "dw" else shape[3]).astype(np.float32)
    return out


def by_hand(arrays: dict[str, np.ndarray], x: torch.Tensor) -> torch.Tensor:
    """Features [N, C] of the file's own layers: no batch norm, TensorFlow's SAME padding, ReLU6."""
    strides = iter((2, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2, 1, *[1] * 10, 2, 1, 1, 1))
    for name in sorted(arrays):
        if not name.endswith("_kernel"):
            continue
        stride, kernel = next(strides), arrays[name]
        order = (2, 3, 0, 1) if "dw" in name else (3, 2, 0, 1)
        w = torch.from_numpy(np.ascontiguousarray(kernel.transpose(order)))
        groups = len(w) if "dw" in name else 1
        if w.shape[2] == 3:
            total = max((-(-x.shape[3] // stride) - 1) * stride + 3 - x.shape[3], 0)
            x = F.pad(x, (total // 2, total - total // 2) * 2)
        x = F.conv2d(x, w, torch.from_numpy(arrays[name.replace(name[3:], "bias")]), stride, 0, 1, groups).clamp(0, 6)
    return x.mean((2, 3))


def features(network: MobileNetV1, x: torch.Tensor) -> torch.Tensor:
    for layer in network.layers:
        x = layer(x)
    return x.mean((2, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_norms_are_put_back_without_a_change(channels: int) -> None:
    """In evaluation mode; in training mode on the images that were measured, too."""
    arrays, x = backbone(), torch.randn(6, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    network = mobilenet_v1(arrays, 2, x)
    wanted = by_hand(arrays, x.expand(-1, 3, -1, -1))
    with torch.no_grad():
        torch.testing.assert_close(features(network.eval(), x), wanted, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(features(network.train(), x), wanted, rtol=2e-2, atol=2e-2)


def test_frozen_layers_keep_weights_and_statistics() -> None:
    x = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    network = mobilenet_v1(backbone(), 2, x, frozen=3).train()
    before = {k: v.clone() for k, v in network.layers[:3].state_dict().items()}
    network(3 * x).sum().backward()
    assert all(p.grad is None for p in network.layers[:3].parameters())
    assert all(torch.equal(v, before[k]) for k, v in network.layers[:3].state_dict().items())
    assert all(p.grad is not None for p in network.layers[3:].parameters())


def test_shortcuts_are_those_of_option_a() -> None:
    """A 1×1 convolution of zeros and ones is the strided slice between channels of zeros."""
    torch.manual_seed(0)
    network, x = CifarResNet(1, width=4), torch.randn(2, 4, 8, 8)
    block = network.layer2[0]
    wanted = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
    assert torch.equal(block.shortcut(x), wanted)


def test_resnet_takes_the_names_of_its_file() -> None:
    torch.manual_seed(0)
    first = CifarResNet(2, width=4).eval()
    arrays = {k: v.numpy() for k, v in first.state_dict().items() if "shortcut" not in k and "batches" not in k}
    second, x = cifar_resnet(arrays), torch.randn(2, 3, 16, 16)
    assert second.name == "resnet-14"
    assert torch.equal(first(x), second(x))
    with pytest.raises(KeyError):
        cifar_resnet({k: v for k, v in arrays.items() if k != "layer3.1.bn2.bias"})


@needs_shared
@pytest.mark.slow
def test_public_networks_and_splits() -> None:
    resnet = cifar_resnet(read_npz(shared("models", "cifar10_resnet", "resnet56.npz")))
    data = PROBLEMS["cifar10"].load()
    assert [len(s) for s in data.splits] == [20_000, 3_000, 10_000]
    p = PROBLEMS["cifar10"].preprocessing(data)
    from thumbnet.training.images import Images
    from thumbnet.training.loop import accuracy, predict

    test = Images.of(data.test, p)
    first = Images(test.pixels[:500], test.labels[:500], p)
    assert accuracy(predict(resnet, first), first.labels) > 91
    assert [len(s) for s in PROBLEMS["elpv"].load().splits] == [1733, 357, 534]
    assert [len(s) for s in PROBLEMS["magnetic"].load().splits] == [892, 156, 296]


def test_missing_data_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(SHARED, raising=False)
    with pytest.raises(DataError, match="THUMBNET_SHARED is not set"):
        PROBLEMS["cifar10"].load()
    monkeypatch.setenv(SHARED, str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        PROBLEMS["magnetic"].load()


# --- fitting


@given(st.integers(1, 2048), st.floats(0, 1), st.sampled_from(STEPS))
def test_widths_are_multiples_and_never_none(size: int, fraction: float, step: int) -> None:
    width = Width(fraction, step).of(size)
    assert min(step, size) <= width <= size
    assert width % step == 0 or width == size
    assert Width(1.0, step).of(size) in (size, size // step * step)


def test_finer_widths_only_where_they_hold_clearly_more() -> None:
    for coarse, finer, expected in ((100, 103, 4), (100, 120, 2), (None, 50, 2), (None, None, None)):
        sizes = {4: coarse, 2: finer, 1: None}
        found = chosen(lambda step, of=sizes: step if of[step] else None, lambda step, of=sizes: of[step] or 0)
        assert found == expected


@given(st.integers(0, 200), st.integers(1, 128))
def test_bisections_find_the_border(border: int, high: int) -> None:
    assert largest(lambda k: k <= border, high) == (min(border, high) or None)
    assert lowest(lambda k: k >= border, high) == (max(border, 1) if border <= high else None)


def test_resolutions_are_multiples_of_eight() -> None:
    assert resolutions((160, 160)) == [(160, 160), (144, 144), (120, 120), (96, 96), (80, 80)]
    assert resolutions((32, 32)) == [(32, 32), (24, 24), (16, 16)]


# --- figures


def cell(method: str, kb: int | None, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    """As `Bench.cell` leaves it."""
    costs = {"flash_bytes": 1000 * (kb or 900), "code_bytes": 500, "ram_bytes": 2048, "macs": 10, "instructions": 20}
    facts = {"data": "elpv", "flash_kb": kb, "method": method, "seed": seed, "effort": "quick", "test_images": 200}
    where = {"machine": {"cpu": "Some CPU", "cpus": 2, "threads": 1}, "versions": {"torch": "2"}}
    measured = {"accuracy": accuracy, "accuracy_interval": [accuracy - 3, accuracy + 3]}
    if method != "reference":
        measured |= {"drop": 90 - accuracy, "drop_interval": [85 - accuracy, 95 - accuracy], "steps": 40}
        measured |= {"wall_seconds": 60.0, "reference": {"accuracy": 90.0, **costs}}
    else:
        measured |= {"reference": {}, "fine_tuning_seconds": 120.0}
    return facts | where | costs | measured | more


CELLS = [
    cell("reference", None, 0, 90.0),
    cell("thumbnet", 72, 0, 89.0),
    cell("thumbnet", 72, 1, 88.0),
    cell("uniform", 72, 0, 86.0),
    cell("pruning", 72, 0, 87.0),
    cell("thumbnet", 36, 0, 80.0),
]


def by_name(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f["name"]: f for f in data["figures"]}


def test_figures_have_seeds_means_and_the_lead() -> None:
    figures = by_name(merged({}, CELLS))
    assert figures["elpv/72KB/thumbnet/seed1/accuracy"]["value"] == 88
    mean = figures["elpv/72KB/thumbnet/accuracy"]
    assert (mean["value"], mean["baseline"], mean["n"], mean["kind"]) == (88.5, 90, 2, "measured")
    assert figures["elpv/72KB/thumbnet/ahead"]["value"] == pytest.approx(1.5)  # over pruning, the better of two
    assert "elpv/36KB/thumbnet/ahead" not in figures  # nothing to compare with
    assert figures["elpv/72KB/uniform/seed0/flash"] | {"name": ""} == {
        "name": "",
        "value": 72_000,
        "unit": "B",
        "kind": "estimated",
        "baseline": 72_000,
        "ratio": 1.0,
        "n": 1,
    }
    assert len(figures) == len(merged({}, CELLS)["figures"])  # no name twice


def test_merging_keeps_what_earlier_calls_measured() -> None:
    first = json.loads(json.dumps(merged({}, CELLS)))
    second = merged(first, [cell("thumbnet", 72, 1, 86.0), cell("grid", 36, 0, 81.0)])
    figures = by_name(second)
    assert figures["elpv/72KB/thumbnet/accuracy"]["value"] == 87.5
    assert figures["elpv/36KB/thumbnet/ahead"]["value"] == -1
    assert figures["elpv/72KB/uniform/accuracy"]["value"] == 86
    assert merged(second, []) == second
    failed = merged(second, [cell("grid", 36, 0, 0.0, failed="Nothing fits.")])
    assert "elpv/36KB/grid/accuracy" not in by_name(failed)
    assert "Nothing fits." in table(failed)


def test_tables_and_plot_come_from_the_figures() -> None:
    data = merged({}, [*CELLS, cell("grid", 72, 0, 85.0, failed="Too small.")])
    lines = table(data).splitlines()
    columns = {line.count("|") for line in lines if line.startswith("|")}
    assert len(columns) == 1
    assert "| 72 KB | **Thumbnet** | 88.50 (85.5–91.5) | 1.50 (-3.5 to 6.5) |" in table(data)
    assert "At 72 KB Thumbnet lies 1.50 points above the best of the others." in table(data)
    assert [(r["kb"], r["method"]) for r in rows(data)][:3] == [(None, "reference"), (72, "thumbnet"), (72, "uniform")]
    assert "| Solar, 72 KB | 90.0 % | 88.5 % | 86.0 % | 87.0 % | – |" in short_table({"Solar": data})
    drawn = accuracy_against_flash(data, "solar <cells>")
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "solar &lt;cells&gt;" in drawn
    assert drawn.count("<circle") == 4
    assert drawn.count('class="by-thumbnet"') == 4  # a line, two points, the legend
    assert accuracy_against_flash(merged({}, CELLS[:1]), "nothing") == ""


def test_a_network_over_its_limit_is_marked() -> None:
    over = cell("uniform", 72, 0, 86.0, over={"flash_bytes": 1.01})
    assert "| 70.3, over | 2.0 |" in table(merged({}, [*CELLS, over]))
    assert "over" not in table(merged({}, CELLS)).replace("above", "")
    assert "OVER ITS LIMIT" in headline.line_of(over)


def test_text_goes_between_the_marks() -> None:
    begin, end = BEGIN.format("x"), END.format("x")
    page = f"above\n{begin}\nold\n{end}\nbelow"
    assert between_marks(page, "x", "new \\1") == f"above\n{begin}\nnew \\1\n{end}\nbelow"
    with pytest.raises(ValueError, match="no lines"):
        between_marks("nothing", "x", "new")


# --- the whole


class Tiny(nn.Module):
    """Three convolutions for 16 × 16 grey images of three classes."""

    name = "tiny"

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((1, 16, 2), (16, 32, 1), (32, 64, 2)):
            conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers, self.classifier = nn.Sequential(*layers), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.layers(x).mean((2, 3)))  # type: ignore[no-any-return]


def stripes() -> Dataset:
    """Stripes across, along and aslant, under noise."""
    rng, parts = np.random.default_rng(0), {}
    row, column = np.mgrid[:16, :16]
    for split, count in (("train", 96), ("val", 48), ("test", 48)):
        labels = np.arange(count, dtype=np.int64) % 3
        phase = rng.integers(0, 4, count)
        along = [np.stack([row, column, row + column])[k] + p for k, p in zip(labels, phase, strict=True)]
        images = 128 + 60 * (np.stack(along) // 2 % 2 * 2 - 1) + rng.normal(0, 40, (count, 16, 16))
        parts[split] = (images.clip(0, 255).astype(np.uint8)[..., None], labels)
    return dataset_from_arrays(parts, classes=("across", "along", "aslant"), name="stripes")


def trained(problem: Problem, data: Dataset, folder: Path, seed: int, progress: object) -> nn.Module:
    """Trained for a moment, so that there is something to lose."""
    torch.manual_seed(seed)
    network = Tiny().train()
    x = (torch.from_numpy(data.train.images((16, 16))).permute(0, 3, 1, 2) - 127.5) / 127.5
    labels, optimizer = torch.from_numpy(data.train.labels), torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()
    return network.eval()


TINY = Problem("tiny", "Stripes", stripes, trained, (16, 16), (0.5,), (0.5,), "light", (18,))


def counted_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by a one with every step of Thumbnet's optimizer."""
    taken: list[int] = []
    step = torch.optim.AdamW.step

    def counted(*args: Any, **kwargs: Any) -> Any:
        taken.append(1)
        return step(*args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    return taken


@pytest.mark.slow
@pytest.mark.emulation
def test_every_method_fits_the_same_limits_with_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call measures nothing: its cells are the first one's. From nothing, all figures are the same again."""
    pytest.importorskip("torch_pruning", reason="torch-pruning is not installed: pip install 'thumbnet[bench]'")
    pytest.importorskip("optuna", reason="optuna is not installed: pip install 'thumbnet[bench]'")
    monkeypatch.setitem(efforts.EFFORTS, "tiny", efforts.Effort(4, ((1, 0.25),), 1, 0, 80, 0.25, 32, 4))
    monkeypatch.setattr(stages, "PROOF_IMAGES", 4)
    monkeypatch.setitem(PROBLEMS, "tiny", TINY)
    monkeypatch.setattr(story, "cores", lambda: 1)  # steps are counted in this process
    taken = counted_steps(monkeypatch)
    cells, counts = [], {}
    for cell in headline.Bench(TINY, "tiny", tmp_path / "runs").cells(TINY.flash_kb, None, list(METHODS)):
        cells.append(cell)
        counts[cell["method"]] = sum(taken) - sum(counts.values())
    found = {c["method"]: c for c in cells}
    assert set(found) == {"reference", *METHODS}
    assert not [c["failed"] for c in cells if c.get("failed")]
    (run,) = (tmp_path / "runs").rglob("result.json")
    told = json.loads(run.read_text())["training"]
    assert counts["thumbnet"] == told["steps"] + told["block_steps"]
    for method in METHODS.values():
        own = found[method.name]
        if method.fits:
            assert own["flash_bytes"] <= 18 * 1024 < found["ptq"]["flash_bytes"], method.name
            assert own["steps"] == (told["equivalent_steps"] if method.name == "thumbnet" else counts[method.name]) > 20
            assert own["steps"] == found["thumbnet"]["steps"]
            assert own["accuracy"] > 50, method.name  # a guess is right in a third
        assert own["drop"] == pytest.approx(found["reference"]["accuracy"] - own["accuracy"])
    assert counts["ptq"] == 0
    again = list(headline.Bench(TINY, "tiny", tmp_path / "runs").cells(TINY.flash_kb, None, list(METHODS)))
    assert sum(taken) == sum(counts.values())
    assert [c for c in again if c["method"] != "reference"] == [c for c in cells if c["method"] != "reference"]
    elsewhere = headline.Bench(TINY, "tiny", tmp_path / "other").cells(TINY.flash_kb, None, list(METHODS))
    assert [{**c, "wall_seconds": 0} for c in elsewhere] == [{**c, "wall_seconds": 0} for c in cells]
    file, page = tmp_path / "headline-tiny.json", tmp_path / "page.md"
    headline.write_json(file, cells)
    page.write_text(f"{BEGIN.format('headline-tiny')}\n{END.format('headline-tiny')}\n")
    (tmp_path / "images").mkdir()
    headline.write_pages("tiny", file, page, None)
    assert "**Thumbnet**" in page.read_text()
    assert (tmp_path / "images" / "headline-tiny.svg").exists()
    assert all(f"{c['accuracy']:6.2f} %" in headline.line_of(c) for c in cells)
