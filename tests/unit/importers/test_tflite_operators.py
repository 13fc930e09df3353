"""Operators of TFLite files as our exporter does not write them: TFLM's bytes, or a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_files import Model

from thumbnet.errors import ModelError, ThumbnetError, UnsupportedOpError
from thumbnet.exporters.tflite import run_tflm
from thumbnet.importers.tflite import NEAREST, SUPPORTED, TfliteModel, import_tflite
from thumbnet.importers.tflite_table import operators_page
from thumbnet.integer.passes import lossless, validate
from thumbnet.integer.simulate import run

pytest.importorskip("tflite_micro", reason="tflite-micro has wheels for Linux only")

ROOT = Path(__file__).parents[3]


def assert_equals_tflm(data: bytes) -> TfliteModel:
    """The graph gives what TFLM gives for the file; and so do lossless passes on it."""
    model = import_tflite(data)
    graph = model.graph
    validate(graph)
    shape = graph.tensors[graph.inputs[0]].shape
    x = np.random.default_rng(1).integers(-128, 128, (4, *shape)).astype(np.int8)
    x[1], x[2] = -128, 127
    given = run_tflm(data, model.original_inputs(x), isolated=False)
    expected = given if isinstance(given, tuple) else (given,)
    for ig in (graph, lossless(graph)):
        got = run(ig, x)
        flat = np.concatenate([got[v].reshape(len(x), -1) for v in ig.outputs], axis=1)
        np.testing.assert_array_equal(flat, model.stored_outputs(*expected))
    return model


def split(m: Model) -> None:
    parts = [m.tensor(f"y{k}", 1, 4, 5, 2) for k in range(3)]
    m.operator("SPLIT", [m.constant("axis", [-1]), m.x], parts, "SplitOptions", numSplits=3)


def split_v(m: Model) -> None:
    parts = [m.tensor(f"y{k}", 1, n, 5, 6) for k, n in enumerate((1, 2, 1))]
    inputs = [m.x, m.constant("sizes", [1, -1, 1]), m.constant("axis", [1])]
    m.operator("SPLIT_V", inputs, parts, "SplitVOptions", numSplits=3)


def unpack(m: Model) -> None:
    parts = [m.tensor(f"y{k}", 1, 4, 6) for k in range(5)]
    m.operator("UNPACK", [m.x], parts, "UnpackOptions", num=5, axis=2)


def pack_of(rank: int, axis: int) -> Callable[[Model], None]:
    def build(m: Model) -> None:
        shape = {2: [1, 120], 3: [1, 20, 6], 4: [1, 4, 5, 6]}[rank]
        flat = m.tensor("flat", *shape)
        m.operator("RESHAPE", [m.x, m.constant("shape", shape)], [flat], "ReshapeOptions", newShape=shape)
        y = m.tensor("y", *shape[:axis], 2, *shape[axis:])
        m.operator("PACK", [flat, flat], [y], "PackOptions", valuesCount=2, axis=axis)

    return build


def reversed_rows(m: Model) -> None:
    m.operator("REVERSE_V2", [m.x, m.constant("axis", [1])], [m.tensor("y", 1, 4, 5, 6)])


def strided(m: Model) -> None:
    """Every second row from the last one, one column, without its axis."""
    constants = [m.constant(k, v) for k, v in (("b", [0, -1, 2, 0]), ("e", [1, 0, 9, 0]), ("s", [1, -2, 1, 1]))]
    masks = {"endMask": 0b1010, "shrinkAxisMask": 0b0100}
    m.operator("STRIDED_SLICE", [m.x, *constants], [m.tensor("y", 1, 2, 6)], "StridedSliceOptions", **masks)


def swapped_batch(m: Model) -> None:
    """An axis of size 1 in front, but not the batch axis."""
    cut = m.tensor("cut", 1, 1, 5, 6)
    m.operator("SLICE", [m.x, m.constant("b", [0] * 4), m.constant("n", [1, 1, 5, 6])], [cut], "SliceOptions")
    m.operator("TRANSPOSE", [cut, m.constant("perm", [1, 3, 0, 2])], [m.tensor("y", 1, 6, 1, 5)])


def shuffled_channels(m: Model) -> None:
    """ShuffleNet's: five axes on the way."""
    a, b, y = m.tensor("a", 1, 4, 5, 2, 3), m.tensor("b", 1, 4, 5, 3, 2), m.tensor("y", 1, 4, 5, 6)
    m.operator("RESHAPE", [m.x, m.constant("s", [1, 4, 5, 2, 3])], [a])
    m.operator("TRANSPOSE", [a, m.constant("perm", [0, 1, 2, 4, 3])], [b])
    m.operator("RESHAPE", [b, m.constant("t", [1, 4, 5, 6])], [y])


def padded_vector(m: Model) -> None:
    flat = m.tensor("flat", 1, 120)
    m.operator("RESHAPE", [m.x, m.constant("shape", [1, 120])], [flat])
    m.operator("PAD", [flat, m.constant("p", [[0, 0], [3, 4]])], [m.tensor("y", 1, 127)], "PadOptions")


def dense_images(m: Model) -> None:
    """Four axes in and out, a scale for each channel, no bias."""
    options = {"keepNumDims": True, "fusedActivationFunction": schema.ActivationFunctionType.RELU}
    y = m.tensor("y", 1, 4, 5, 7, scale=0.1)
    m.operator("FULLY_CONNECTED", [m.x, m.weights(7, 6), -1], [y], "FullyConnectedOptions", **options)


def transposed(kernel: int, stride: int, bias: bool) -> Callable[[Model], None]:
    def build(m: Model) -> None:
        size = m.constant("size", [1, 4 * stride, 5 * stride, 3])
        inputs = [size, m.weights(3, kernel, kernel, 6), m.x]
        if bias:
            inputs.append(m.constant("bias", [100, -2000, 30000]))
        y = m.tensor("y", 1, 4 * stride, 5 * stride, 3, scale=0.1)
        options = {"padding": schema.Padding.SAME, "strideH": stride, "strideW": stride}
        m.operator("TRANSPOSE_CONV", inputs, [y], "TransposeConvOptions", **options)

    return build


def grouped(m: Model) -> None:
    options = {"strideH": 1, "strideW": 2, "dilationHFactor": 2, "dilationWFactor": 1, "padding": schema.Padding.SAME}
    inputs = [m.x, m.weights(9, 3, 3, 2), m.constant("bias", np.arange(9) * 100)]
    m.operator("CONV_2D", inputs, [m.tensor("y", 1, 4, 3, 9, scale=0.1)], "Conv2DOptions", **options)


def with_constant(op: str, shape: Sequence[int], first: bool = False) -> Callable[[Model], None]:
    """`shape` is the constant's, as it stands in the file."""

    def build(m: Model) -> None:
        same = op in ("MAXIMUM", "MINIMUM")
        quantization = {"scales": [0.05 if same else 0.02], "zero_point": -3 if same else 7}
        constant = m.constant("c", m.rng.integers(-128, 128, shape), **quantization)
        options = {"PRELU": "", "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions"}
        table = options.get(op, f"{op.capitalize()}Options")
        y = m.tensor("y", 1, 4, 5, 6, scale=0.05)
        m.operator(op, [constant, m.x] if first else [m.x, constant], [y], table)

    return build


def reduced(op: str, axes: Sequence[int], *shape: int) -> Callable[[Model], None]:
    def build(m: Model) -> None:
        y = m.tensor("y", *shape, scale=0.05 if op.startswith("REDUCE") else 0.2)
        m.operator(op, [m.x, m.constant("axes", axes)], [y], "ReducerOptions")

    return build


def float_ends(m: Model) -> None:
    """The usual output of the converter: float32 outside, int8 inside."""
    inner, outer, z = m.tensor("q", 1, 4, 5, 6), m.tensor("r", 1, 4, 5, 6), m.tensor("z", 1, 4, 5, 6)
    m.retype(m.x, "FLOAT32")
    m.retype(z, "FLOAT32")
    m.operator("QUANTIZE", [m.x], [inner])
    m.operator("RELU", [inner], [outer])
    m.operator("DEQUANTIZE", [outer], [z])


FILES: dict[str, Callable[[Model], None]] = {
    "split": split,
    "split_v": split_v,
    "unpack": unpack,
    **{f"pack {rank} axes along {axis}": pack_of(rank, axis) for rank in (2, 3, 4) for axis in range(1, rank + 1)},
    "reverse": reversed_rows,
    "strided slice": strided,
    "transpose with another batch axis": swapped_batch,
    "channel shuffle": shuffled_channels,
    "pad of a vector": padded_vector,
    "dense on images": dense_images,
    **{
        f"transposed {k}x{k}/{s}{'+bias' * b}": transposed(k, s, b)
        for k in (1, 2, 3, 4)
        for s in (1, 2)
        for b in (0, 1)
    },
    "grouped": grouped,
    **{
        f"{op} with {shape}{' first' * first}": with_constant(op, shape, first)
        for op in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "PRELU")
        for shape in ([], [1], [6], [1, 1, 1, 6], [1, 4, 5, 1], [4, 5, 6], [1, 4, 5, 6], [5, 1])
        for first in (False, True)
        if not (first and op == "PRELU")
    },
    "mean over channels": reduced("MEAN", [3], 1, 4, 5),
    "mean over the height": reduced("MEAN", [-3], 1, 5, 6),
    "mean over the width": reduced("MEAN", [2], 1, 4, 6),
    "mean over the image": reduced("MEAN", [1, 2], 1, 6),
    "mean over everything": reduced("MEAN", [1, 2, 3], 1),
    "sum": reduced("SUM", [2, 1], 1, 6),
    "largest channel": reduced("REDUCE_MAX", [3], 1, 4, 5),
    "smallest pixel": reduced("REDUCE_MIN", [1, 2], 1, 6),
    "float ends": float_ends,
}


@pytest.mark.parametrize("name", FILES)
def test_operators_of_other_files(name: str) -> None:
    m = Model(1, 4, 5, 6)
    FILES[name](m)
    assert_equals_tflm(m.bytes())


def test_relu_between_minus_one_and_one() -> None:
    """TFLM has none; the rounding is that of QUANTIZE, the bounds are those of the real numbers."""
    m = Model(1, 256)
    m.operator("RELU_N1_TO_1", [m.x], [m.tensor("y", 1, 256, scale=0.04, zero_point=5)])
    graph = import_tflite(m.bytes()).graph
    stored = np.arange(-128, 128).astype(np.int8)[None]
    y = run(graph, stored)[graph.outputs[0]]
    real = np.clip((stored.astype(float) + 3) * 0.05, -1, 1)
    np.testing.assert_allclose((y.astype(float) - 5) * 0.04, real, atol=0.0201)
    assert (y.min(), y.max()) == (5 - 25, 5 + 25)


def pairs(op: str, *shapes: Sequence[int]) -> Callable[[Model], None]:
    def build(m: Model) -> None:
        parts = []
        for k, shape in enumerate(shapes):
            begin, size = m.constant(f"b{k}", [0] * 4), m.constant(f"n{k}", shape)
            parts.append(m.tensor(f"p{k}", *shape))
            m.operator("SLICE", [m.x, begin, size], [parts[-1]], "SliceOptions")
        m.operator(op, parts, [m.tensor("y", 1, 4, 5, 6)], f"{op.capitalize()}Options")

    return build


def dequantized_inside(m: Model) -> None:
    y, z = m.tensor("y", 1, 4, 5, 6), m.tensor("z", 1, 4, 5, 6)
    m.retype(y, "FLOAT32")
    m.operator("DEQUANTIZE", [m.x], [y])
    m.operator("QUANTIZE", [y], [z])


def reduced_apart(m: Model) -> None:
    m.operator("MEAN", [m.x, m.constant("axes", [1, 3])], [m.tensor("y", 1, 5)], "ReducerOptions")


def beyond(m: Model) -> None:
    """Rounded steps that lead interpolation beyond a single row."""
    cut, y = m.tensor("cut", 1, 1, 1, 6), m.tensor("y", 1, 600, 600, 6)
    m.operator("SLICE", [m.x, m.constant("b", [0] * 4), m.constant("n", [1, 1, 1, 6])], [cut], "SliceOptions")
    m.operator("RESIZE_BILINEAR", [cut, m.constant("size", [600, 600])], [y], "ResizeBilinearOptions")


REFUSED: dict[str, tuple[Callable[[Model], None], str]] = {
    "operands that both repeat": (pairs("ADD", [1, 4, 1, 6], [1, 1, 5, 6]), "one number for all"),
    "an operand by row and channel": (pairs("MUL", [1, 4, 5, 6], [1, 4, 1, 6]), "one number for all"),
    "floats inside": (dequantized_inside, "where the model ends"),
    "axes apart": (reduced_apart, "must adjoin"),
    "interpolation beyond the image": (beyond, "beyond the image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str) -> None:
    build, message = REFUSED[name]
    m = Model(1, 4, 5, 6)
    build(m)
    with pytest.raises(UnsupportedOpError, match=message):
        import_tflite(m.bytes())


@pytest.mark.parametrize("op", sorted(NEAREST))
def test_unsupported_operators_name_what_to_do(op: str) -> None:
    m = Model(1, 4, 5, 6)
    m.operator(op, [m.x], [m.tensor("y", 1, 4, 5, 6)])
    with pytest.raises(UnsupportedOpError, match=op) as e:
        import_tflite(m.bytes())
    assert NEAREST[op] in str(e.value)


def test_files_of_old_converters_are_refused_as_a_whole() -> None:
    m = Model(1, 4, 5, 6)
    m.operator("RELU", [m.x], [y := m.tensor("y", 1, 4, 5, 6)])
    m.retype(m.x, "UINT8")
    m.retype(y, "UINT8")
    with pytest.raises(ModelError, match="not quantized to int8: its tensors are uint8"):
        import_tflite(m.bytes())


def test_damaged_files_never_give_another_error() -> None:
    """Numbers changed at random: an error of ours, or a model that can be computed."""
    rng, models = np.random.default_rng(0), 0
    for build in FILES.values():
        m = Model(1, 4, 5, 6)
        build(m)
        content = m.bytes()
        for _ in range(12):
            damaged = bytearray(content)
            for at in rng.integers(0, len(content), int(rng.integers(1, 5))):
                damaged[at] = int(rng.choice([0, 1, 2, 255, rng.integers(0, 256)]))
            try:
                graph = import_tflite(bytes(damaged)).graph
            except ThumbnetError:
                continue
            validate(graph)
            models += 1
            run(graph, {v: np.zeros((1, *graph.tensors[v].shape), np.int8) for v in graph.inputs})
    assert models > 100


def test_the_page_of_operators_is_that_of_the_importer() -> None:
    """Written by `python -m thumbnet.importers.tflite_table > docs/operators.md`."""
    assert (ROOT / "docs" / "operators.md").read_text() == operators_page()
    assert not set(SUPPORTED) & set(NEAREST)
