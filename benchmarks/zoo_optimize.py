"""The whole of `optimize` for every architecture of `zoo.py`, on tiny synthetic data of its task.

    python benchmarks/zoo_optimize.py [--only NAME …] [--json FILE]

Each network is trained for a moment, then handed to `thumbnet.optimize` with a limit of flash below what it would take
as it is, so that the search must find a narrower one. Prints one line for each: the metric of the reference and of what
was found, the channels and flash before and after, and whether the proof on the emulated Cortex-M4 holds. What is shown
is that the path is whole: on such data, with such efforts, metrics say nothing about the method.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import zoo
from torch import nn

import thumbnet
from thumbnet import stages
from thumbnet.cost import estimate
from thumbnet.errors import ThumbnetError
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.importers import load
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.kept import load_float_graph
from thumbnet.result import Result
from thumbnet.search import efforts
from thumbnet.targets import load_target

Array = npt.NDArray[Any]
SIZES = {"train": 96, "val": 48, "test": 48}
TARGET, SEED, STEPS = "nrf52840", 0, 120
SHARE = 0.4  # of the weights as bytes that may stay: less than 4 bits alone would need
EFFORT = efforts.Effort(4, ((1, 0.5),), 1, 20, 180, 0.25, 32, 20)
LONGER = efforts.Effort(4, ((1, 0.5),), 1, 40, 700, 0.1, 32, 20)  # until maps show the rarer classes at all
RESULTS = Path(__file__).parent / "results"


# --- data


@dataclass(frozen=True, eq=False)
class Problem:
    """What `optimize` gets beside the network, and how the network learns beforehand."""

    data: dict[str, Any]  # arrays by the keys of an .npz
    options: dict[str, Any]
    inputs: tuple[torch.Tensor, ...]  # of the training split, as the network sees them
    loss: Callable[[Any], torch.Tensor]  # of the network's outputs for them


def problem(name: str) -> Problem:
    """Synthetic data for one network of the zoo: prototypes and noise."""
    entry = zoo.ZOO[name]
    made = {"segmentation": _masks, "custom": _boxes, "anomaly": _vectors}.get(entry.task)
    return made(name, entry) if made else _classes(name, entry)


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def _seen(x: Array) -> torch.Tensor:
    """Images as preprocessing hands them on; other arrays go in as they are."""
    if x.dtype == np.uint8:
        x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
        return torch.from_numpy(x.astype(np.float32) / 127.5 - 1)
    return torch.from_numpy(x if x.ndim == 2 else np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def _classes(name: str, entry: zoo.Entry) -> Problem:
    """A prototype for each class and input, under noise."""
    rng = _rng()
    count = _outputs(name)[0].shape[1]
    prototypes = [rng.normal(size=(count, *_coarse(s))) for s in entry.shapes]
    data: dict[str, Any] = {}
    for split, size in SIZES.items():
        y = np.arange(size) % count
        made = [_drawn(p[y], s, rng) for p, s in zip(prototypes, entry.shapes, strict=True)]
        data |= {f"x_{split}": made[0] if len(made) == 1 else tuple(made), f"y_{split}": y}
    inputs = data["x_train"] if isinstance(data["x_train"], tuple) else (data["x_train"],)
    wanted = torch.from_numpy(data["y_train"])
    seen = tuple(_signal(_seen(x), s) for x, s in zip(inputs, entry.shapes, strict=True))
    ends_in_softmax = name == "ds_cnn"

    def loss(outputs: Any) -> torch.Tensor:
        return F.nll_loss((outputs + 1e-6).log(), wanted) if ends_in_softmax else F.cross_entropy(outputs, wanted)

    options = {"augment": "light"} if len(entry.shapes[0]) == 3 else {}  # prototypes mean nothing when mirrored
    return Problem(data, options, seen, loss)


def _coarse(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], 4, 4) if len(shape) == 3 else (shape[0], 4) if len(shape) == 2 else shape


def _drawn(prototype: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Prototypes [N, *coarse] at full size under noise: uint8 images, float signals [N, 1, time, channels], vectors."""
    x = torch.from_numpy(prototype)
    if len(shape) == 3:
        x = F.interpolate(x, size=shape[1:], mode="bilinear")
    elif len(shape) == 2:
        x = F.interpolate(x, size=shape[1], mode="linear")
    noisy = x.numpy() + rng.normal(0, 0.4, x.shape)
    if len(shape) == 1:
        return noisy.astype(np.float32)
    if len(shape) == 2:
        return noisy.transpose(0, 2, 1)[:, None].astype(np.float32)
    pixels = (128 + 50 * noisy).clip(0, 255).astype(np.uint8)
    return pixels[:, 0] if shape[0] == 1 else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _signal(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return x.reshape(len(x), *shape)


def _masks(name: str, entry: zoo.Entry) -> Problem:
    """Bright and dark squares on grey, with their masks."""
    rng, (_, height, width) = _rng(), entry.shapes[0]
    data: dict[str, Any] = {}
    for split, size in SIZES.items():
        images, masks = rng.normal(110, 20, (size, height, width)), np.zeros((size, height, width), np.uint8)
        for k, (top, left) in enumerate(rng.integers(0, height - 9, (size, 2))):
            place = (k, slice(top, top + 9), slice(left, left + 9))
            images[place] += (90, -80)[k % 2]
            masks[place] = 1 + k % 2
        data |= {f"x_{split}": images.clip(0, 255).astype(np.uint8), f"y_{split}": masks}
    wanted = torch.from_numpy(data["y_train"]).long()
    return Problem(data, {"task": "segmentation"}, (_seen(data["x_train"]),), lambda o: F.cross_entropy(o, wanted))


def _vectors(name: str, entry: zoo.Entry) -> Problem:
    """Normal samples near a plane of three dimensions; odd ones away from it."""
    rng, length = _rng(), entry.shapes[0][0]
    basis = rng.normal(size=(3, length))

    def normal(count: int) -> Array:
        return (rng.normal(size=(count, 3)) @ basis + rng.normal(0, 0.1, (count, length))).astype(np.float32)

    odd = normal(48) + rng.normal(0, 1.0, (48, length)).astype(np.float32)
    test, labels = np.concatenate([normal(48), odd]), np.repeat([0, 1], 48)
    data = {"x_train": normal(192), "x_test": test, "y_test": labels}
    x = torch.from_numpy(data["x_train"])
    return Problem(data, {"task": "anomaly"}, (x,), lambda o: (o - x).square().mean())


def detection_loss(outputs: Any, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of boxes [B, anchors, 4], where there is an object, and probabilities [B, anchors, classes]; class 0 is none."""
    boxes, scores = outputs
    there = (targets["kind"] > 0).float()
    misplaced = ((boxes - targets["boxes"]).abs().mean(2) * there).sum() / there.sum().clamp_min(1)
    return misplaced + F.nll_loss((scores + 1e-6).log().flatten(0, 1), targets["kind"].long().flatten())


def right_anchors(outputs: Any, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Anchors with the right class, in percent."""
    return 100 * (outputs[1].argmax(2) == targets["kind"]).float().mean()


right_anchors.title, right_anchors.unit, right_anchors.digits = "Right anchors", "%", 1  # type: ignore[attr-defined]


def _boxes(name: str, entry: zoo.Entry) -> Problem:
    """A bright square on each image; the anchors of its cell carry class 1 or 2, which its colour tells."""
    rng, (_, height, _width) = _rng(), entry.shapes[0]
    anchors = _outputs(name)[0].shape[1]
    data: dict[str, Any] = {}
    for split, size in SIZES.items():
        images = rng.normal(90, 20, (size, height, height, 3))
        boxes, kind = np.zeros((size, anchors, 4), np.float32), np.zeros((size, anchors), np.int64)
        for k, (row, column) in enumerate(rng.integers(1, height // 2 - 3, (size, 2))):  # cells of the finer map
            images[k, 2 * row - 2 : 2 * row + 4, 2 * column - 2 : 2 * column + 4, k % 2] += 120
            at = 2 * (row * (height // 2) + column)
            kind[k, at : at + 2], boxes[k, at : at + 2] = 1 + k % 2, (0.5, 0.5, 3, 3)
        x = images.clip(0, 255).astype(np.uint8)
        data |= {f"x_{split}": x, f"y_{split}": {"boxes": boxes, "kind": kind}}
    wanted = {k: torch.from_numpy(v) for k, v in data["y_train"].items()}
    options = {"task": "custom", "loss": detection_loss, "metric": right_anchors}
    return Problem(data, options, (_seen(data["x_train"]),), lambda o: detection_loss(o, wanted))


def _outputs(name: str) -> list[torch.Tensor]:
    with torch.no_grad():
        y = zoo.network(name)(*(torch.zeros(1, *s) for s in zoo.ZOO[name].shapes))
    return list(y) if isinstance(y, tuple | list) else [y]


def trained(name: str, given: Problem, steps: int = STEPS) -> nn.Module:
    """The network of the zoo, trained for a moment, so that there is something to lose."""
    network = zoo.network(name).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        optimizer = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(steps):
            optimizer.zero_grad()
            given.loss(network(*given.inputs)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


# --- one row


@dataclass(frozen=True, eq=False)
class Found:
    result: Result
    before: Graph
    after: Graph
    plain_flash: int  # bytes of the reference as it is, estimated
    limit: int  # bytes of flash that were allowed
    seconds: float

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of all weighted layers, before and after."""
        return _width(self.before), _width(self.after)


def _width(graph: Graph) -> int:
    return sum(len(n.weights["weight"]) for n in graph.nodes if "weight" in n.weights and n.op != "batch_norm")


@contextmanager
def small_effort(effort: efforts.Effort, proof_images: int = 4) -> Iterator[None]:
    """`effort="quick"` means next to nothing in here."""
    before, images = efforts.EFFORTS["quick"], stages.PROOF_IMAGES
    efforts.EFFORTS["quick"], stages.PROOF_IMAGES = effort, proof_images
    try:
        yield
    finally:
        efforts.EFFORTS["quick"], stages.PROOF_IMAGES = before, images


def optimized(name: str, run_dir: Path, steps: int = STEPS, effort: efforts.Effort | None = None) -> Found:
    """The network of the zoo through the whole of `optimize`, within `SHARE` of the flash that it would take."""
    start = time.perf_counter()
    given, shape = problem(name), zoo.ZOO[name].shapes[0]
    options = given.options | ({"input_size": shape[1:]} if len(shape) == 3 else {})
    network = trained(name, given, steps)
    before = clean(load(network, input_shape=list(zoo.ZOO[name].shapes)))
    plain = estimate(join_ports(lower(before, None)), load_target(TARGET)).flash_bytes
    weights = sum(w.size for n in before.nodes for w in n.weights.values())
    flash = int(plain - (1 - SHARE) * weights)
    with small_effort(effort or (LONGER if zoo.ZOO[name].task == "segmentation" else EFFORT)):
        result = thumbnet.optimize(
            network, given.data, TARGET, effort="quick", seed=SEED, run_dir=run_dir, flash=flash, **options
        )
    after = load_float_graph(run_dir)
    return Found(result, before, after, plain, flash, time.perf_counter() - start)


def _figures(name: str, found: Found) -> list[dict[str, Any]]:
    summary = found.result.summary
    key, unit = summary["metric"]["key"], summary["metric"]["unit"]
    before, after = found.channels
    best, reference = summary["best"], summary["reference"]
    n = int(summary["test_images"])

    def figure(what: str, value: float, of: str, baseline: float | None, kind: str, n: int) -> dict[str, Any]:
        ratio = value / baseline if baseline else None
        named = {"name": f"{name}/{what}", "value": value, "unit": of, "kind": kind}
        return named | {"baseline": baseline, "ratio": ratio, "n": n}

    return [
        figure(key, best[key], unit, reference[key], "measured", n),
        figure("channels", after, "channels", before, "measured", 1),
        figure("flash", best["flash_bytes"], "bytes", found.plain_flash, "measured", 1),
        figure("proof", int(found.result.proof["bit_exact"]), "equal", None, "emulated", found.result.proof["images"]),
        figure("seconds", found.seconds, "s", None, "measured", 1),
    ]


def _row(name: str, found: Found) -> str:
    summary = found.result.summary
    key = summary["metric"]["key"]
    before, after = found.channels
    return (
        f"{name:18} {key:14} {summary['reference'][key]:6.1f} → {summary['best'][key]:6.1f}   channels {before:4} → "
        f"{after:4}   flash {found.plain_flash:6} → {summary['best']['flash_bytes']:6}   "
        f"proof {'equal' if found.result.proof['bit_exact'] else 'DIFFERS'}   {found.seconds:5.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=None, help="networks whose names hold one of these texts")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    figures: list[dict[str, Any]] = []
    for name in _chosen(options.only):
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = optimized(name, Path(folder) / "run")
            except ThumbnetError as e:
                print(f"{name:18} refused: {' '.join(str(e).split())}", flush=True)
                text = " ".join(str(e).split())
                figures.append({"name": f"{name}/proof", "value": None, "text": text, "unit": "", "kind": "measured"})
                continue
            print(_row(name, found), flush=True)
            figures += _figures(name, found)
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "figures": figures,
                    "machine": platform.machine(),
                    "versions": {"python": platform.python_version(), "torch": version("torch")},
                    "seed": SEED,
                    "command": "python benchmarks/zoo_optimize.py --json benchmarks/results/zoo_optimize.json",
                },
                indent=1,
                ensure_ascii=False,
            )
            + "\n"
        )


def _chosen(only: Sequence[str] | None) -> list[str]:
    return [n for n in zoo.ZOO if not only or any(text in n for text in only)]


if __name__ == "__main__":
    main()
