"""Interrupted trainings end with the bits of those that were not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from training_cases import residual_network, training_images

from thumbnet.data import Augmentation
from thumbnet.training.checkpoint import Checkpoint, Checkpoints
from thumbnet.training.distill import CrossEntropy
from thumbnet.training.loop import Point, Schedule, train
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import insert_batch_norm
from thumbnet.training.quantize_aware import QuantizedModule

DATA = training_images()
SCHEDULE = Schedule(24, batch=16, average=0.9)  # more than an epoch, so that the order of images must be kept too


def network(kind: str) -> nn.Module:
    if kind == "quantized":
        return QuantizedModule(residual_network(), {"x": DATA.preprocessing.input_qparams()})
    torch.manual_seed(5)
    body = GraphModule(insert_batch_norm(residual_network(), DATA.normalized(slice(0, 32))))
    return body if kind == "float" else nn.Sequential(body, nn.Dropout(0.3), nn.Linear(3, 3))


def run(
    module: nn.Module, checkpoint: Checkpoint | None, stop_at: int | None = None, schedule: Schedule = SCHEDULE
) -> tuple[Point, ...]:
    def before_step(step: int) -> None:
        if step == stop_at:
            raise KeyboardInterrupt
        if isinstance(module, QuantizedModule):
            module.observing = step < 12

    return train(
        module,
        DATA,
        CrossEntropy(),
        schedule,
        augmentation=Augmentation.named("surface"),
        seed=1,
        evaluate=lambda m: float(m.training),
        before_step=before_step,
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize("kind", ["float", "dropout", "quantized"])
def test_an_interrupted_training_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole = network(kind)
    curve = run(whole, None)
    path = tmp_path / "state.safetensors"
    for stop in (7, 19):  # interrupted twice
        with pytest.raises(KeyboardInterrupt):
            run(network(kind), Checkpoint(path, "k", seconds=0.0), stop)
    resumed = network(kind)
    assert run(resumed, Checkpoint(path, "k")) == curve
    state = resumed.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in whole.state_dict().items())


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    first, again = network("float"), network("float")
    curve = run(first, Checkpoint(path, "k"))
    assert run(again, Checkpoint(path, "k"), stop_at=0) == curve
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in first.state_dict().items())


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    run(network("float"), Checkpoint(path, "k"))
    assert Checkpoint(path, "other").load() is None
    assert Checkpoint(tmp_path / "nothing", "k").load() is None
    with pytest.raises(KeyboardInterrupt):  # starts over: another number of steps, then another network
        run(network("float"), Checkpoint(path, "k"), 0, Schedule(30, batch=16, average=0.9))
    with pytest.raises(KeyboardInterrupt):
        run(network("quantized"), Checkpoint(path, "k"), 0)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"\xff" * 64, lambda b: b""])
def test_a_damaged_checkpoint_starts_over(damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "state.safetensors"
    run(network("float"), Checkpoint(path, "k"))
    path.write_bytes(damage(path.read_bytes()))
    assert Checkpoint(path, "k").load() is None


def test_without_a_folder_nothing_is_kept() -> None:
    assert Checkpoints.none().named("distil") is None
