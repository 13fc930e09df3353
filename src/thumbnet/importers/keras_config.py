"""The configuration of a Keras model, of any age, as plain values.

Keras's configurations can name any class, function or module, and its own reader imports what they name. Here they
are read into values first; classes and functions are then looked up by name in the tables of
`thumbnet.importers.keras_classes`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thumbnet.errors import ModelError

MAX_LAYERS = 4096
MAX_NESTING = 8
_HINT = "Save the model again with a current Keras: model.save('model.keras')."


@dataclass(frozen=True)
class Ref:
    """The value that a layer gave: at its call `call`, its output `output`."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True, eq=False)
class CallSpec:
    args: tuple[Any, ...]  # with Refs in them
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """A layer, an operation (`module` is then that of Keras's operations), or a model within the model."""

    name: str
    kind: str
    module: str
    config: Mapping[str, Any]
    calls: tuple[CallSpec, ...]
    model: ModelSpec | None = None

    @property
    def is_operation(self) -> bool:
        return ".ops." in f"{self.module}."


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """`inputs` and `outputs` are empty for a sequence, whose layers have no calls."""

    name: str
    layers: tuple[LayerSpec, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    sequential: bool


def model_spec(config: Any, depth: int = 0) -> ModelSpec:
    """Raises `ModelError` for a configuration that is no functional or sequential model."""
    kind, inner = _text(config, "class_name"), config.get("config")
    if depth > MAX_NESTING:
        raise ModelError(f"Models are nested more than {MAX_NESTING} deep.", _HINT)
    if kind == "Sequential":
        return _sequential(inner, depth)
    if not isinstance(inner, dict) or "layers" not in inner:
        raise ModelError(
            f"The model is of a class of its own ('{kind}'), whose code is not in the file.",
            "Give the model itself as a keras.Model built with the functional API, or export it to ONNX.",
        )
    layers = [_layer(c, depth) for c in _list(inner, "layers")]
    if len({layer.name for layer in layers}) != len(layers):
        raise ModelError("The model has two layers of one name.", _HINT)
    inputs, outputs = (tuple(_ends(inner.get(k))) for k in ("input_layers", "output_layers"))
    old = any(isinstance(node, list) for c in inner["layers"] for node in c.get("inbound_nodes") or ())
    shifted = _shifted(layers, outputs, old)
    layers = [_moved(layer, shifted[0]) for layer in layers]
    outputs = tuple(_back(ref, shifted[1]) for ref in outputs)
    return ModelSpec(str(inner.get("name") or "model"), tuple(layers), inputs, outputs, sequential=False)


def _sequential(inner: Any, depth: int) -> ModelSpec:
    """Older files have the list of layers only, and the input's shape in the first of them."""
    found = inner if isinstance(inner, list) else _list(inner, "layers")
    layers = [_layer(c, depth) for c in found]
    if layers and layers[0].kind != "InputLayer":
        shape = _input_shape(inner, found[0], layers[0])
        config = {"batch_input_shape": shape}
        layers.insert(0, LayerSpec(f"{layers[0].name}_input", "InputLayer", "keras.layers", config, ()))
    name = inner.get("name") if isinstance(inner, dict) else None
    return ModelSpec(str(name or "sequential"), tuple(layers), (), (), sequential=True)


def _input_shape(inner: Any, first: Any, spec: LayerSpec) -> Any:
    build = first.get("build_config")
    candidates = [spec.config.get(k) for k in ("batch_input_shape", "batch_shape")]
    candidates.append(inner.get("build_input_shape") if isinstance(inner, dict) else None)
    candidates.append(build.get("input_shape") if isinstance(build, dict) else None)
    nested = spec.model.layers[0].config if spec.model is not None and spec.model.layers else {}
    candidates += [nested.get(k) for k in ("batch_input_shape", "batch_shape")]
    for shape in candidates:
        if isinstance(shape, list):
            return shape
    raise ModelError("The model does not say what shape its input has.", "Build it, with model.build(), and save it.")


def _layer(config: Any, depth: int) -> LayerSpec:
    kind, inner = _text(config, "class_name"), config.get("config")
    module = str(config.get("module") or ("keras.layers" if _is_layer(inner) else "keras.ops"))
    if not isinstance(inner, dict | list):
        raise ModelError(f"The configuration of a '{kind[:80]}' is no table.", _HINT)
    name = str(config.get("name") or (inner.get("name") if isinstance(inner, dict) else None) or kind.lower())
    calls = tuple(_call(c) for c in config.get("inbound_nodes") or () if c)
    if kind in ("Sequential", "Functional", "Model"):
        return LayerSpec(name, kind, module, {}, calls, model_spec(config, depth + 1))
    registered = config.get("registered_name")
    own = isinstance(registered, str) and registered not in (kind, f"keras>{kind}")
    settings = inner if isinstance(inner, dict) else {}
    return LayerSpec(name, str(registered) if own else kind, "custom" if own else module, settings, calls)


def _is_layer(config: Any) -> bool:
    """In .h5 files an operation looks like a layer of the same name, but it cannot be trained."""
    return not isinstance(config, dict) or "trainable" in config or "dtype" in config


# --- calls


def _call(node: Any) -> CallSpec:
    """Of Keras 3: a table of arguments. Older: a list of [layer, call, output, further arguments]."""
    if isinstance(node, dict):
        args, named = _value(node.get("args", [])), _value(node.get("kwargs", {}))
        return CallSpec(tuple(args) if isinstance(args, list) else (args,), named if isinstance(named, dict) else {})
    refs: list[Any] = []
    kwargs: dict[str, Any] = {}
    for part in node:
        if not isinstance(part, list) or len(part) < 3:
            raise ModelError("A layer of the model is called in a way that makes no sense.", _HINT)
        constant = part[0] == "_CONSTANT_VALUE"
        refs.append(part[2] if constant else _ref(part[:3]))
        if len(part) > 3 and isinstance(part[3], dict):
            kwargs.update({k: _old_value(v) for k, v in part[3].items()})
    return CallSpec((refs[0] if len(refs) == 1 else refs,), kwargs)


def _old_value(value: Any) -> Any:
    """Among further arguments, [layer, call, output] stands for a value."""
    if _is_ref(value):
        return _ref(value)
    if isinstance(value, list):
        return [_old_value(v) for v in value]
    if isinstance(value, dict) and set(value) == {"start", "stop", "step"}:
        return slice(value["start"], value["stop"], value["step"])
    return _value(value)


def _value(value: Any) -> Any:
    """Arguments of a call: numbers, texts, lists, references; a `dict` marks what is none of these."""
    if isinstance(value, list):
        return [_value(v) for v in value]
    if not isinstance(value, dict):
        return value
    kind, inner = value.get("class_name"), value.get("config")
    if kind is None:
        return {str(k): _value(v) for k, v in value.items()}
    if kind == "__keras_tensor__" and isinstance(inner, dict):
        return _ref(inner.get("keras_history"))
    if kind == "__slice__" and isinstance(inner, dict):
        return slice(*(inner.get(k) for k in ("start", "stop", "step")))
    if kind == "__ellipsis__":
        return Ellipsis
    if kind in ("__tensor__", "__numpy__") and isinstance(inner, dict):
        return inner.get("value")
    raise ModelError(f"A layer is called with a '{str(kind)[:80]}', which is not read.", _HINT)


def _is_ref(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and [type(v) for v in value] == [str, int, int]


def _ref(value: Any) -> Ref:
    if not _is_ref(value):
        raise ModelError("A layer of the model reads a value that makes no sense.", _HINT)
    return Ref(*value)


def _ends(found: Any) -> Iterator[Ref]:
    """References to inputs or outputs of the model, in lists or tables of any depth."""
    if _is_ref(found):
        yield _ref(found)
    elif isinstance(found, list | dict):
        for v in found.values() if isinstance(found, dict) else found:
            yield from _ends(v)


def refs_in(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | tuple):
        for v in value:
            yield from refs_in(v)
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from refs_in(v)


def with_refs(value: Any, put: Any) -> Any:
    """The same arguments with put(ref) in place of each reference."""
    if isinstance(value, Ref):
        return put(value)
    if isinstance(value, list | tuple):
        return type(value)(with_refs(v, put) for v in value)
    if isinstance(value, Mapping):
        return {k: with_refs(v, put) for k, v in value.items()}
    return value


def _shifted(layers: list[LayerSpec], outputs: tuple[Ref, ...], old: bool) -> tuple[set[str], set[str]]:
    """Models whose calls are counted from 1, (between layers, at the outputs of the model): Keras counts the making of
    a model as a call of its own, in Keras 3 at outputs only."""
    models = {layer.name: layer for layer in layers if layer.model is not None}
    if not old:
        return set(), {n for n, m in models.items() if m.kind != "Sequential"}
    last = dict.fromkeys(models, 0)
    for ref in (*outputs, *refs_in([[c.args, c.kwargs] for layer in layers for c in layer.calls])):
        if ref.layer in models:
            last[ref.layer] = max(last[ref.layer], ref.call)
    shifted = {n for n, m in models.items() if last[n] >= len(m.calls)}  # the last call is always read
    return shifted, shifted


def _moved(layer: LayerSpec, shifted: set[str]) -> LayerSpec:
    if not shifted:
        return layer
    calls = tuple(
        CallSpec(*(with_refs(v, lambda r: _back(r, shifted)) for v in (c.args, c.kwargs))) for c in layer.calls
    )
    return LayerSpec(layer.name, layer.kind, layer.module, layer.config, calls, layer.model)


def _back(ref: Ref, shifted: set[str]) -> Ref:
    return Ref(ref.layer, ref.call - 1, ref.output) if ref.layer in shifted else ref


# --- JSON


def _list(config: Any, key: str) -> list[Any]:
    found = config.get(key) if isinstance(config, dict) else None
    if not isinstance(found, list) or len(found) > MAX_LAYERS:
        raise ModelError(f"The model's '{key}' are no list of at most {MAX_LAYERS}.", _HINT)
    return found


def _text(config: Any, key: str) -> str:
    found = config.get(key) if isinstance(config, dict) else None
    if not isinstance(found, str):
        raise ModelError(f"A part of the model's configuration lacks its '{key}'.", _HINT)
    return found
