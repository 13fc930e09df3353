"""Whatever a user may call a model, as a graph."""

from __future__ import annotations

import importlib
import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.export import ExportedProgram

from thumbnet.errors import ModelError, ThumbnetError
from thumbnet.graph.graph import Graph, Shape
from thumbnet.importers.imported import Imported, unchecked
from thumbnet.importers.pt2 import load_pt2
from thumbnet.importers.report import NodeReport
from thumbnet.importers.torch import check_torch, imported
from thumbnet.importers.torch_export import Shapes, shapes_of

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_WEIGHT_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
FORMATS = ".pt2, .onnx, .tflite, .keras or .h5 file, a SavedModel's folder, or 'package.module:factory'"
# What readers raise on damaged bytes.
_DAMAGED = (
    *(pickle.UnpicklingError, SafetensorError, struct.error, zipfile.BadZipFile, EOFError, OSError),
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError),
)
_WAY_OUT = (
    "Save the network with torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2'), "
    "or give 'package.module:factory' as the model and this file as its weights."
)


def load(model: Any, input_shape: Shapes | None = None, weights: str | Path | None = None) -> Graph:
    """The graph of `load_imported(...)`."""
    return load_imported(model, input_shape, weights).graph


def load_imported(model: Any, input_shape: Shapes | None = None, weights: str | Path | None = None) -> Imported:
    """The graph of a model, compared with what the model's own framework computes, and that comparison.

    `model`: a `torch.nn.Module`; a `torch.export.ExportedProgram` or the path of its `.pt2` file; a text
    "package.module:factory" naming a function or class that makes the module when called without arguments; the path of
    an ONNX, TFLite or Keras file, or of a SavedModel's folder; a Keras model; the path of a graph saved by Thumbnet
    (`.json`); or a `Graph`. `weights` is a file of weights for a module: safetensors, or a state dict saved by torch.
    `input_shape` is (channels, height, width), or one for each input; needed for modules, and for Keras models that
    leave sizes open.

    Raises `ModelError` for anything else, `UnsupportedOpError` for a network with an unknown operation. Nothing is
    unpickled beyond tensors.
    """
    if isinstance(model, Graph):
        return unchecked(model)
    if isinstance(model, str) and _FACTORY.fullmatch(model) and not Path(model).exists():
        model = _made(model)
    if isinstance(model, nn.Module) and not is_keras_model(model):
        if weights is not None:
            _load_weights(model, Path(weights))
        return imported(model, input_shape)
    if weights is not None:
        raise ModelError("Only a module takes weights from a file.", "Give 'package.module:factory' as the model.")
    if isinstance(model, ExportedProgram):
        return _fitting(imported(model), input_shape)
    if isinstance(model, str | Path):
        path = Path(model)
        return _fitting(_reader_of(path, _only(input_shape))(path), input_shape)
    if is_keras_model(model):
        from thumbnet.importers.keras import import_keras

        return _fitting(import_keras(model, _only(input_shape), channels_first=True), input_shape)
    raise ModelError(f"A {type(model).__name__} is not a model.", f"Give a torch.nn.Module, a {FORMATS}.")


def check_nodes(model: Any, input_shape: Shapes | None = None, weights: str | Path | None = None) -> list[NodeReport]:
    """What can be said of each node of a model, as `load_imported` takes it; empty for graphs of Thumbnet's own.

    Raises `ModelError` where there is no telling nodes apart: a damaged file, a module without an input shape.
    """
    if isinstance(model, str):
        model = module_of(model) or model
    if is_keras_model(model):
        from thumbnet.importers.keras import check_keras

        return check_keras(model, _only(input_shape))
    if isinstance(model, nn.Module | ExportedProgram):
        return check_torch(model, input_shape)
    if not isinstance(model, str | Path):
        load_imported(model, input_shape, weights)
        return []
    path = Path(model)
    _reader_of(path)  # or there is no such file
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from thumbnet.importers.onnx import check_onnx

        return check_onnx(path)
    if suffix == ".tflite":
        from thumbnet.importers.tflite_float import check_tflite

        return check_tflite(path)
    if suffix in (".h5", ".hdf5", ".keras"):
        from thumbnet.importers.keras import check_keras

        return check_keras(path, _only(input_shape))
    if path.is_dir() or suffix == ".pb":
        from thumbnet.importers.saved_model import check_saved_model

        return check_saved_model(path if path.is_dir() else path.parent)
    return check_torch(load_pt2(path)) if suffix == ".pt2" else []


def is_keras_model(model: Any) -> bool:
    """Told by its class, so that Keras, which takes seconds, is not imported for it. On Keras's PyTorch backend its
    models are modules of PyTorch, too."""
    return any(c.__module__.split(".")[0] in ("keras", "tf_keras") for c in type(model).__mro__)


def module_of(name: str) -> nn.Module | None:
    """The module that "package.module:factory" makes; None for other texts, and where a file is called so."""
    return _made(name) if _FACTORY.fullmatch(name) and not Path(name).exists() else None


def _fitting(made: Imported, input_shape: Shapes | None) -> Imported:
    """Raises `ModelError` where the caller expects another input than the file has."""
    own = [i.shape for i in made.graph.inputs]
    if input_shape is not None and not all(
        told in (s, s[:1] + s[2:] if len(s) == 3 and s[1] == 1 else s)  # a signal's height may be left out
        for told, s in zip_longest(shapes_of(input_shape), own, fillvalue=())
    ):
        told = " and ".join(map(str, own))
        raise ModelError(
            f"The model was exported for inputs of shape {told}, not {tuple(input_shape)}.",
            "Export it again at that size, or leave the size out.",
        )
    return made


def _only(input_shape: Shapes | None) -> Shape | None:
    """The shape of the input where there is one input: only of such models sizes can be left open."""
    shapes = [] if input_shape is None else shapes_of(input_shape)
    return shapes[0] if len(shapes) == 1 else None


def _reader_of(path: Path, shape: Shape | None = None) -> Callable[[Path], Imported]:
    """What imports a file or folder, by its name. Importers of other frameworks are loaded where they are needed.
    `shape`, channels first, is for those that may leave sizes open."""
    suffix = path.suffix.lower()
    if not path.exists():
        hint = "" if ":" in str(path) else "A network in code is given as 'package.module:factory'."
        raise ModelError(f"There is no file {path}.", hint)
    if path.is_dir() or suffix == ".pb":
        from thumbnet.importers.saved_model import import_saved_model

        folder = path if path.is_dir() else path.parent
        if not (folder / "saved_model.pb").exists():
            raise ModelError(
                f"{path} is a folder." if path.is_dir() else f"{path} is no SavedModel.", f"Give a {FORMATS}."
            )
        return lambda _: import_saved_model(folder)
    if suffix == ".onnx":
        from thumbnet.importers.onnx import import_onnx

        return import_onnx
    if suffix in (".h5", ".hdf5", ".keras"):
        from thumbnet.importers.keras import import_keras

        return lambda p: import_keras(p, shape, channels_first=True)
    if suffix == ".tflite":
        from thumbnet.importers.tflite_float import import_tflite

        return import_tflite
    if suffix == ".pt2":
        return lambda p: imported(load_pt2(p), name=p.stem)
    if suffix == ".json":
        return lambda p: unchecked(_saved_graph(p))
    if suffix in _WEIGHT_FILES:
        raise _weights_only(path)
    raise ModelError(f"{path} is not a model.", f"Give a {FORMATS}.")


def _saved_graph(path: Path) -> Graph:
    try:
        graph = Graph.load(path)
        graph.validate()
    except ThumbnetError as e:
        raise ModelError(e.message, e.hint) from e
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, SafetensorError) as e:
        raise ModelError(f"{path} is not a graph saved by Thumbnet ({type(e).__name__}).") from e
    return graph


def _weights_only(path: Path) -> ModelError:
    """The error for a file of weights, or of a pickled module, given as a model. Does not unpickle it."""
    try:
        _state(path)
    except ModelError:
        return ModelError(f"{path} is not a file of weights; a pickled module is never opened.", _WAY_OUT)
    return ModelError(f"{path} holds weights, but no network.", _WAY_OUT)


# --- modules in code, and their weights


def _made(name: str) -> nn.Module:
    module_name, factory_name = name.split(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)  # as `python -m` does, so that a script beside the data is found
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        raise ModelError(
            f"There is no module '{e.name}' to import.", "Install it, or run where it can be found."
        ) from e
    finally:
        if added:
            sys.path.remove(here)
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise ModelError(f"The module '{module_name}' has no function or class '{factory_name}'.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # weights that it draws are the same in every process, or no run could be resumed
        made = factory()
    if not isinstance(made, nn.Module):
        raise ModelError(f"'{name}' makes a {type(made).__name__}, not a torch.nn.Module.")
    return made


def _load_weights(module: nn.Module, path: Path) -> None:
    state = _state(path)
    try:
        missing, unexpected = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as e:
        raise ModelError(f"The weights in {path} do not fit: {str(e).splitlines()[-1].strip()}") from e
    lost = [k for k in missing if not k.endswith("num_batches_tracked")]
    if lost or unexpected:
        what = f"lack '{lost[0]}'" if lost else f"have '{unexpected[0]}', which the network lacks"
        count = len(lost) + len(unexpected)
        raise ModelError(f"The weights in {path} {what} ({count} names differ).", "Are they of this very network?")


def _state(path: Path) -> Mapping[str, torch.Tensor]:
    """Tensors by name. Raises `ModelError` where the file is missing or holds anything but tensors."""
    if not path.is_file():
        raise ModelError(f"There is no file {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about the format; what it cannot read, it refuses
            state = torch.load(path, weights_only=True, map_location="cpu")
    except _DAMAGED as e:
        raise ModelError(
            f"{path} is not a file of weights ({type(e).__name__}).", "Save model.state_dict(), not the model itself."
        ) from e
    for wrapper in ("state_dict", "model_state_dict", "model"):  # as training scripts store it beside other things
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(f"{path} holds something else than weights by name.", "Save model.state_dict().")
    return {str(k).removeprefix("module."): v for k, v in state.items()}


__all__ = ["FORMATS", "load", "load_imported"]
