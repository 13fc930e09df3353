"""Whatever a user may call a model, as a graph."""

from __future__ import annotations

import importlib
import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.export import ExportedProgram

from thumbnet.errors import ModelError, ThumbnetError
from thumbnet.graph.graph import Graph
from thumbnet.importers.pt2 import load_pt2
from thumbnet.importers.torch import import_torch

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_WEIGHT_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_NOT_YET = {
    ".onnx": "ONNX",
    ".h5": "Keras",
    ".keras": "Keras",
    ".tflite": "TFLite",
    ".pb": "TensorFlow SavedModel",
    ".mlmodel": "Core ML",
}
# What readers raise on damaged bytes.
_DAMAGED = (
    *(pickle.UnpicklingError, SafetensorError, struct.error, zipfile.BadZipFile, EOFError, OSError),
    *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError),
)
_WAY_OUT = (
    "Save the network with torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2'), "
    "or give 'package.module:factory' as the model and this file as its weights."
)


def load(model: Any, input_shape: Sequence[int] | None = None, weights: str | Path | None = None) -> Graph:
    """The graph of a model, checked against the model itself.

    `model`: a `torch.nn.Module`; a `torch.export.ExportedProgram` or the path of its `.pt2` file; a text
    "package.module:factory" naming a function or class that makes the module when called without arguments; the path
    of a graph saved by Thumbnet (`.json`); or a `Graph`. `weights` is a file of weights for a module: safetensors, or
    a state dict saved by torch. `input_shape` is (channels, height, width) and needed for modules only.

    Raises `ModelError` for anything else, `UnsupportedOpError` for a network with an unknown operation. Nothing is
    unpickled beyond tensors.
    """
    if isinstance(model, Graph):
        return model
    if isinstance(model, str) and _FACTORY.fullmatch(model) and not Path(model).exists():
        model = _made(model)
    if isinstance(model, nn.Module):
        if weights is not None:
            _load_weights(model, Path(weights))
        return import_torch(model, input_shape)
    if weights is not None:
        raise ModelError("Only a module takes weights from a file.", "Give 'package.module:factory' as the model.")
    if isinstance(model, ExportedProgram):
        return _fitting(import_torch(model), input_shape)
    if isinstance(model, str | Path):
        return _fitting(_load_path(Path(model)), input_shape)
    raise ModelError(
        f"A {type(model).__name__} is not a model.",
        "Give a torch.nn.Module, an exported program, a .pt2 file or 'package.module:factory'.",
    )


def _fitting(graph: Graph, input_shape: Sequence[int] | None) -> Graph:
    """Raises `ModelError` where the caller expects another input than the file has."""
    own = graph.inputs[0].shape
    if input_shape is not None and tuple(input_shape) != own:
        raise ModelError(
            f"The model was exported for inputs of shape {own}, not {tuple(input_shape)}.",
            "Export it again at that size, or leave the size out.",
        )
    return graph


def _load_path(path: Path) -> Graph:
    suffix = path.suffix.lower()
    if not path.exists():
        hint = "" if ":" in str(path) else "A network in code is given as 'package.module:factory'."
        raise ModelError(f"There is no file {path}.", hint)
    if path.is_dir():
        kind = (
            "a TensorFlow SavedModel, which is not supported yet" if (path / "saved_model.pb").exists() else "a folder"
        )
        raise ModelError(f"{path} is {kind}.", "Give a .pt2 file or 'package.module:factory'.")
    if suffix == ".pt2":
        return import_torch(load_pt2(path), name=path.stem)
    if suffix == ".json":
        return _saved_graph(path)
    if suffix in _WEIGHT_FILES:
        raise _weights_only(path)
    if suffix in _NOT_YET:
        raise ModelError(f"{path} is a {_NOT_YET[suffix]} file; these are not supported yet.", "Use PyTorch for now.")
    raise ModelError(f"{path} is not a model.", "Give a .pt2 file or 'package.module:factory'.")


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


__all__ = ["load"]
