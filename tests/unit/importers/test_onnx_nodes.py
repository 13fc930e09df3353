"""Each operation of float ONNX files by itself, against ONNX Runtime: `import_onnx` refuses what differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra 'onnx'")
pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

from onnx_cases import Network

from thumbnet.importers.imported import Imported
from thumbnet.importers.onnx import check_onnx, import_onnx

IMAGE, SIGNAL, VECTOR = ("N", 4, 6, 8), ("N", 4, 9), ("N", 12)
I64 = np.int64


def imported(tmp_path: Path, net: Network, *outputs: str) -> Imported:
    path = tmp_path / "net.onnx"
    path.write_bytes(net.model(*outputs).SerializeToString())
    made = import_onnx(path)
    assert made.check is not None
    assert made.max_difference <= made.tolerance
    assert all(r.state == "supported" for r in check_onnx(path))
    return made


Case = tuple[str, tuple[Any, ...], int, Callable[[Network], Any], tuple[str, ...] | None]
CASES: list[Case] = []


def case(
    name: str, build: Callable[[Network], Any], shape: tuple[Any, ...] = IMAGE, opset: int = 17, *ops: str
) -> None:
    """`ops`: the operations of the graph, where they are worth telling."""
    CASES.append((name, shape, opset, build, ops or None))


# --- convolutions and dense layers

for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1]):
    case(f"conv_{pads}", lambda n, p=pads: n.conv("x", 4, 5, 3, 3, pads=p, strides=[2, 1]), IMAGE, 17, "conv2d")
for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
    case(f"conv_{auto}", lambda n, a=auto: n.conv("x", 4, 5, 3, 2, auto_pad=a, strides=[2, 2]), IMAGE)
    case(f"pool_{auto}", lambda n, a=auto: n.op("MaxPool", "x", kernel_shape=[3, 2], auto_pad=a, strides=[2, 2]))
    case(f"mean_{auto}", lambda n, a=auto: n.op("AveragePool", "x", kernel_shape=[3, 2], auto_pad=a, strides=[2, 2]))
case("conv_grouped", lambda n: n.conv("x", 4, 6, 3, 3, groups=2))
case("conv_depthwise", lambda n: n.conv("x", 4, 8, 3, 3, groups=4), IMAGE, 11, "depthwise_conv2d")
case("conv_dilated", lambda n: n.conv("x", 4, 5, 3, 3, dilations=[2, 1], pads=[2, 1, 2, 1]))
case("conv_no_bias", lambda n: n.op("Conv", "x", n.normal(3, 4, 1, 1)))
case("conv_1d", lambda n: n.conv("x", 4, 5, 3, pads=[2, 0], strides=[2], dilations=[2]), SIGNAL, 17, "conv2d")
case("conv_1d_depthwise", lambda n: n.conv("x", 4, 4, 3, groups=4, auto_pad="SAME_UPPER"), SIGNAL)


def transposed(n: Network, kernel: tuple[int, ...], **attributes: Any) -> Any:
    return n.op("ConvTranspose", "x", n.normal(4, 3, *kernel, scale=0.3), n.normal(3), **attributes)


case("convt", lambda n: transposed(n, (2, 2), strides=[2, 2]), IMAGE, 17, "conv_transpose2d")
case("convt_pads", lambda n: transposed(n, (3, 4), strides=[2, 3], pads=[1, 0, 0, 2]))
case("convt_added", lambda n: transposed(n, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]))
case("convt_beyond", lambda n: transposed(n, (2, 2), strides=[3, 3], output_padding=[1, 2]))
case("convt_upper", lambda n: transposed(n, (3, 4), strides=[2, 3], auto_pad="SAME_UPPER"))
case("convt_lower", lambda n: transposed(n, (3, 4), strides=[2, 3], auto_pad="SAME_LOWER"))
case("convt_sized", lambda n: transposed(n, (3, 3), strides=[2, 2], output_shape=[12, 16]))
case("convt_1d", lambda n: transposed(n, (4,), strides=[2], pads=[1, 0]), SIGNAL)

case("gemm", lambda n: n.dense("x", 12, 5), VECTOR, 11, "dense")
case("gemm_scaled", lambda n: n.op("Gemm", "x", n.normal(12, 5), n.normal(1, 5), alpha=0.5, beta=2.0), VECTOR)
case("gemm_scalar", lambda n: n.op("Gemm", "x", n.normal(12, 5), np.float32(0.5)), VECTOR)
case("gemm_no_bias", lambda n: n.op("Gemm", "x", n.normal(5, 12), transB=1), VECTOR)
case("gemm_plus", lambda n: n.op("Gemm", "x", n.normal(5, 12), n.dense("x", 12, 5), transB=1), VECTOR)
case("matmul", lambda n: n.op("Add", n.op("MatMul", "x", n.normal(12, 5)), n.normal(5)), VECTOR)
case("matmul_rows", lambda n: n.op("MatMul", "x", n.normal(9, 5)), SIGNAL)
case("matmul_image", lambda n: n.op("MatMul", "x", n.normal(8, 5)))
case("matmul_left", lambda n: n.op("MatMul", n.normal(5, 4), "x"), SIGNAL)
case("matmul_left_image", lambda n: n.op("MatMul", n.normal(1, 5, 6), "x"))


def norm(n: Network, count: int = 4, **attributes: Any) -> Any:
    numbers = n.normal(count), n.normal(count), n.normal(count), n.rng.uniform(0.5, 2, count).astype(np.float32)
    return n.op("BatchNormalization", "x", *numbers, **attributes)


case("norm", lambda n: norm(n, epsilon=0.01), IMAGE, 13, "batch_norm")
case("norm_1d", norm, SIGNAL)
case("norm_vector", lambda n: norm(n, 12), VECTOR)

# --- functions

for op in ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "LeakyRelu", "Elu", "HardSigmoid", "Identity", "Dropout"):
    case(
        op,
        lambda n, op=op: n.op("Relu", n.op(op, n.op("Neg", "x"))) if op == "Identity" else n.op(op, n.op("Neg", "x")),
    )
case("HardSwish", lambda n: n.op("HardSwish", "x"), IMAGE, 14, "hard_swish")
case("Swish", lambda n: n.op("Swish", "x"), IMAGE, 24, "silu")
case("leaky", lambda n: n.op("LeakyRelu", "x", alpha=0.3))
case("sigmoid_hard", lambda n: n.op("HardSigmoid", "x", alpha=1 / 6, beta=0.5), IMAGE, 11, "hard_sigmoid")
case("sigmoid_other", lambda n: n.op("HardSigmoid", "x", alpha=0.3, beta=0.4))
case("prelu", lambda n: n.op("PRelu", "x", n.normal(4, 1, 1)), IMAGE, 11, "prelu")
case("prelu_one", lambda n: n.op("PRelu", "x", n.normal(1)), SIGNAL)
case("prelu_vector", lambda n: n.op("PRelu", "x", n.normal(12)), VECTOR)
case("clip6", lambda n: n.op("Clip", "x", np.float32(0), np.float32(6)), IMAGE, 11, "relu6")
case("clip_low", lambda n: n.op("Clip", "x", np.float32(0)), IMAGE, 13, "relu")
case("clip_both", lambda n: n.op("Clip", "x", np.float32(-1), np.float32(0.5)), IMAGE, 13, "clip")
case("clip_high", lambda n: n.op("Clip", n.op("Relu", "x"), "", np.float32(6)), IMAGE, 13, "relu", "relu6")
case("silu", lambda n: n.op("Mul", "x", n.op("Sigmoid", "x")), IMAGE, 13, "silu")
case("square", lambda n: n.op("Pow", "x", np.float32(2)), IMAGE, 13, "mul")


def six(n: Network) -> Any:
    return n.op("Clip", n.op("Add", "x", np.float32(3)), np.float32(0), np.float32(6))


sixth = np.float32(1 / 6)
case("hard_sigmoid_spelled", lambda n: n.op("Mul", six(n), sixth), IMAGE, 13, "hard_sigmoid")
case("hard_sigmoid_divided", lambda n: n.op("Div", six(n), np.float32(6)), IMAGE, 13, "hard_sigmoid")
case("hard_swish_spelled", lambda n: n.op("Mul", "x", n.op("Mul", six(n), sixth)), IMAGE, 13, "hard_swish")
case("hard_swish_last", lambda n: n.op("Div", n.op("Mul", "x", six(n)), np.float32(6)), IMAGE, 13, "hard_swish")
for opset in (11, 13):
    for axis in (1, 2, -1):
        case(f"softmax_{opset}_{axis}", lambda n, a=axis: n.op("Softmax", "x", axis=a), IMAGE, opset)
        case(f"softmax_1d_{opset}_{axis}", lambda n, a=axis: n.op("LogSoftmax", "x", axis=a), SIGNAL, opset)
    case(f"softmax_vector_{opset}", lambda n: n.op("Softmax", "x"), VECTOR, opset, "softmax")
    case(f"softmax_default_{opset}", lambda n: n.op("Softmax", "x"), IMAGE, opset)

# --- arithmetic

for op in ("Add", "Sub", "Mul", "Div"):
    case(f"{op}_number", lambda n, op=op: n.op(op, "x", np.float32(1.5)))
    case(f"{op}_channels", lambda n, op=op: n.op(op, "x", n.normal(1, 4, 1, 1) + np.float32(3)))
    case(f"{op}_width", lambda n, op=op: n.op(op, "x", n.normal(8) + np.float32(3)))
    case(f"{op}_vector", lambda n, op=op: n.op(op, "x", n.normal(12) + np.float32(3)), VECTOR)
    if op != "Div":
        case(f"{op}_first", lambda n, op=op: n.op(op, n.normal(4, 1) + np.float32(3), "x"), SIGNAL)
for op in ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"):
    case(f"{op}_two", lambda n, op=op: n.op(op, "x", n.op("Tanh", "x")))
    case(f"{op}_channel", lambda n, op=op: n.op(op, n.op("GlobalAveragePool", "x"), "x"))
    case(f"{op}_signal", lambda n, op=op: n.op(op, n.op("Relu", "x"), n.op("Tanh", "x")), SIGNAL)
case("sum_three", lambda n: n.op("Sum", "x", n.op("Relu", "x"), n.op("Tanh", "x")))
case("mean_three", lambda n: n.op("Mean", "x", n.op("Relu", "x"), n.op("Tanh", "x")), VECTOR)
case("max_number", lambda n: n.op("Min", n.op("Max", "x", np.float32(0)), np.float32(6)), IMAGE, 13, "relu", "relu6")

# --- pools and reductions

for ceil in (0, 1):
    window = {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": ceil}
    case(f"max_{ceil}", lambda n, w=window: n.op("MaxPool", "x", **w))
    case(f"mean_{ceil}", lambda n, w=window: n.op("AveragePool", "x", **w), IMAGE, 19)
case("mean_counted", lambda n: n.op("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 0, 1, 1], count_include_pad=1))
case("mean_whole", lambda n: n.op("AveragePool", "x", kernel_shape=[6, 8]), IMAGE, 11, "global_avg_pool")
case("max_1d", lambda n: n.op("MaxPool", "x", kernel_shape=[3], strides=[2], ceil_mode=1), SIGNAL)
case("mean_1d", lambda n: n.op("AveragePool", "x", kernel_shape=[2], strides=[2], pads=[1, 0]), SIGNAL)
case("global_max", lambda n: n.op("GlobalMaxPool", "x"))
case("global_max_1d", lambda n: n.op("GlobalMaxPool", "x"), SIGNAL)
case("global_mean_1d", lambda n: n.op("GlobalAveragePool", "x"), SIGNAL, 17, "global_avg_pool")
for kind in ("Mean", "Max", "Min"):
    for axes in ((2, 3), (1,), (-1,), (1, 2, 3)):
        case(f"{kind}_{axes}", lambda n, k=kind, a=axes: n.op(f"Reduce{k}", "x", axes=a, keepdims=0), IMAGE, 11)
        if kind == "Mean":
            case(f"sum_{axes}", lambda n, a=axes: n.op("ReduceSum", "x", I64(a), keepdims=1), IMAGE, 13)
case("mean_18", lambda n: n.op("ReduceMean", "x", I64([2, 3]), keepdims=0), IMAGE, 18, "global_avg_pool")
case("mean_signal", lambda n: n.op("ReduceMean", "x", axes=[2]), SIGNAL)
case("max_signal", lambda n: n.op("ReduceMax", "x", axes=[1], keepdims=0), SIGNAL)
case("mean_vector", lambda n: n.op("ReduceMean", "x", axes=[1]), VECTOR)

# --- moving

case("concat", lambda n: n.op("Concat", "x", n.op("Relu", "x"), axis=1), IMAGE, 11)
case("concat_height", lambda n: n.op("Concat", "x", n.op("Relu", "x"), axis=-2))
case("concat_vector", lambda n: n.op("Concat", "x", n.op("Relu", "x"), axis=1), VECTOR)
case("concat_signal", lambda n: n.op("Concat", "x", n.op("Relu", "x"), axis=2), SIGNAL)
case("slice", lambda n: n.op("Slice", "x", I64([1, -3]), I64([3, 1 << 62]), I64([1, 3])))
case("slice_steps", lambda n: n.op("Slice", "x", I64([0, 1]), I64([99, 99]), I64([2, 3]), I64([2, 2])))
case("slice_batch", lambda n: n.op("Slice", "x", I64([0, 1]), I64([(1 << 63) - 1, 3]), I64([0, 1])))
case("slice_vector", lambda n: n.op("Slice", "x", I64([2]), I64([7]), I64([1])), VECTOR)
case("split", lambda n: n.op("Concat", *n.op("Split", "x", axis=1, count=2)[::-1], axis=1), IMAGE, 11)
case("split_sizes", lambda n: n.op("Tanh", n.op("Split", "x", I64([1, 3]), axis=1, count=2)[1]), IMAGE, 13)
case("split_count", lambda n: n.op("Relu", n.op("Split", "x", axis=3, num_outputs=3, count=3)[2]), IMAGE, 18)
case("split_attribute", lambda n: n.op("Relu", n.op("Split", "x", axis=2, split=[2, 7], count=2)[1]), SIGNAL, 11)
case("gather_one", lambda n: n.op("Gather", "x", I64(-1), axis=1))
case("gather_list", lambda n: n.op("Gather", "x", I64([1, 2]), axis=1))
case("gather_order", lambda n: n.op("Gather", "x", I64([2, 3, 0, 1]), axis=1))
case("gather_steps", lambda n: n.op("Gather", "x", I64([1, 3, 5]), axis=3))
case("pad", lambda n: n.op("Pad", "x", I64([0, 0, 1, 2, 0, 0, 0, 3])), IMAGE, 11)
case("pad_channels", lambda n: n.op("Pad", "x", I64([0, 1, 0, 0, 0, 2, 0, 0])), IMAGE, 13)
case("pad_reflect", lambda n: n.op("Pad", "x", I64([0, 0, 1, 2, 0, 0, 0, 3]), mode="reflect"))
case("pad_axes", lambda n: n.op("Pad", "x", I64([1, 2]), "", I64([2])), SIGNAL, 18)
case("transpose", lambda n: n.op("Relu", n.op("Transpose", "x", perm=[0, 2, 3, 1])))
case("transposed_out", lambda n: n.op("Transpose", n.op("Relu", "x"), perm=[0, 3, 1, 2]))
case("transpose_signal", lambda n: n.op("Transpose", n.op("Relu", "x"), perm=[0, 2, 1]), SIGNAL)
case("flatten", lambda n: n.dense(n.op("Flatten", "x"), 192, 3), IMAGE, 11, "flatten", "dense")
case("flatten_last", lambda n: n.dense(n.op("Flatten", n.op("Transpose", "x", perm=[0, 2, 3, 1])), 192, 3))
case("squeeze", lambda n: n.op("Squeeze", n.op("GlobalAveragePool", "x"), axes=[2, 3]), IMAGE, 11)
case("squeeze_13", lambda n: n.op("Squeeze", n.op("GlobalAveragePool", "x"), I64([-1, -2])), IMAGE, 13)
case("squeeze_all", lambda n: n.op("Squeeze", n.op("GlobalAveragePool", "x")), IMAGE, 13)
case("unsqueeze", lambda n: n.conv(n.op("Unsqueeze", "x", axes=[2]), 4, 3, 1, 3), SIGNAL, 11)
case("unsqueeze_13", lambda n: n.conv(n.op("Unsqueeze", "x", I64([-2])), 4, 3, 1, 3), SIGNAL, 13)
for mode in ("DCR", "CRD"):
    case(f"depth_to_space_{mode}", lambda n, m=mode: n.op("DepthToSpace", n.op("Relu", "x"), blocksize=2, mode=m))
case("space_to_depth", lambda n: n.op("SpaceToDepth", n.op("Relu", "x"), blocksize=2))
case("cast", lambda n: n.op("Relu", n.op("Cast", "x", to=1)))
case("expand", lambda n: n.op("Relu", n.op("Expand", "x", I64([1, 4, 1, 8]))))
case("tile", lambda n: n.op("Relu", n.op("Tile", "x", I64([1, 1, 1, 1]))))


def reshaped(n: Network, x: str, dims: Any) -> Any:
    return n.op("Relu", n.op("Reshape", x, I64(dims)))


case("reshape_0", lambda n: reshaped(n, "x", [0, -1]))
case("reshape_first", lambda n: reshaped(n, "x", [-1, 192]))
case("reshape_split", lambda n: reshaped(n, "x", [0, 2, 2, 6, 8]))
case("reshape_torn", lambda n: reshaped(n, n.op("Transpose", "x", perm=[0, 2, 3, 1]), [-1, 16, 12]))


def computed(n: Network) -> Any:
    """As PyTorch writes x.reshape(x.shape[0], -1)."""
    first = n.op("Unsqueeze", n.op("Gather", n.op("Shape", "x"), I64(0), axis=0), I64([0]))
    return n.op("Relu", n.op("Reshape", "x", n.op("Concat", first, I64([-1]), axis=0)))


def sized(n: Network) -> Any:
    """As tf2onnx writes twice the height and width."""
    shape = n.op("Cast", n.op("Slice", n.op("Shape", "x"), I64([2]), I64([4])), to=1)
    double = n.op("Cast", n.op("Mul", shape, np.float32([2, 2])), to=7)
    size = n.op("Concat", n.op("Slice", n.op("Shape", "x"), I64([0]), I64([2])), double, axis=0)
    return n.op("Resize", "x", "", "", size, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def rows(n: Network) -> Any:
    """As tf2onnx writes a dense layer over each step of a signal."""
    flat = n.op("Reshape", n.op("Transpose", "x", perm=[0, 2, 1]), I64([-1, 4]))
    made = n.op("Relu", n.op("Add", n.op("MatMul", flat, n.normal(4, 5)), n.normal(5)))
    back = n.op("Concat", n.op("Slice", n.op("Shape", "x"), I64([0]), I64([1])), I64([9, 5]), axis=0)
    return n.op("Reshape", made, back)


case("reshape_rows", rows, SIGNAL, 13)
case("reshape_computed", computed, IMAGE, 13, "relu", "flatten")
case("resize_computed", sized, IMAGE, 13, "resize")
case("shape_range", lambda n: n.op("Relu", n.op("Reshape", "x", n.op("Shape", "x", start=0))), IMAGE, 15)

# --- resizes

for coordinates in ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"):
    for scales in ((2, 2), (3, 2), (0.5, 0.5)):
        case(
            f"linear_{coordinates}_{scales}",
            lambda n, c=coordinates, s=scales: n.op(
                "Resize", "x", "", np.float32([1, 1, *s]), mode="linear", coordinate_transformation_mode=c
            ),
        )
for coordinates, rounding, scales in (
    ("asymmetric", "floor", (2, 3)),
    ("asymmetric", "floor", (1.5, 0.5)),
    ("half_pixel", "round_prefer_floor", (2, 2)),
    ("half_pixel", "round_prefer_ceil", (2, 3)),
    ("half_pixel", "round_prefer_ceil", (0.5, 0.5)),
    ("align_corners", "round_prefer_ceil", (2, 2)),
    ("asymmetric", "round_prefer_floor", (1, 2)),
):
    case(
        f"nearest_{coordinates}_{rounding}_{scales}",
        lambda n, c=coordinates, r=rounding, s=scales: n.op(
            "Resize", "x", "", np.float32([1, 1, *s]), coordinate_transformation_mode=c, nearest_mode=r
        ),
    )
case("resize_sizes", lambda n: n.op("Resize", "x", "", "", I64([2, 4, 9, 8]), mode="linear"), (2, 4, 6, 8), 13)
case("resize_axes", lambda n: n.op("Resize", "x", "", "", I64([12, 16]), axes=[2, 3]), IMAGE, 18)
case("resize_1d", lambda n: n.op("Resize", "x", "", np.float32([1, 1, 2]), mode="linear"), SIGNAL)


@pytest.mark.parametrize(("name", "shape", "opset", "build", "ops"), CASES, ids=[c[0] for c in CASES])
def test_node(
    tmp_path: Path, name: str, shape: tuple[Any, ...], opset: int, build: Callable[[Network], Any], ops: Any
) -> None:
    net = Network(shape, opset)
    build(net)
    made = imported(tmp_path, net)
    if ops:
        assert tuple(n.op for n in made.graph.nodes) == ops
