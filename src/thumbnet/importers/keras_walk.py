"""The graph of a Keras model, walked; and Keras itself, run on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from thumbnet.errors import ModelError
from thumbnet.importers.imported import Array, Runner
from thumbnet.importers.keras_backend import keras_module
from thumbnet.importers.keras_call import pair
from thumbnet.importers.layers import same_padding

Apply = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
"""Node, layer or operation, arguments → outputs."""


def functional(model: Any) -> Any:
    """The functional model within a sequential one. Raises for models whose call is code."""
    if hasattr(model, "_functional"):
        model = model._functional
    if model is None or not hasattr(model, "_nodes_by_depth"):
        raise ModelError(
            "The model's layers cannot be followed: its class computes in code of its own, or it has not been built.",
            "Build it with the functional API, keras.Model(inputs, outputs), call model.build(), or export it to ONNX.",
        )
    return model


def walked(model: Any, inputs: Sequence[Any], apply: Apply) -> list[Any]:
    """Outputs of a functional model, whose layers and operations are applied in order; models within it are entered."""
    tree = keras_module().tree
    known = {id(t): v for t, v in zip(model.inputs, inputs, strict=True)}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.operation or node.is_input:
                continue
            args, kwargs = node.arguments.fill_in(known)
            op = node.operation
            if hasattr(op, "_functional") or hasattr(op, "_nodes_by_depth"):
                inner = functional(op)
                given = [known[id(t)] for t in node.input_tensors]
                outputs = walked(inner, given, apply)
            else:
                outputs = tree.flatten(apply(node, op, args, kwargs))
            known.update({id(t): v for t, v in zip(node.outputs, outputs, strict=True)})
    return [known[id(t)] for t in model.outputs]


def runner(model: Any) -> Runner:
    keras = keras_module()
    uneven = _uneven_pools(model)

    def apply(node: Any, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _averaged(op, args[0]) if op in uneven else op(*args, **kwargs)

    def computed(inputs: list[Array]) -> list[Array]:
        given = [keras.ops.convert_to_tensor(np.asarray(x, np.float32)) for x in inputs]
        with _no_gradients(keras):
            if uneven:
                outputs = walked(model, given, apply)
            else:
                packed = keras.tree.pack_sequence_as(model._inputs_struct, given)
                outputs = keras.tree.flatten(model(packed, training=False))
            return [np.asarray(keras.ops.convert_to_numpy(y)) for y in outputs]

    def run(inputs: list[Array]) -> list[Array]:
        try:
            return computed(inputs)
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError) as e:
            told = " ".join(str(e).split())[:200]
            raise ModelError(f"Keras cannot run the model '{model.name}': {told}", "Does it run by itself?") from e

    return run


def _no_gradients(keras: Any) -> AbstractContextManager[Any]:
    return torch.no_grad() if keras.backend.backend() == "torch" else nullcontext()


def _uneven_pools(model: Any) -> set[Any]:
    """Averages over windows with uneven SAME padding: Keras on torch counts repeated border values there, where
    TensorFlow and JAX, in which networks are trained, leave padding out."""
    found = set()

    def apply(node: Any, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if type(op).__name__ in ("AveragePooling1D", "AveragePooling2D") and op.padding == "same":
            shape = tuple(args[0].shape)[1:]
            space = shape[1:] if op.data_format == "channels_first" else shape[:-1]
            size = (1, *space) if len(space) == 1 else space
            top, left, bottom, right = same_padding(size, pair(op.pool_size), pair(op.strides))
            if (top, left) != (bottom, right):
                found.add(op)
        return list(node.outputs)

    walked(model, model.inputs, apply)
    return found


def _averaged(op: Any, x: Any) -> Any:
    """SAME average pooling of TensorFlow: sums of padded windows over the counts of what is not padding."""
    keras = keras_module()
    ops, first = keras.ops, op.data_format == "channels_first"
    rank = len(x.shape) - 2
    kernel, stride = (pair(v)[2 - rank :] for v in (op.pool_size, op.strides))
    space = tuple(x.shape)[2:] if first else tuple(x.shape)[1:-1]
    pads = same_padding((1, *space)[-2:], pair(op.pool_size), pair(op.strides))
    around = [(pads[k], pads[k + 2]) for k in (0, 1)][2 - rank :]
    width = [(0, 0), (0, 0), *around] if first else [(0, 0), *around, (0, 0)]

    def pooled(v: Any) -> Any:
        padded = ops.pad(v, width)
        return ops.average_pool(padded, kernel, stride, padding="valid", data_format=op.data_format)

    return ops.divide(pooled(x), pooled(ops.ones_like(x)))
