"""ONNX files from strangers: an error that says so, or a right import; never another exception, never much memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the reference for ONNX models")

import onnx
from onnx_cases import Network, compared, runtime

from thumbnet.errors import ModelError, ThumbnetError
from thumbnet.importers.onnx_reader import MAX_FIELDS, MAX_OTHER_BYTES, read_onnx
from thumbnet.importers.qdq import import_qdq
from thumbnet.integer import simulate


def network() -> onnx.ModelProto:
    """A convolution, a depthwise one, a residual, pools, a concat, a slice, a resize, a dense layer, a softmax."""
    n = Network(["batch", 3, 8, 8])
    x = n.quantized("x", (0.02, 128))

    def conv(y: str, inputs: int, groups: int, **more: Any) -> str:
        values = n.rng.integers(-127, 128, (8, inputs // groups, 3, 3))
        weight = n.weights(values, n.rng.uniform(0.001, 0.003, 8), 0)
        return str(n.op("Conv", y, weight, n.normal(8), group=groups, pads=[1] * 4, **more))

    y = n.quantized(n.op("Clip", conv(x, 3, 1, strides=[2, 2]), np.float32(0), np.float32(6)), (0.02, 0))
    z = n.quantized(n.op("HardSwish", n.quantized(conv(y, 8, 8), (0.05, 100))), (0.03, 20))
    y = n.quantized(n.op("Add", y, z), (0.04, 20))
    pools = [n.op(k, y, kernel_shape=[2, 2], strides=[2, 2]) for k in ("MaxPool", "AveragePool")]
    y = n.quantized(n.op("Concat", *pools, axis=1), (0.03, 20))
    y = n.op("Slice", y, np.array([2]), np.array([14]), np.array([1]))
    y = n.quantized(n.op("Resize", y, "", np.float32([1, 1, 2, 2]), mode="nearest"), (0.03, 20))
    y = n.quantized(n.op("Reshape", n.op("GlobalAveragePool", y), np.array([-1, 12])), (0.02, 10))
    weight = n.weights(n.rng.integers(-127, 128, (5, 12)), np.float32(0.004), 0)
    y = n.quantized(n.op("Gemm", y, weight, n.normal(5), transB=1), (0.04, 128))
    n.quantized(n.op("Softmax", y), (1 / 256, 0))
    return n.model()


@pytest.fixture(scope="module")
def data() -> bytes:
    return bytes(network().SerializeToString())


def test_the_network_imports(data: bytes) -> None:
    imported, (off,) = compared(data)
    assert off.max() <= 2
    assert import_qdq(data).graph.digest == imported.graph.digest


def test_every_truncation_is_refused_or_whole(data: bytes) -> None:
    for end in range(0, len(data), 7):
        with pytest.raises(ModelError):
            import_qdq(data[:end])


def test_flipped_bits_give_an_error_or_the_model_that_onnx_runtime_reads(data: bytes) -> None:
    rng = np.random.default_rng(0)
    right = 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            imported = import_qdq(bytes(damaged))
        except ThumbnetError:
            continue
        try:
            run = runtime(bytes(damaged))
        except Exception:  # its exceptions have no common base; what it refuses is no model to compare with
            continue
        (port,), (out,) = imported.inputs, imported.outputs
        stored = rng.integers(-128, 128, (2, *port.tensor.shape)).astype(np.int8)
        off = np.abs(
            out.stored(run(port.original(stored))[0]).astype(int)
            - simulate.run(imported.graph, stored)[out.tensor.name]
        )
        assert off.max() <= 3
        right += 1
    assert right > 20


def test_bytes_of_another_kind_are_no_model() -> None:
    for other in (b"", b"PK\x03\x04 a zip", b"\x89PNG\r\n\x1a\n" + bytes(64), b"hello" * 100, bytes(1000)):
        with pytest.raises(ModelError, match="no ONNX file"):
            import_qdq(other)


def test_names_that_are_no_text_are_refused(data: bytes) -> None:
    for name in (b"Conv", b"x", b"strides"):
        with pytest.raises(ModelError):
            import_qdq(data.replace(name, bytes([name[0] | 0x80]) + name[1:]))


# --- sizes


def message(number: int, content: bytes) -> bytes:
    """A field that holds a message."""
    size, head = len(content), bytes([number << 3 | 2])
    while size >= 128:
        head += bytes([size & 127 | 128])
        size >>= 7
    return head + bytes([size]) + content


@pytest.mark.parametrize("fields", [bytes([1 << 3 | 2, 0]) * (MAX_FIELDS + 1), message(11, bytes(MAX_OTHER_BYTES + 1))])
def test_files_of_a_million_small_parts_are_refused_before_they_are_parsed(
    fields: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx.ModelProto, "ParseFromString", None)
    with pytest.raises(ModelError, match="more parts"):
        read_onnx(message(7, fields), "big.onnx")


def test_what_is_not_read_may_be_large(data: bytes) -> None:
    documentation = message(6, b"stack trace " * (MAX_OTHER_BYTES // 8))
    node = onnx.NodeProto(op_type="Identity", input=["x"], output=["unused"]).SerializeToString() + documentation
    imported = import_qdq(data + message(7, message(1, node)))
    assert imported.graph.digest == import_qdq(data).graph.digest


def edited(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = network()
    change(model)
    return bytes(model.SerializeToString())


def first(model: onnx.ModelProto, wanted: int = 4) -> onnx.TensorProto:
    """Its first constant with as many axes."""
    return next(t for t in model.graph.initializer if len(t.dims) == wanted)


@pytest.mark.parametrize(
    "dims", [[8, 3, 3, 4], [8, 3, 3], [1 << 40], [-1, 3, 3, 3], [1 << 31, 1 << 31, 1 << 31], [2] * 9], ids=str
)
def test_a_constant_must_hold_what_its_shape_says(dims: list[int]) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = first(model)
        del tensor.dims[:]
        tensor.dims.extend(dims)

    with pytest.raises(ModelError):
        import_qdq(edited(change))


def test_typed_fields_are_counted_and_bounded() -> None:
    def typed(values: list[int]) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            tensor = first(model)
            tensor.ClearField("raw_data")
            tensor.int32_data.extend(values)

        return change

    import_qdq(edited(typed([1] * 216)))
    for values in ([1] * 215, [300] * 216):
        with pytest.raises(ModelError):
            import_qdq(edited(typed(values)))


# --- other files


def outside(location: str, folder: Path, length: int = 216, offset: int = 0) -> Path:
    """The model, its first weights in another file."""

    def change(model: onnx.ModelProto) -> None:
        tensor = first(model)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))

    path = folder / "model.onnx"
    path.write_bytes(edited(change))
    return path


def test_numbers_may_lie_in_a_file_beside_the_model(tmp_path: Path) -> None:
    weights = first(network()).raw_data
    (tmp_path / "weights.bin").write_bytes(b"head" + weights)
    model = import_qdq(outside("weights.bin", tmp_path, offset=4))
    assert model.graph.digest == import_qdq(bytes(network().SerializeToString()), name="model").graph.digest


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "link", "", "nothing", ".", "a/../../secret", "..\\secret"]
)
def test_numbers_are_read_from_nowhere_else(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(216))
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="beside the model only"):
        import_qdq(outside(location, folder))


def test_other_lengths_and_models_without_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    for length in (216, 100, -1):
        with pytest.raises(ModelError):
            import_qdq(outside("weights.bin", tmp_path, length))
    with pytest.raises(ModelError, match="beside the model only"):
        import_qdq(outside("weights.bin", tmp_path).read_bytes())


# --- the package


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install 'thumbnet\[onnx\]'"):
        import_qdq(data)


def test_opsets_out_of_range_are_refused() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 9

    with pytest.raises(ModelError, match="opset 9; 11 to"):
        import_qdq(edited(change))


def test_attributes_that_the_operator_does_not_have_are_refused() -> None:
    def change(model: onnx.ModelProto) -> None:
        conv = next(node for node in model.graph.node if node.op_type == "Conv")
        next(a for a in conv.attribute if a.name == "strides").name = "stride5"

    with pytest.raises(ModelError, match="attribute 'stride5'"):
        import_qdq(edited(change))
