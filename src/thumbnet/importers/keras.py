"""Keras models → the float graph, without TensorFlow: `.keras` and `.h5` files of all ages, and live models.

A file is read into values, made anew layer by layer from tables (`thumbnet.importers.keras_build`), and walked as a
live model is. Keras itself then says what the network computes, and the graph must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from thumbnet.errors import ModelError, ThumbnetError, UnsupportedOpError
from thumbnet.importers.builder import Builder, Origin, Value
from thumbnet.importers.imported import Imported, imported
from thumbnet.importers.keras_activations import ACTIVATIONS
from thumbnet.importers.keras_backend import keras_module
from thumbnet.importers.keras_build import Given, ModelBuilder
from thumbnet.importers.keras_call import Call, Handler, Result
from thumbnet.importers.keras_classes import CHECKED, LAYERS, OPERATIONS, REFUSED, kind_of, refusal
from thumbnet.importers.keras_config import LayerSpec, ModelSpec, model_spec
from thumbnet.importers.keras_file import KerasFile, read_keras
from thumbnet.importers.keras_layers import WEIGHTED
from thumbnet.importers.keras_ops import OPERATIONS as OPERATION_HANDLERS
from thumbnet.importers.keras_values import VALUES
from thumbnet.importers.keras_walk import functional, runner, walked
from thumbnet.importers.report import NodeReport

LAYER_HANDLERS: dict[str, Handler] = {**WEIGHTED, **ACTIVATIONS, **VALUES}


def import_keras(model: Any, input_shape: Sequence[int] | None = None, *, channels_first: bool = False) -> Imported:
    """The graph of a `.keras` or `.h5` file, or of a live `keras.Model`, checked against Keras.

    `input_shape` is needed where the model leaves sizes open, without the batch: in its own axes, or with the channels
    in front whatever the model has if `channels_first`. Raises `ModelError` for files that are no whole, harmless Keras
    model, `UnsupportedOpError` for layers that Thumbnet lacks.
    """
    shape = None if input_shape is None else Given.of(input_shape, channels_first)
    name = ""
    if isinstance(model, str | Path):
        file = read_keras(Path(model))
        spec = _spec(file)
        refused = [layer for layer in _all_layers(spec) if not _known(layer, LAYERS)]
        if refused:
            raise refusal(refused[0])
        name, model = file.name, ModelBuilder(keras_module(), file, LAYERS, shape).loaded(spec)
    elif not isinstance(model, keras_module().Model):
        raise ModelError(f"A {type(model).__name__} is no Keras model.", "Give a keras.Model, or a file of one.")
    model = functional(_fixed(model, shape))
    builder, inputs, found = _built(model, name or model.name, _handled)
    outputs = [builder.output(Origin("output", f"{builder.name}.output"), v) for v in found]
    runtime = f"Keras {keras_module().__version__} ({keras_module().backend.backend()})"
    return imported(builder.graph(outputs), inputs, outputs, runner(model), runtime)


def check_keras(model: Any, input_shape: Sequence[int] | None = None) -> list[NodeReport]:
    """What is supported of the layers of a file or a live model, all of them. `input_shape` has the channels in front.
    Raises `ModelError` where there is no reading it at all.

    Where a class is unknown, shapes behind it are, too: the others are then told by their class only ("unchecked").
    """
    reports: list[NodeReport] = []
    shape = None if input_shape is None else Given.of(input_shape, channels_first=True)
    if not isinstance(model, str | Path):
        _built(
            functional(model if shape is None else _fixed(model, shape)), model.name, lambda c: _reported(c, reports)
        )
        return reports
    file = read_keras(Path(model))
    spec = _spec(file)
    if all(_known(layer, CHECKED) for layer in _all_layers(spec)):
        keras = keras_module()
        try:
            model = functional(ModelBuilder(keras, file, CHECKED, shape).loaded(spec))
        except UnsupportedOpError as e:
            return _by_class(spec, e)
        _built(model, file.name, lambda c: _reported(c, reports))
        return reports
    return _by_class(spec, None)


def _spec(file: KerasFile) -> ModelSpec:
    try:
        return model_spec(file.config)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as e:
        raise ModelError(f"The configuration in '{file.name}' makes no sense.", "Save the model again.") from e


def _by_class(spec: ModelSpec, found: UnsupportedOpError | None) -> list[NodeReport]:
    reports = []
    for layer in _all_layers(spec):
        known = _known(layer, LAYERS) and (found is None or found.node != layer.name)
        error = found if found is not None and found.node == layer.name else refusal(layer)
        why = "Its class is supported; its settings could not be checked."
        reports.append(
            NodeReport(layer.name, layer.kind, "unchecked" if known else "refused", why if known else error.hint)
        )
    return reports


def _all_layers(spec: ModelSpec) -> list[LayerSpec]:
    return [
        found
        for layer in spec.layers
        for found in (_all_layers(layer.model) if layer.model is not None else [layer])
        if found.kind != "InputLayer"
    ]


def _known(layer: LayerSpec, classes: frozenset[str]) -> bool:
    if layer.module == "custom":
        return False
    if layer.is_operation:
        return layer.kind in OPERATIONS
    return layer.kind in ("TFOpLambda", "SlicingOpLambda") or kind_of(layer) in classes


# --- the walk


def _fixed(model: Any, given: Given | None) -> Any:
    """The same model on inputs of a fixed size."""
    inner = functional(model)
    open_inputs = [x for x in inner.inputs if None in tuple(x.shape)[1:]]
    if not open_inputs:
        return model
    shape = given.fill(tuple(open_inputs[0].shape)[1:]) if given and len(inner.inputs) == 1 else None
    if shape is None:
        raise ModelError(
            f"The input '{open_inputs[0].name}' has the shape {tuple(open_inputs[0].shape)[1:]}, with sizes left open.",
            "Give the size: `--input-size` (of `check`, `--input-shape`), in Python `input_shape=`.",
        )
    keras = keras_module()
    x = keras.Input(shape=shape, dtype="float32")
    outputs = walked(inner, [x], lambda node, op, args, kwargs: op(*args, **kwargs))
    return keras.Model(x, outputs if len(outputs) > 1 else outputs[0], name=model.name)


def _built(model: Any, name: str, convert: Callable[[Call], Result]) -> tuple[Builder, list[Value], list[Value]]:
    first = any(getattr(o, "data_format", None) == "channels_first" for o in model.operations)
    builder = Builder(name, channels_last=not first)
    inputs = [builder.input(t.name, _shape(t)) for t in model.inputs]

    def apply(node: Any, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result:
        call = Call(
            builder, Origin(type(op).__name__, op.name), op, args, kwargs, tuple(_shape(t) for t in node.outputs)
        )
        return convert(call)

    return builder, inputs, walked(model, inputs, apply)


def _shape(tensor: Any) -> tuple[int, ...]:
    shape = tuple(tensor.shape)[1:]
    if None in shape:
        raise ModelError(f"A value of shape {shape} has sizes left open.", "Give the network inputs of a fixed size.")
    return tuple(int(d) for d in shape)


def _handled(c: Call) -> Result:
    keras, kind = keras_module(), c.origin.op
    ours = type(c.op).__module__.split(".")[0] == "keras"
    table = LAYER_HANDLERS if isinstance(c.op, keras.layers.Layer) else OPERATION_HANDLERS
    if not ours or kind not in table:
        raise c.origin.refuse(REFUSED.get(kind, "") if ours else "Layers with code of their own are not supported.")
    made = table[kind](c)
    for value, shape in zip(made if isinstance(made, list) else [made], c.shapes, strict=True):
        if value.shape != shape:
            raise ModelError(f"'{c.origin.name}' ({kind}) gives {shape}, but was understood to give {value.shape}.")
    return made


def _reported(c: Call, reports: list[NodeReport]) -> Result:
    """As `_handled`, but goes on behind what is refused with a new value of the right shape."""
    try:
        made = _handled(c)
    except ThumbnetError as e:
        reports.append(NodeReport(c.origin.name, c.origin.op, "refused", e.hint or e.message))
        return [c.b.input(f"{c.origin.name}.refused", shape) for shape in c.shapes]
    reports.append(NodeReport(c.origin.name, c.origin.op, "supported", ""))
    return made
