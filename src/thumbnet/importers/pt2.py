"""Exported programs (`.pt2`) read without ever running what they hold.

`torch.export.load` unpickles parts of the archive, evaluates symbolic sizes as Python, and looks operations up by name
anywhere in `torch`. So the archive is read here first, everything but plain tensors and aten operations is refused,
and torch is given a new archive made of what passed.
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from thumbnet.errors import ModelError
from thumbnet.files import MAX_JSON_BYTES
from thumbnet.graph.graph import MAX_ELEMENTS

MAX_BYTES = 1 << 30
_PROGRAM = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PAYLOAD = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_TARGET = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(getitem|mul|add|sub|floordiv|ge|le|eq)")
# Sizes as torch spells them: products and sums of symbols and integers.
_SIZE = re.compile(r"(?:Symbol\('[su]\d+'(?:, \w+=True)*\)|Integer\(\d+\)|(?:Mul|Add)\(|-?\d+|[), ])+")
_ARGUMENTS = {
    f"as_{kind}"
    for kind in (
        *("none", "tensor", "tensors", "optional_tensor", "optional_tensors", "nested_tensors"),
        *("int", "ints", "float", "floats", "bool", "bools", "string", "strings", "name", "expr"),
        *("sym_int", "sym_ints", "sym_float", "sym_floats", "sym_bool", "sym_bools"),
        *("scalar_type", "memory_format", "layout", "device"),
    )
}
# What a damaged archive raises; RuntimeErrors where a record is encrypted or packed oddly, or where JSON is deep.
_UNREADABLE = (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError)
_RESAVE = "Save it again with torch.export.save(torch.export.export(model.eval(), (example,)), path)."


def load_pt2(path: Path) -> ExportedProgram:
    """The program in an archive written by `torch.export.save`.

    Raises `ModelError` where the file is no such archive, is larger than 1 GB, or holds pickled objects, operations
    outside aten, or anything else that is not plain data.
    """
    try:
        records = _records(path)
        program = json.loads(records[_PROGRAM])
        configs = {name: json.loads(records[name]) for name in _CONFIGS}
        if not isinstance(program, dict):
            raise ValueError("the description is no object")
        _check_program(path, program)
    except _UNREADABLE as e:
        raise ModelError(f"{path} is not an exported program.", _RESAVE) from e
    for config in configs.values():
        _check_tensors(path, config)
    program["guards_code"] = []  # Python source that torch would compile
    archive = _archive(records, {_PROGRAM: program, **configs})
    try:
        with _silent():
            return torch.export.load(archive)
    except (RuntimeError, AssertionError, KeyError, ValueError, TypeError, AttributeError) as e:
        raise ModelError(f"torch {torch.__version__} cannot read {path}: {e}", _RESAVE) from e


@contextmanager
def _silent() -> Iterator[None]:
    """Without torch's warnings about its own workings, and the traceback that it logs before it raises an error."""
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


def _records(path: Path) -> dict[str, bytes]:
    """The archive's files by their path below its top folder; only those that are looked at here."""
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} is larger than 1 GB, far from anything a microcontroller could run.")
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.split("/", 1)[-1]
            is_json = name == _PROGRAM or name in _CONFIGS
            if not is_json and not _PAYLOAD.fullmatch(name):
                continue
            if info.compress_type != zipfile.ZIP_STORED or (is_json and info.file_size > MAX_JSON_BYTES):
                raise ValueError(f"unexpected record {name}")
            found[name] = archive.read(info)
    return found


def _check_program(path: Path, value: Any) -> None:
    """Walks the whole description and refuses whatever torch would resolve or evaluate beyond plain aten."""
    if isinstance(value, list):
        for item in value:
            _check_program(path, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key.startswith("as_") and key not in _ARGUMENTS:
                raise _unsafe(path, f"an argument of kind '{key}'")
            if key == "target" and not (isinstance(item, str) and _TARGET.fullmatch(item)):
                raise _unsafe(path, f"the operation '{item}'")
            if key in ("expr_str", "as_expr") and isinstance(item, str) and not _SIZE.fullmatch(item):
                raise _unsafe(path, f"the size '{item[:40]}'")
            if key in ("custom_obj_values", "treespec_namedtuple_fields") and item:
                raise _unsafe(path, "Python objects")
            _check_program(path, item)
    elif isinstance(value, str) and "__enum__" in value:
        raise _unsafe(path, "a Python enumeration")


def _check_tensors(path: Path, config: Any) -> None:
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        raise ModelError(f"{path} is not an exported program.", _RESAVE)
    for name, entry in entries.items():
        plain = isinstance(entry, dict) and not entry.get("use_pickle")
        if not plain or not re.fullmatch(r"(weight|tensor)_\d+", str(entry.get("path_name"))):
            raise _unsafe(path, f"'{name}' as a pickled object")
        meta = entry.get("tensor_meta") or {}
        listed = meta.get("sizes", []) if isinstance(meta, dict) else None
        if not isinstance(listed, list):
            raise _unsafe(path, f"'{name}' without a shape")
        sizes = [s.get("as_int") if isinstance(s, dict) else None for s in listed]
        count = 1
        for size in sizes:
            if not isinstance(size, int) or size < 0:
                raise _unsafe(path, f"'{name}' with a size that is no number")
            count *= size
        if count > MAX_ELEMENTS:
            raise ModelError(f"{path} holds '{name}' with {count} values, far too many.")


def _archive(records: dict[str, bytes], descriptions: dict[str, Any]) -> io.BytesIO:
    """A new archive of checked records alone, without sample inputs (which are pickled)."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    plain = {"archive_format": b"pt2", "archive_version": b"0", "data/sample_inputs/model.pt": _no_samples()}
    checked = {name: json.dumps(value).encode() for name, value in descriptions.items()}
    for name, data in {**records, **checked, **plain}.items():
        writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    buffer.seek(0)
    return buffer


def _no_samples() -> bytes:
    buffer = io.BytesIO()
    torch.save(((), {}), buffer)
    return buffer.getvalue()


def _unsafe(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} holds {what}, which is not read for safety's sake.", _RESAVE)
