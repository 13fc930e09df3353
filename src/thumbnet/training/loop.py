"""The one training loop: reference fine-tuning, candidates, finalists and quantization-aware training all run here."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from thumbnet.data import Assessment, Augmentation, Batch, Task
from thumbnet.data.augment import View
from thumbnet.training.checkpoint import Checkpoint
from thumbnet.training.images import Images, Seen, as_tuple
from thumbnet.training.objective import Objective, loss_of

Point = dict[str, float]


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
    said: Callable[[float], str] = "{:.1f} %".format,
    before_step: Callable[[int], None] = lambda step: None,
    on_step: Callable[[int, str], None] = lambda steps, info: None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Point, ...]:
    """Trains `module` in place for `schedule.steps` steps and returns the curve.

    Batches are drawn without replacement, epoch after epoch, by a generator seeded with `seed`; together with a fixed
    thread count the result is reproducible to the bit. `evaluate` is called `evaluations` times along the way and at
    the end, in evaluation mode; `said` puts what it gives into words. `before_step` hears the number of each step,
    `on_step` how many steps were taken since it heard last. With a `checkpoint` an interrupted training goes on where
    it stopped, to the same result; a finished one is not done again. Raises `FloatingPointError` when the loss is no
    longer finite.
    """
    training = _Training(module, len(data), schedule, seed)
    if checkpoint is not None and (kept := checkpoint.load()) is not None and training.restore(*kept):
        on_step(training.step, training.info)
    every = max(1, schedule.steps // max(1, evaluations))
    module.train()
    while training.step < schedule.steps:
        before_step(training.step)
        training.advance(data, objective, augmentation)
        if training.step % every == 0 or training.step == schedule.steps:
            training.mark(evaluate, said)
            module.train()
        if checkpoint is not None and (checkpoint.due or training.step == schedule.steps):
            checkpoint.save(*training.state())
        on_step(1, training.info)
    if training.averaged:
        module.load_state_dict(training.averaged.model.state_dict())
    module.eval()
    return tuple(training.curve)


class _Training:
    """Everything that changes while a network learns, so that it can be kept and restored."""

    def __init__(self, module: nn.Module, images: int, schedule: Schedule, seed: int) -> None:
        self.module = module
        self.schedule = schedule
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # dropout
        self.optimizer = torch.optim.AdamW(_parameter_groups(module, schedule.weight_decay), lr=schedule.rate)
        self.averaged = _Average(module, schedule.average) if schedule.average else None
        self.images, self.batch = images, min(schedule.batch, images)
        self.order = torch.empty(0, dtype=torch.int64)  # of this epoch, the part that is still to come
        self.step, self.loss, self.info = 0, 0.0, ""
        self.curve: list[Point] = []

    def advance(self, data: Images, objective: Objective, augmentation: Augmentation) -> None:
        """One step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(self.step)
        indices = self._draw()
        seen = _varied(data.seen(indices), augmentation, augmentation.draw(len(indices), self.generator))
        loss = loss_of(objective, self.module(*seen.inputs), seen, indices)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value} at step {self.step}")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if self.averaged:
            self.averaged.update(self.module)
        self.loss = value if self.step == 0 else 0.95 * self.loss + 0.05 * value
        self.step += 1
        self.info = f"loss {self.loss:.3f}"

    def mark(self, evaluate: Callable[[nn.Module], float] | None, said: Callable[[float], str]) -> None:
        """A point of the curve."""
        point: Point = {"step": self.step, "loss": round(self.loss, 5)}
        if evaluate is not None:
            probe = self.averaged.model if self.averaged else self.module
            point["accuracy"] = evaluate(probe.eval())
            self.info += f", validation {said(point['accuracy'])}"
        self.curve.append(point)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        tensors = {f"module/{k}": v for k, v in self.module.state_dict().items()}
        if self.averaged:
            tensors |= {f"average/{k}": v for k, v in self.averaged.model.state_dict().items()}
        for k, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{k}/{name}": v for name, v in slots.items()}
        tensors |= {"order": self.order, "generator": self.generator.get_state(), "rng": torch.get_rng_state()}
        facts = {"step": self.step, "steps": self.schedule.steps, "loss": self.loss, "info": self.info}
        return tensors, {**facts, "curve": self.curve, "averages": self.averaged.steps if self.averaged else 0}

    def restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> bool:
        """False, and nothing has changed, where the state is that of another network or schedule."""
        module = _below("module/", tensors)
        own = self.module.state_dict()
        if facts["steps"] != self.schedule.steps or {k: v.shape for k, v in module.items()} != {
            k: v.shape for k, v in own.items()
        }:
            return False
        self.module.load_state_dict(module)
        if self.averaged:
            self.averaged.model.load_state_dict(_below("average/", tensors))
            self.averaged.steps = facts["averages"]
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _below("optimizer/", tensors).items():
            position, slot = name.split("/")
            slots.setdefault(int(position), {})[slot] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.order = tensors["order"]
        self.generator.set_state(tensors["generator"])
        torch.set_rng_state(tensors["rng"])
        self.step, self.loss, self.info = facts["step"], facts["loss"], facts["info"]
        self.curve = list(facts["curve"])
        return True

    def _draw(self) -> torch.Tensor:
        """The next batch's positions; what does not fill a batch at an epoch's end is left out."""
        if len(self.order) < self.batch:
            self.order = torch.randperm(self.images, generator=self.generator)
        indices, self.order = self.order[: self.batch], self.order[self.batch :]
        return indices


def _varied(seen: Seen, augmentation: Augmentation, view: View) -> Seen:
    """The first input varied, where it is an image; the others stay."""
    first, *others = seen.inputs
    if first.ndim != 4:
        return seen
    return Seen((augmentation.apply(first, view), *others), seen.targets, lambda maps: augmentation.move(maps, view))


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def predict(module: nn.Module, data: Images, batch: int = 64) -> torch.Tensor:
    """Outputs [N, classes] of a network with one output, in evaluation mode."""
    module.eval()
    with torch.inference_mode():
        return torch.cat([module(*seen.inputs) for seen in data.batches(batch)]).clone()


def answered(module: nn.Module, data: Images, batch: int = 64) -> Iterator[Batch]:
    """The split batch by batch, with what the network gives in evaluation mode."""
    module.eval()
    for seen in data.batches(batch):
        with torch.inference_mode():
            outputs = as_tuple(module(*seen.inputs))
        yield Batch(outputs, seen.targets, seen.inputs)


def assess(module: nn.Module, data: Images, task: Task) -> Assessment:
    """The task's metric and loss of a network on a split."""
    with torch.inference_mode():
        return task.assess(answered(module, data))


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
            module(*data.inputs(indices[start : start + batch]))
    module.eval()


def draw_some(total: int, count: int, seed: int) -> torch.Tensor:
    """Positions of `count` of `total` images, drawn without replacement; all of them where there are fewer."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count]


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


__all__ = [
    "Images",
    "Objective",
    "Point",
    "Schedule",
    "Seen",
    "accuracy",
    "answered",
    "assess",
    "draw_some",
    "predict",
    "recalibrate",
    "train",
]
