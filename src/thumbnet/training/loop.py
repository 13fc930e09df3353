"""The one training loop: reference fine-tuning, candidates, finalists and quantization-aware training all run here."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from thumbnet.data import Augmentation, Preprocessing, Split

Point = dict[str, float]


class Objective(Protocol):
    """Loss of a batch: network outputs [B, classes], labels [B], and the images' positions in the split [B]."""

    def __call__(self, outputs: torch.Tensor, labels: torch.Tensor, indices: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Schedule:
    """Steps and step sizes of one training. The rate warms up linearly, then falls along a cosine to `final_rate`."""

    steps: int
    batch: int = 32
    rate: float = 2e-3
    final_rate: float = 0.0  # as a fraction of `rate`
    warmup: float = 0.1  # fraction of the steps
    weight_decay: float = 1e-2
    average: float = 0.0  # decay of the exponential moving average of the weights; 0 = none

    def rate_at(self, step: int) -> float:
        """Learning rate of step 0 ≤ step < steps."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        t = (step - warm) / max(1, self.steps - warm)
        return self.rate * (self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * t)))


@dataclass(frozen=True)
class Images:
    """A split at one resolution, decoded and ready to be cut into batches."""

    pixels: torch.Tensor  # uint8 [N, C, H, W] for images, float32 for other arrays
    labels: torch.Tensor  # int64 [N]
    preprocessing: Preprocessing

    @staticmethod
    def of(split: Split, preprocessing: Preprocessing) -> Images:
        pixels = np.ascontiguousarray(split.images(preprocessing.size).transpose(0, 3, 1, 2))
        return Images(torch.from_numpy(pixels), torch.from_numpy(np.asarray(split.labels)), preprocessing)

    def __len__(self) -> int:
        return len(self.labels)

    def normalized(self, indices: torch.Tensor | slice) -> torch.Tensor:
        """Float32 [B, C, H, W] in the network's own input range."""
        p = self.preprocessing
        x = self.pixels[indices].float()
        if self.pixels.dtype != torch.uint8:
            return x
        mean = torch.tensor(p.mean, dtype=torch.float32)[:, None, None] * 255
        std = torch.tensor(p.std, dtype=torch.float32)[:, None, None] * 255
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    def batches(self, size: int = 64) -> Iterator[torch.Tensor]:
        for start in range(0, len(self), size):
            yield self.normalized(slice(start, start + size))


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the curve, and where it stopped (for the next rung of the search)."""

    curve: tuple[Point, ...]


def train(
    module: nn.Module,
    data: Images,
    objective: Objective,
    schedule: Schedule,
    *,
    augmentation: Augmentation,
    seed: int,
    evaluate: Callable[[nn.Module], float] | None = None,
    evaluations: int = 4,
    on_step: Callable[[str], None] = lambda info: None,
) -> Trained:
    """Trains `module` in place for `schedule.steps` steps.

    Batches are drawn without replacement, epoch after epoch, by a generator seeded with `seed`; together with a fixed
    thread count the result is reproducible to the bit. `evaluate` is called `evaluations` times along the way and at
    the end, in evaluation mode. Raises `FloatingPointError` when the loss is no longer finite.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout
    optimizer = torch.optim.AdamW(_parameter_groups(module, schedule.weight_decay), lr=schedule.rate)
    averaged = _Average(module, schedule.average) if schedule.average else None
    curve: list[Point] = []
    every = max(1, schedule.steps // max(1, evaluations))
    running = 0.0
    module.train()
    for step, indices in zip(range(schedule.steps), _sample(len(data), schedule.batch, generator), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        x = augmentation.apply(data.normalized(indices), augmentation.draw(len(indices), generator))
        loss = objective(module(x), data.labels[indices], indices)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value} at step {step}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if averaged:
            averaged.update(module)
        running = value if step == 0 else 0.95 * running + 0.05 * value
        info = f"loss {running:.3f}"
        if (step + 1) % every == 0 or step + 1 == schedule.steps:
            point: Point = {"step": step + 1, "loss": round(running, 5)}
            if evaluate is not None:
                probe = averaged.model if averaged else module
                point["accuracy"] = evaluate(probe.eval())
                module.train()
                info += f", validation {point['accuracy']:.1f} %"
            curve.append(point)
        on_step(info)
    if averaged:
        module.load_state_dict(averaged.model.state_dict())
    module.eval()
    return Trained(tuple(curve))


def predict(module: nn.Module, data: Images, batch: int = 64) -> torch.Tensor:
    """Outputs [N, classes] in evaluation mode."""
    module.eval()
    with torch.inference_mode():
        return torch.cat([module(x) for x in data.batches(batch)]).clone()


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Percent of samples whose largest output is the label's."""
    return 100.0 * float((outputs.argmax(1) == labels).float().mean())


def recalibrate(module: nn.Module, data: Images, indices: torch.Tensor, batch: int = 64) -> None:
    """Sets the batch norms' running statistics to those of these images, as cumulative averages over batches."""
    for part in module.modules():
        reset = getattr(part, "reset_statistics", None)
        if callable(reset):
            reset()
    module.train()
    with torch.no_grad():
        for start in range(0, len(indices) - batch + 1, batch):
            module(data.normalized(indices[start : start + batch]))
    module.eval()


def _sample(count: int, batch: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    batch = min(batch, count)
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def _parameter_groups(module: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weight decay for kernels and matrices only; biases and batch norms go without."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class _Average:
    """Exponential moving average of weights and batch-norm statistics, with a warm-up so that early steps fade fast."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(module)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        own, new = self.model.state_dict(), module.state_dict()
        floats = [k for k, v in own.items() if v.is_floating_point()]
        torch._foreach_lerp_([own[k] for k in floats], [new[k] for k in floats], 1 - decay)
        for key, value in own.items():
            if not value.is_floating_point():
                value.copy_(new[key])
