"""An ONNX file as plain values, with every size in it checked before anything is allocated.

Files come from strangers. A message of protobuf may hold millions of empty ones, which take a hundred times their bytes
once they are parsed; so what is not read here is left out, and what is left is counted, before anything is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from thumbnet.errors import ModelError
from thumbnet.importers.model_file import MAX_FILE_BYTES
from thumbnet.importers.onnx_tensors import DTYPES, MAX_RANK, Array, External, constant, text

MAX_TENSORS = MAX_NODES = 8192
MAX_FIELDS = 1 << 18
MAX_OTHER_BYTES = 4 << 20  # of all that is read and not numbers: names, shapes, attributes
MAX_NAME_BYTES = 4096
MAX_LINKS = 256  # inputs, outputs or attributes of a node
MIN_OPSET, MAX_OPSET = 11, 28
_IR_VERSION = 10  # of what is handed to a runtime: old enough for any of the last years

# The fields that are read, by the names and numbers of onnx.proto, and of what kind they are if they hold messages.
_READ: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 8: ""},  # graph, opset_import
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 11: "", 12: "", 15: ""},  # …, input, output, sparse_initializer
    "NodeProto": {1: "", 2: "", 3: "", 4: "", 5: "AttributeProto", 7: ""},  # input, output, name, op_type, …, domain
    "AttributeProto": {1: "", 2: "", 3: "", 4: "", 5: "TensorProto", 7: "", 8: "", 20: ""},  # name, f, i, s, …, type
    "TensorProto": dict.fromkeys((1, 2, 4, 5, 7, 8, 9, 10, 11, 13, 14), ""),  # all but segments and documentation
}
_NUMBERS = (4, 5, 7, 9, 10, 11)  # float_data, int32_data, int64_data, raw_data, double_data, uint64_data
_MAIN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Port:
    """An input or output of the file. A symbolic size is None; `shape` is None where the file gives none."""

    name: str
    dtype: str  # "float32", "int8", …
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, eq=False)
class FileNode:
    """A node; its attributes are ints, floats, texts, tuples of them, or arrays."""

    op: str
    domain: str  # "" for ONNX's own operators
    name: str
    inputs: tuple[str, ...]  # "": left out
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class OnnxContent:
    """The graph of a file: `constants` are its initializers, `inputs` those that are none of them."""

    opset: int
    nodes: tuple[FileNode, ...]
    constants: Mapping[str, Array]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_onnx(data: bytes, where: str, folder: Path | None = None) -> OnnxContent:
    """Raises `ModelError`, which names `where`, for anything but a whole ONNX file of opset 11 or later.

    Numbers kept outside of the file are read from `folder` only (None: from nowhere).
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as e:
        raise ModelError("Reading ONNX files takes the package 'onnx'.", "Run: pip install 'thumbnet[onnx]'.") from e
    if len(data) > MAX_FILE_BYTES:
        raise ModelError(f"{where} has {len(data)} bytes, more than any model for a microcontroller.")
    try:
        model = onnx.ModelProto()
        model.ParseFromString(_read_parts(memoryview(data), "ModelProto", _Budget()))
        return _content(model, where, External(folder, where, MAX_FILE_BYTES))
    except (DecodeError, IndexError, UnicodeDecodeError, ValueError, OverflowError) as e:
        raise ModelError(
            f"{where} is no ONNX file, or a damaged one ({_first_line(e)}).", "Copy or export the model again."
        ) from e


def standalone(data: bytes, where: str, folder: Path | None = None) -> bytes:
    """A file that `read_onnx` has accepted, as one for a runtime: what was read of it, and numbers from other files
    in it. Nothing else of the file reaches the runtime, and it opens no other file.
    """
    import onnx

    model = onnx.ModelProto()
    model.ParseFromString(_read_parts(memoryview(data), "ModelProto", _Budget()))
    external = External(folder, where, MAX_FILE_BYTES)
    attributes = (a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))
    for t in (*model.graph.initializer, *attributes):
        if t.data_location == onnx.TensorProto.EXTERNAL:
            values = constant(t, external)
            t.CopyFrom(onnx.numpy_helper.from_array(values, t.name))  # which clears it first
    model.ir_version = _IR_VERSION
    if not model.graph.name:
        model.graph.name = "network"
    return bytes(model.SerializeToString())


def _first_line(e: Exception) -> str:
    return (str(e).splitlines() or [type(e).__name__])[0][:120]


# --- before parsing


@dataclass
class _Budget:
    fields: int = MAX_FIELDS
    other_bytes: int = MAX_OTHER_BYTES


def _read_parts(data: memoryview, kind: str, budget: _Budget) -> bytes:
    """The message without the fields that are not read. Raises `ValueError` above the limits, or for no message."""
    at, read = 0, _READ[kind]
    kept: list[bytes | memoryview] = []
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        number, wire, head = tag >> 3, tag & 7, data[start:at]
        if wire == 0:
            _, at = _varint(data, at)
        elif wire in (1, 2, 5):
            size, at = _varint(data, at) if wire == 2 else (8 if wire == 1 else 4, at)
            if size > len(data) - at:
                raise ValueError("it ends early")
            at += size
        else:
            raise ValueError("fields of an unknown kind")
        budget.fields -= 1
        if wire == 2 and read.get(number):
            inner = _read_parts(data[at - size : at], read[number], budget)
            kept += [head, _as_varint(len(inner)), inner]
        elif number in read:
            kept.append(data[start:at])
            budget.other_bytes -= 0 if kind == "TensorProto" and number in _NUMBERS and wire == 2 else at - start
        if budget.fields < 0 or budget.other_bytes < 0:
            raise ValueError("more parts than any model for a microcontroller has")
    return b"".join(kept)


def _as_varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it."""
    value = 0
    for k in range(10):
        byte = data[at + k]
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, at + k + 1
    raise ValueError("a number without end")


# --- after parsing


def _content(model: Any, where: str, external: External) -> OnnxContent:
    graph = model.graph
    for what, count, limit in (
        ("nodes", len(graph.node), MAX_NODES),
        ("constants", len(graph.initializer), MAX_TENSORS),
        ("inputs and outputs", len(graph.input) + len(graph.output), MAX_TENSORS),
    ):
        if count > limit:
            raise ModelError(f"{where} has {count} {what}; at most {limit} are read.")
    if graph.sparse_initializer:
        raise ModelError(f"{where} stores constants sparsely.", "Export it without sparse storage.")
    if not graph.node:
        raise ValueError("it holds no nodes")
    opset = _opset(model, where)
    constants = {_named(t.name): constant(t, external) for t in graph.initializer}
    nodes = tuple(_node(n, opset, external) for n in graph.node)
    inputs = tuple(_port(v) for v in graph.input if v.name not in constants)
    return OnnxContent(opset, nodes, constants, inputs, tuple(_port(v) for v in graph.output))


def _opset(model: Any, where: str) -> int:
    versions = [int(v.version) for v in model.opset_import if v.domain in _MAIN_DOMAINS]
    if len(versions) != 1:
        raise ValueError("it does not say which opset it uses")
    if not MIN_OPSET <= versions[0] <= MAX_OPSET:
        raise ModelError(
            f"{where} uses opset {versions[0]}; {MIN_OPSET} to {MAX_OPSET} are read.",
            "Export it again, for opset 17 say.",
        )
    return versions[0]


def _named(name: str | bytes) -> str:
    made = text(name)
    if not made or len(made) > MAX_NAME_BYTES:
        raise ValueError(f"a name of {len(made)} characters")
    return made


def _port(value: Any) -> Port:
    kind = value.type.tensor_type
    dtype = DTYPES.get(kind.elem_type, f"of type {kind.elem_type}")
    if not kind.HasField("shape"):
        return Port(_named(value.name), dtype, None)
    if len(kind.shape.dim) > MAX_RANK:
        raise ValueError(f"an input of {len(kind.shape.dim)} axes")
    # exporters write symbolic sizes as a name, as nothing, as 0 or as −1
    sizes = (int(d.dim_value) if d.HasField("dim_value") else 0 for d in kind.shape.dim)
    return Port(_named(value.name), dtype, tuple(s if s > 0 else None for s in sizes))


def _node(node: Any, opset: int, external: External) -> FileNode:
    if max(len(node.input), len(node.output), len(node.attribute)) > MAX_LINKS:
        raise ValueError("a node of too many parts")
    inputs, outputs = tuple(map(text, node.input)), tuple(map(text, node.output))
    op, name = _named(node.op_type), _named(node.name or next(filter(None, outputs), ""))
    domain = "" if node.domain in _MAIN_DOMAINS else text(node.domain)
    attributes = {text(a.name): _attribute(a, external) for a in node.attribute}
    known = None if domain else _known_attributes(op, opset)
    if known is not None and not known.issuperset(attributes):
        other = min(set(attributes) - known)
        raise ValueError(f"a node '{name[:80]}' ({op[:80]}) with the attribute '{other[:80]}'")
    return FileNode(op, domain, name, inputs, outputs, attributes)


@lru_cache(maxsize=256)
def _known_attributes(op: str, opset: int) -> frozenset[str] | None:
    """The attributes that ONNX gives to an operator; None if it has no such operator."""
    import onnx

    try:
        return frozenset(onnx.defs.get_schema(op, opset).attributes)
    except onnx.defs.SchemaError:
        return None


def _attribute(a: Any, external: External) -> Any:
    """None for the kinds that no operator here has, such as subgraphs."""
    import onnx

    kinds = onnx.AttributeProto
    if a.type == kinds.FLOAT:
        return float(a.f)
    if a.type == kinds.INT:
        return int(a.i)
    if a.type == kinds.STRING:
        return bytes(a.s)[:MAX_NAME_BYTES].decode("utf-8", errors="replace")
    if a.type == kinds.INTS:
        return tuple(int(v) for v in a.ints)
    if a.type == kinds.FLOATS:
        return tuple(float(v) for v in a.floats)
    if a.type == kinds.TENSOR:
        return constant(a.t, external)
    return None
