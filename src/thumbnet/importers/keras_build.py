"""A Keras model from a configuration that was read into values: layer by layer, from tables, within bounds."""

from __future__ import annotations

import inspect
import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thumbnet.errors import ModelError, ThumbnetError, UnsupportedOpError
from thumbnet.importers.keras_backend import hard_sigmoid_of_keras_2
from thumbnet.importers.keras_classes import (
    ACTIVATIONS,
    DROPPED,
    OPERATIONS,
    kind_of,
    refusal,
    tensorflow_functions,
)
from thumbnet.importers.keras_config import LayerSpec, ModelSpec, Ref, with_refs
from thumbnet.importers.keras_file import KerasFile

MAX_VALUES = 1 << 23  # of one tensor, per sample: no microcontroller holds as many
_FAILED = (
    *(ValueError, TypeError, LookupError, AttributeError, RuntimeError, AssertionError, ArithmeticError),
    *(NotImplementedError, RecursionError, MemoryError, OSError, ImportError),
)
_HINT = "The file may be damaged, or of a Keras that differs too much; save the model again with a current Keras."
_OFTEN = ("_initializer", "_regularizer", "_constraint", "_quantizer")


class _Budget:
    """An initializer that hands out zeros, and no more of them than the file has weights."""

    def __init__(self, keras: Any, elements: int) -> None:
        self.keras, self.left = keras, elements

    def __call__(self, shape: Sequence[int], dtype: Any = None, **_: Any) -> Any:
        self.left -= math.prod(shape)
        if self.left < 0:
            raise ModelError("The model asks for more weights than its file holds.", "The file may be damaged.")
        return self.keras.ops.zeros(shape, dtype)


@dataclass(frozen=True)
class Given:
    """The size that the user wants an input to have, without the batch, in every order of axes that it may mean."""

    forms: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(shape: Sequence[int], channels_first: bool) -> Given:
        own = tuple(int(d) for d in shape)
        if not channels_first or len(own) < 2:
            return Given((own,))
        last = (*own[1:], own[0])
        signals = (last[1:], (own[0], *own[2:])) if len(own) == 3 and own[1] == 1 else ()  # of (channels, 1, time)
        return Given((last, own, *signals))

    def fill(self, declared: tuple[int | None, ...]) -> tuple[int, ...] | None:
        """The first form that has the sizes which the model declares; None where there is none."""
        for form in self.forms:
            if len(form) == len(declared) and all(d in (None, f) for d, f in zip(declared, form, strict=True)):
                return form
        return None


@dataclass(frozen=True, eq=False)
class ModelBuilder:
    """`classes` are the names of layers that may be made."""

    keras: Any
    file: KerasFile
    classes: frozenset[str]
    given: Given | None = None  # for inputs whose size the file leaves open
    budget: _Budget = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", _Budget(self.keras, self.file.weights.elements))

    def loaded(self, spec: ModelSpec) -> Any:
        """The model with its weights."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras about settings that it has renamed
            try:
                model = self.made(spec)
                self._load_weights(model)
            except ThumbnetError:
                raise
            except _FAILED as e:
                raise ModelError(f"Keras cannot make the model of '{self.file.name}': {_told(e)}", _HINT) from e
        return model

    def _load_weights(self, model: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="thumbnet-") as folder:
            path = Path(folder, "model.h5" if self.file.legacy else "model.weights.h5")
            self.file.weights.write(path)
            try:
                model.load_weights(path)
            except _FAILED as e:
                raise ModelError(f"The weights of '{self.file.name}' do not fit: {_told(e)}", _HINT) from e

    # --- models

    def made(self, spec: ModelSpec) -> Any:
        if spec.sequential:
            layers = [self.input(layer) if layer.kind == "InputLayer" else self.layer(layer) for layer in spec.layers]
            model = self.keras.Sequential(name=spec.name)
            for layer in layers:
                model.add(layer)
                if model.built:
                    _within(layer, model.outputs)
            return model
        results: dict[str, list[list[Any]]] = {}
        todo = []
        for layer in spec.layers:
            if layer.kind == "InputLayer":
                results[layer.name] = [[self.input(layer)]]
            else:
                results[layer.name] = []
                todo.append((layer, self.maker(layer)))
        while todo:
            before = sum(len(r) for r in results.values())
            todo = [(layer, make) for layer, make in todo if not self._called(layer, make, results)]
            if todo and sum(len(r) for r in results.values()) == before:
                raise ModelError(f"'{todo[0][0].name}' reads a value that nothing gives.", _HINT)
        try:
            inputs, outputs = ([_read(results, r) for r in refs] for refs in (spec.inputs, spec.outputs))
        except _NotYetError as e:
            raise ModelError("An output of the model is a value that nothing gives.", _HINT) from e
        return self.keras.Model(inputs, outputs if len(outputs) != 1 else outputs[0], name=spec.name)

    def _called(self, layer: LayerSpec, make: Any, results: dict[str, list[list[Any]]]) -> bool:
        """Makes the calls that can be made; whether all are."""
        done = results[layer.name]
        for call in layer.calls[len(done) :]:
            try:
                args, kwargs = (with_refs(v, lambda r: _read(results, r)) for v in (call.args, call.kwargs))
            except _NotYetError:
                return False
            try:
                outputs = self.keras.tree.flatten(make(*args, **kwargs))
            except ThumbnetError:
                raise
            except _FAILED as e:
                raise ModelError(f"Keras cannot make '{layer.name}' ({layer.kind}): {_told(e)}", _HINT) from e
            _within(layer, outputs)
            done.append(outputs)
        return True

    def input(self, layer: LayerSpec) -> Any:
        found = layer.config.get("batch_shape", layer.config.get("batch_input_shape"))
        if not isinstance(found, list) or not found or not all(d is None or type(d) is int for d in found):
            raise ModelError(f"The input '{layer.name}' has no shape.", _HINT)
        shape = tuple(found[1:])
        if None in shape:
            filled = self.given.fill(shape) if self.given else None
            if filled is None:
                raise ModelError(
                    f"The input '{layer.name}' has the shape {shape}, in which sizes are open.",
                    "Give the size: `--input-size` (of `check`, `--input-shape`), in Python `input_shape=`.",
                )
            shape = filled
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_VALUES:
            raise ModelError(
                f"The input '{layer.name}' has the shape {shape}.", "Give it at least one number, and fewer."
            )
        return self.keras.Input(shape=shape, name=layer.name, dtype="float32")

    # --- layers

    def maker(self, spec: LayerSpec) -> Any:
        """What is called with the layer's inputs."""
        if spec.model is not None:
            return self.made(spec.model)
        if spec.kind in ("TFOpLambda", "SlicingOpLambda"):
            return self._function(spec)
        return self._operation(spec) if spec.is_operation else self.layer(spec)

    def layer(self, spec: LayerSpec) -> Any:
        if spec.model is not None:
            return self.made(spec.model)
        kind = kind_of(spec)
        if kind not in self.classes or spec.module == "custom":
            raise refusal(spec)
        made = getattr(self.keras.layers, kind)
        try:
            return made(name=spec.name, dtype="float32", **self._arguments(kind, made, spec))
        except ThumbnetError:
            raise
        except _FAILED as e:
            raise ModelError(f"Keras cannot make '{spec.name}' ({spec.kind}): {_told(e)}", _HINT) from e

    def _arguments(self, kind: str, made: Any, spec: LayerSpec) -> dict[str, Any]:
        """Settings of the layer that inference depends on, under today's names. All weights begin as zeros."""
        found = {k: _plain(v) for k, v in spec.config.items() if k not in DROPPED and not k.endswith(_OFTEN)}
        if found.get("data_format", "") is None:
            found["data_format"] = "channels_last"
        if kind == "BatchNormalization" and isinstance(found.get("axis"), list) and len(found["axis"]) == 1:
            found["axis"] = found["axis"][0]
        if kind == "BatchNormalization" and found.pop("renorm", False):
            raise UnsupportedOpError("BatchNormalization", spec.name, "Train without renorm=True.")
        if kind not in ("Conv1D", "Conv2D") and found.pop("groups", 1) != 1:  # old files have it everywhere
            raise UnsupportedOpError(spec.kind, spec.name, "Its groups must be 1; use Conv2D with groups.")
        if kind == "LeakyReLU" and "alpha" in found:
            found["negative_slope"] = found.pop("alpha")
        for key in ("activation", "recurrent_activation"):
            if key in found:
                found[key] = self._activation(spec, spec.config[key])
        known = inspect.signature(made.__init__).parameters
        found |= {k: self.budget for k in known if k.endswith("_initializer")}
        if isinstance(spec.config.get("trainable"), bool):
            found["trainable"] = spec.config["trainable"]
        return found

    def _activation(self, spec: LayerSpec, found: Any) -> Any:
        """A function of Keras, by its name; in Keras 3 a layer may stand there as well."""
        if isinstance(found, dict):
            kind, config = found.get("class_name"), found.get("config")
            if isinstance(kind, str) and isinstance(config, dict):
                module = str(found.get("module") or "custom")
                return self.layer(LayerSpec(f"{spec.name}_activation", kind, module, config, ()))
            found = config if kind == "function" else found
        if found is None:
            return None
        name = found.rsplit(">", 1)[-1] if isinstance(found, str) else ""
        if name not in ACTIVATIONS or name != found:
            raise UnsupportedOpError(
                f"{spec.kind} with activation {str(found)[:60]}",
                spec.name,
                "Use relu, relu6, leaky_relu, silu, sigmoid, tanh or softmax instead.",
            )
        if name == "hard_sigmoid" and self.file.major in (1, 2):
            return hard_sigmoid_of_keras_2
        return getattr(self.keras.activations, ACTIVATIONS[name])

    # --- operations

    def _operation(self, spec: LayerSpec) -> Any:
        if spec.kind not in OPERATIONS:
            raise refusal(spec)
        if spec.kind == "GetItem":
            return lambda x, key: x[tuple(key) if isinstance(key, list) else key]
        if spec.kind == "Identity":
            return lambda x: x
        function = getattr(self.keras.ops, OPERATIONS[spec.kind])
        settings = {k: _plain(v) for k, v in spec.config.items() if k not in ("name", "dtype")}
        return lambda *args, **kwargs: function(*args, **{**settings, **kwargs})

    def _function(self, spec: LayerSpec) -> Any:
        """Of TensorFlow, as Keras 2 wrote it down."""
        name = spec.config.get("function", "__operators__.getitem" if spec.kind == "SlicingOpLambda" else None)
        function = tensorflow_functions(self.keras.ops).get(str(name))
        if function is None:
            raise UnsupportedOpError(f"{spec.kind} {str(name)[:60]}", spec.name, "Use a layer of Keras instead.")
        return lambda *args, **kwargs: function(
            *args, **{k: v for k, v in kwargs.items() if k not in ("name", "dtype")}
        )


class _NotYetError(Exception):
    """A value that a later call gives."""


def _read(results: Mapping[str, list[list[Any]]], ref: Ref) -> Any:
    if ref.layer not in results:
        raise ModelError(f"A value of '{ref.layer[:80]}' is read, which the model does not have.", _HINT)
    calls = results[ref.layer]
    if not 0 <= ref.call < len(calls):
        raise _NotYetError
    if not 0 <= ref.output < len(calls[ref.call]):
        raise ModelError(f"'{ref.layer[:80]}' has no output {ref.output}.", _HINT)
    return calls[ref.call][ref.output]


def _within(layer: Any, outputs: Sequence[Any]) -> None:
    for y in outputs:
        size = math.prod(d for d in tuple(getattr(y, "shape", ()))[1:] if d is not None)
        if size > MAX_VALUES:
            raise ModelError(f"'{layer.name}' gives {size} numbers.", f"At most {MAX_VALUES} are accepted.")


def _plain(value: Any) -> Any:
    """Numbers that old files wrap up, bare."""
    if isinstance(value, dict) and "value" in value and value.get("type") in ("ndarray", "np.float32"):
        return value["value"]
    if isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
        inner = value.get("config")
        return inner.get("value") if isinstance(inner, dict) else None
    return value


def _told(e: BaseException) -> str:
    text = " ".join(str(e).split())[:200] or type(e).__name__
    return text if text.endswith(".") else f"{text}."
