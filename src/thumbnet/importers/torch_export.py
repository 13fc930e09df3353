"""Modules as exported programs: the shapes of their inputs, evaluation mode, and `torch.export`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.export import ExportedProgram

from thumbnet.errors import ModelError
from thumbnet.graph.graph import Shape

BATCH = 2  # with 1, an operation that drops or mixes the batch axis would go unseen
Shapes = Sequence[int] | Sequence[Sequence[int]]
"""(channels, height, width), or one shape for each input."""

# What torch raises when a module and its input do not go together, or when it cannot be traced.
_TORCH_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, AssertionError)


def shapes_of(given: Shapes) -> list[Shape]:
    """One shape for each input."""
    if given and all(isinstance(s, int) for s in given):
        return [tuple(int(s) for s in given)]  # type: ignore[arg-type]  # all are ints
    return [tuple(int(d) for d in s) for s in given]  # type: ignore[union-attr]  # none is an int


def no_shape(model: nn.Module) -> ModelError:
    return ModelError(
        f"{type(model).__name__} does not tell the shape of its input.",
        "Give input_shape=(channels, height, width), or an input size where the data tells the channels.",
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time being; every sub-module gets its own mode back."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m, mode in modes:
            m.training = mode


def exported(module: nn.Module, shapes: list[Shape]) -> ExportedProgram:
    """The module's program for inputs [BATCH, *shape]; (channels, 1, time) may also stand for (channels, time).

    Raises `ModelError` where the module does not accept such inputs, or torch cannot trace it.
    """
    kind = type(module).__name__
    inputs = tuple(torch.zeros(BATCH, *s) for s in shapes)
    try:
        module(*inputs)
    except _TORCH_ERRORS as e:
        flat = [(s[0], s[2]) if len(s) == 3 and s[1] == 1 else s for s in shapes]
        if flat != shapes:  # a signal without a height
            return exported(module, flat)
        told = " and ".join(map(str, shapes))
        raise ModelError(
            f"{kind} does not accept an input of shape {told} (channels, height, width): {_first_line(e)}",
            "Check the input size and the number of channels.",
        ) from e
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its own workings
            return torch.export.export(module, inputs)
    except _TORCH_ERRORS as e:
        raise ModelError(
            f"torch.export cannot trace {kind}: {_first_line(e)}",
            "Remove control flow that depends on the input's values, or export the model yourself.",
        ) from e


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(".") + "."
