"""Whole float ONNX files: networks as frameworks export them, quantized ones, and files that are refused."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip("onnx", reason="needs the extra 'onnx'")
pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")

import onnx
from onnx import TensorProto, helper
from onnx_cases import Network, quantize

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.importers import onnx as importer
from thumbnet.importers.imported import Imported
from thumbnet.importers.onnx import QDQ_TOLERANCE, check_onnx, import_onnx

I64 = np.int64


def saved(tmp_path: Path, model: onnx.ModelProto | bytes) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def ops(made: Imported) -> list[str]:
    return [n.op for n in made.graph.nodes]


# --- what PyTorch exports


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * F.hardsigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(12, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.first(x))
        b = torch.relu(self.second(F.max_pool2d(a, 2)))
        wide = F.interpolate(b, scale_factor=2, mode="bilinear", align_corners=False)[:, :4]
        return torch.softmax(self.last(torch.cat([a + self.up(b), wide], 1)), 1)


class Heads(nn.Module):
    """Boxes and classes of two sizes of images, as detectors have them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.classes, self.boxes = nn.Conv2d(8, 12, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = torch.relu(self.a(x))
        maps = (a, torch.relu(self.b(a)))
        made = (
            torch.cat([head(v).permute(0, 2, 3, 1).reshape(x.shape[0], -1, width) for v in maps], 1)
            for head, width in ((self.classes, 3), (self.boxes, 4))
        )
        classes, boxes = made
        return classes.softmax(-1), boxes


def mobile() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish(), SqueezeExcite(8)),
        *(nn.Conv2d(8, 12, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(12, 10)),
    )


def signals() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv1d(6, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 3, dilation=2)),
        *(nn.ELU(), nn.AvgPool1d(3, 2, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


def auto_encoder() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2, 1), nn.PReLU(8), nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.ReLU()),
        *(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid()),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "mobile": (mobile, (3, 32, 32), ("depthwise_conv2d", "hard_swish", "hard_sigmoid", "silu", "relu6")),
    "unet": (UNet, (3, 16, 24), ("conv_transpose2d", "resize", "softmax", "concat")),
    "heads": (Heads, (3, 32, 32), ("transpose", "concat", "softmax")),
    "signals": (signals, (6, 64), ("conv2d", "max_pool2d", "avg_pool2d", "elu")),
    "auto_encoder": (auto_encoder, (1, 12, 12), ("prelu", "resize", "pad", "sigmoid")),
    "mlp": (mlp, (20,), ("dense", "tanh")),
}


def exported(tmp_path: Path, net: nn.Module, shape: tuple[int, ...], opset: int, dynamic: bool) -> Path:
    """By PyTorch's older exporter up to opset 17, by the newer one from 18 on."""
    path, newer = tmp_path / "net.onnx", opset >= 18
    if newer:
        pytest.importorskip("onnxscript", reason="PyTorch's exporter needs onnxscript")
        options: dict[str, Any] = {"dynamic_shapes": ({0: torch.export.Dim("n")},) if dynamic else None}
    else:
        options = {"dynamic_axes": {"x": {0: "n"}} if dynamic else None, "input_names": ["x"]}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.randn(2, *shape),)
        torch.onnx.export(net.eval(), example, str(path), dynamo=newer, opset_version=opset, **options)
    return path


@pytest.mark.parametrize(
    ("name", "opset", "dynamic"),
    [
        *((name, opset, opset > 11) for name in NETWORKS for opset in (11, 13, 17)),
        *(("mobile", 18, False), ("heads", 20, True), ("signals", 20, True)),
    ],
)
def test_networks_exported_by_pytorch(tmp_path: Path, name: str, opset: int, dynamic: bool) -> None:
    make, shape, wanted = NETWORKS[name]
    torch.manual_seed(0)
    net = make()
    path = exported(tmp_path, net, shape, opset, dynamic)
    made = import_onnx(path)
    assert set(wanted) <= set(ops(made))
    assert made.batch == (None if dynamic else 2)
    assert made.inputs[0].shape == shape
    assert made.max_difference < 1e-5
    with torch.no_grad():
        x = torch.randn(2, *shape)
        want = net(x)
    got = made.run([x.numpy()])
    for a, b in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-5)  # the runner takes and gives the source's axes


# --- channels last


def test_networks_with_channels_last_need_no_transposes(tmp_path: Path) -> None:
    """As tf2onnx exports them: images [N, H, W, C], transposed at once, and back at the end."""
    net = Network(("N", 8, 6, 3))
    x = net.op("Sub", "x", np.float32(0.5))
    x = net.conv(net.op("Transpose", x, perm=[0, 3, 1, 2]), 3, 4, 3, 3, pads=[1, 1, 1, 1])
    x = net.op("Transpose", net.op("Relu", x), perm=[0, 2, 3, 1])
    x = net.op("Add", x, net.normal(4))  # a bias for each channel, which are last here
    net.op("Softmax", net.op("Concat", x, net.op("Neg", x), axis=3), axis=3)
    made = import_onnx(saved(tmp_path, net.model()))
    assert "transpose" not in ops(made)
    assert made.graph.inputs[0].shape == (3, 8, 6)
    assert made.inputs[0].shape == (8, 6, 3)
    assert made.outputs[0].shape == (8, 6, 8)
    assert made.graph.shapes[made.outputs[0].name] == (8, 8, 6)


def test_means_over_channels_last(tmp_path: Path) -> None:
    net = Network(("N", 8, 6, 3))
    x = net.conv(net.op("Transpose", "x", perm=[0, 3, 1, 2]), 3, 4, 3, 3, pads=[1, 1, 1, 1])
    x = net.op("ReduceMean", net.op("Transpose", x, perm=[0, 2, 3, 1]), axes=[1, 2], keepdims=0)
    net.dense(x, 4, 2)
    made = import_onnx(saved(tmp_path, net.model()))
    assert ops(made) == ["conv2d", "global_avg_pool", "dense"]


# --- quantized files


def small(channels: int = 6) -> Network:
    net = Network(("N", 3, 16, 16), 17)
    x = net.op("Relu", net.conv("x", 3, channels, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2]))
    x = net.op("Add", x, net.op("Relu", net.conv(x, channels, channels, 3, 3, groups=channels, pads=[1, 1, 1, 1])))
    x = net.op("Clip", net.conv(x, channels, 8, 1, 1), np.float32(0), np.float32(6))
    net.dense(net.op("Flatten", net.op("GlobalAveragePool", x)), 8, 4)
    return net


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_quantized_file_gives_its_float_network(tmp_path: Path, per_channel: bool) -> None:
    """ONNX Runtime drops a ReLU where a quantizer cuts off at 0; the network must have it."""
    net = small()
    quantized = saved(tmp_path, quantize(net, per_channel=per_channel))
    made = import_onnx(quantized)
    assert made.tolerance_factor == QDQ_TOLERANCE
    assert made.check is not None
    assert made.check.json()["difference"] <= made.tolerance
    assert [op for op in ops(made) if op.startswith("relu")] == ["relu"] * 3
    assert all(r.state == "supported" for r in check_onnx(quantized))

    (tmp_path / "float").mkdir()
    exact = import_onnx(saved(tmp_path / "float", net.model()))
    x = np.random.default_rng(0).normal(0, 1, (32, 3, 16, 16)).astype(np.float32)
    a, b = made.run([x])[0], exact.run([x])[0]
    assert np.abs(a - b).max() < 0.1 * np.abs(b).max()
    weights = [n.weights["weight"] for n in made.graph.nodes if n.op == "conv2d"]
    for w, v in zip(weights, (n.weights["weight"] for n in exact.graph.nodes if n.op == "conv2d"), strict=True):
        assert np.abs(w - v).max() <= np.abs(v).max() / 127


def test_inputs_of_a_quantized_file_are_drawn_from_its_range(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(0, 1, (16, 3, 16, 16)).astype(np.float32)
    made = import_onnx(saved(tmp_path, quantize(small(), samples=samples)))
    (found,) = made.ranges
    assert found is not None
    assert found == pytest.approx((0, 1), abs=0.02)


# --- refused


def refused(tmp_path: Path, net: Network, *outputs: str, error: type[ModelError] = ModelError) -> str:
    with pytest.raises(error) as found:
        import_onnx(saved(tmp_path, net.model(*outputs)))
    return str(found.value)


REFUSED: dict[str, tuple[Callable[[Network], Any], str]] = {
    "batch_reshape": (lambda n: n.op("Reshape", "x", I64([-1, 24])), "the batch must stay the first axis"),
    "batch_rows": (lambda n: n.op("Softmax", n.op("Reshape", "x", I64([-1, 8])), axis=0), "batch axis"),
    "batch_joined": (lambda n: n.op("Relu", n.op("Reshape", "x", I64([-1, 8]))), "joins its samples"),
    "batch_transpose": (lambda n: n.op("Transpose", "x"), "batch axis"),
    "batch_mean": (lambda n: n.op("ReduceMean", "x"), "batch axis"),
    "batch_concat": (lambda n: n.op("Concat", "x", "x", axis=0), "batch axis"),
    "batch_slice": (lambda n: n.op("Slice", "x", I64([0]), I64([1]), I64([0])), "batch axis"),
    "batch_gather": (lambda n: n.op("Gather", "x", I64(0), axis=0), "batch axis"),
    "attention": (lambda n: n.op("MatMul", "x", "x"), "attention"),
    "computed_weights": (lambda n: n.op("Conv", "x", n.op("Relu", "x")), "must be a constant"),
    "division": (lambda n: n.op("Div", "x", n.op("Relu", "x")), "multiply instead"),
    "full_constant": (lambda n: n.op("Add", "x", n.normal(4, 6, 8)), "one number per channel"),
    "growing": (lambda n: n.op("Add", n.op("GlobalMaxPool", "x"), n.normal(4, 6, 8)), "does not broadcast"),
    "expand": (lambda n: n.op("Expand", n.op("GlobalMaxPool", "x"), I64([1, 4, 6, 8])), "Repeating numbers"),
    "reverse": (lambda n: n.op("Slice", "x", I64([5]), I64([-99]), I64([2]), I64([-1])), "negative steps"),
    "cubic": (lambda n: n.op("Resize", "x", "", np.float32([1, 1, 2, 2]), mode="cubic"), "nearest and linear"),
    "edge": (lambda n: n.op("Pad", "x", I64([0, 0, 1, 1, 0, 0, 1, 1]), mode="edge"), "zeros or reflections"),
    "training": (lambda n: n.op("Dropout", "x", np.float32(0.5), np.bool_(True)), "model.eval()"),
    "recurrent": (lambda n: n.op("LSTM", "x", n.normal(1, 8, 4), n.normal(1, 8, 2), hidden_size=2), "over time"),
    "gelu": (lambda n: n.op("Erf", "x"), "HardSwish or Swish"),
    "norm": (lambda n: n.op("InstanceNormalization", "x", n.normal(4), n.normal(4)), "BatchNormalization"),
    "top": (lambda n: n.op("ArgMax", "x"), "in the application"),
    "sequence": (lambda n: n.op("SequenceConstruct", "x"), "Sequences"),
    "to_integers": (lambda n: n.op("Cast", "x", to=7), "float32"),
    "mask": (lambda n: n.op("MaxPool", "x", kernel_shape=[2, 2], count=2), "second output"),
    "huge_resize": (lambda n: n.op("Resize", "x", "", np.float32([1, 1, 1e6, 1e6])), "makes images of the size"),
    "huge_window": (lambda n: n.op("MaxPool", "x", kernel_shape=[1 << 40, 2]), "kernel_shape"),
    "wide": (lambda n: n.op("Resize", "x", "", np.float32([1, 1, 1000, 1000])), "No microcontroller"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, name: str) -> None:
    build, said = REFUSED[name]
    net = Network(("N", 4, 6, 8), 13)
    build(net)
    outputs = [v for v in net.nodes[-1].output if v]
    assert said in refused(tmp_path, net, *outputs)


def test_control_flow_is_refused_without_its_body(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "b", [], [helper.make_empty_tensor_value_info("y")]
    )
    net = Network(("N", 4, 6, 8), 13)
    net.nodes.append(helper.make_node("If", [net.constant(True)], ["z"], "branch", then_branch=body, else_branch=body))
    assert "unrolled" in refused(tmp_path, net, error=UnsupportedOpError)
    (report,) = check_onnx(saved(tmp_path, net.model()))
    assert (report.state, report.op, report.name) == ("refused", "If", "branch")


def test_other_domains_are_refused(tmp_path: Path) -> None:
    net = Network(("N", 4, 6, 8), 13)
    net.nodes.append(
        helper.make_node("FusedConv", ["x", net.constant(net.normal(4, 4, 1, 1))], ["y"], domain="com.microsoft")
    )
    model = net.model()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedOpError, match="ONNX's own operators"):
        import_onnx(saved(tmp_path, model))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float16])
def test_inputs_are_float32(tmp_path: Path, dtype: Any) -> None:
    net = Network(("N", 4), 13, dtype)
    net.op("Cast", "x", to=1)
    assert "not float32" in refused(tmp_path, net)


def test_outputs_are_float32(tmp_path: Path) -> None:
    net = Network(("N", 4), 13)
    net.op("QuantizeLinear", net.op("Relu", "x"), np.float32(0.1), np.uint8(3))
    with pytest.raises(ModelError, match="is uint8, not float32"):
        import_onnx(saved(tmp_path, net.model(output_type=TensorProto.UINT8)))


@pytest.mark.parametrize("shape", [("N", 3, "H", "W"), ("N", 3, 8, "W"), ()])
def test_only_the_batch_may_be_symbolic(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    net = Network(shape, 13)
    net.op("Relu", "x")
    assert "make_dynamic_shape_fixed" in refused(tmp_path, net)


def test_an_output_that_nothing_computes_from_the_input(tmp_path: Path) -> None:
    net = Network(("N", 4), 13)
    net.op("Identity", "x")
    assert "computed from its input" in refused(tmp_path, net)


def test_a_missing_initializer(tmp_path: Path) -> None:
    net = Network(("N", 4, 6, 8), 13)
    net.op("Conv", "x", "lost")
    assert "nothing has computed" in refused(tmp_path, net)


def test_a_cycle(tmp_path: Path) -> None:
    net = Network(("N", 4, 6, 8), 13)
    net.nodes += [helper.make_node("Add", ["x", "b"], ["a"], "one"), helper.make_node("Relu", ["a"], ["b"], "two")]
    assert "nothing has computed" in refused(tmp_path, net)


def test_values_computed_twice(tmp_path: Path) -> None:
    net = Network(("N", 4, 6, 8), 13)
    net.nodes += [helper.make_node("Relu", ["x"], ["a"], "one"), helper.make_node("Relu", ["x"], ["a"], "two")]
    assert "second time" in refused(tmp_path, net)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = small().model().SerializeToString()
    for size in range(0, len(data), max(1, len(data) // 64)):
        with pytest.raises(ModelError):
            import_onnx(saved(tmp_path, data[:size]))


def test_bit_flips_never_escape_as_other_errors(tmp_path: Path) -> None:
    data, rng = small().model().SerializeToString(), np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        broken[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(ModelError):
            import_onnx(saved(tmp_path, bytes(broken)))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        import_onnx(tmp_path / "none.onnx")


# --- external data


def external(tmp_path: Path, location: str) -> Path:
    net = Network(("N", 4, 6, 8), 13)
    net.conv("x", 4, 3, 3, 3)
    model = net.model()
    tensor = model.graph.initializer[0]
    (tmp_path / "w.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "folder").mkdir()
    return saved(tmp_path if location == "w.bin" else tmp_path / "folder", model)


def test_numbers_in_a_file_beside_the_model(tmp_path: Path) -> None:
    made = import_onnx(external(tmp_path, "w.bin"))
    assert made.graph.parameters == 3 * 4 * 9 + 3


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "folder/../../w.bin"])
def test_numbers_elsewhere_are_not_read(tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelError, match="in a file beside the model only"):
        import_onnx(external(tmp_path, location))


# --- the check


def test_a_network_that_differs_from_its_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relu = importer.HANDLERS["LeakyRelu"]
    monkeypatch.setitem(importer.HANDLERS, "Relu", relu)
    with pytest.raises(ModelError, match="differs from the original, run by ONNX Runtime"):
        import_onnx(saved(tmp_path, small().model()))


def test_a_network_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    net = Network(("N", 4), 13)
    net.op("Mul", net.op("Mul", "x", np.float32(3e38)), np.float32(3e38))
    assert "not finite" in refused(tmp_path, net)


def test_all_refused_nodes_are_reported(tmp_path: Path) -> None:
    net = Network(("N", 4, 6, 8), 13)
    left = net.op("Relu", net.op("Erf", net.conv("x", 4, 4, 3, 3)))
    right = net.op("ReduceL2", "x", axes=[2, 3])
    net.op("Add", net.op("ReduceMean", left, axes=[2, 3]), right)
    found = [(r.op, r.state) for r in check_onnx(saved(tmp_path, net.model()))]
    assert ("Conv", "supported") in found
    assert [f for f in found if f[1] == "refused"] == [("Erf", "refused"), ("ReduceL2", "refused")]
    assert found[-3:] == [("ReduceL2", "refused"), ("ReduceMean", "supported"), ("Add", "supported")]


def test_what_follows_a_value_of_unknown_shape_is_not_checked(tmp_path: Path) -> None:
    net = Network(("N", 4, 6, 8), 13)
    net.op("Relu", net.op("Squeeze", net.op("NonZero", "x"), I64([-1])))
    found = [(r.op, r.state) for r in check_onnx(saved(tmp_path, net.model()))]
    assert found == [("NonZero", "refused"), ("Squeeze", "unchecked"), ("Relu", "unchecked")]


def test_constants_that_grow_without_bounds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "_MAX_COMPUTED_BYTES", 1 << 20)
    net = Network(("N", 4), 13)
    value = net.constant(net.normal(300, 300))
    for _ in range(4):
        value = net.op("Neg", value)
    net.op("Add", "x", net.op("Squeeze", value))
    assert "compute constants of more than" in refused(tmp_path, net)


@pytest.mark.parametrize("opset", range(11, 29))
def test_every_opset(tmp_path: Path, opset: int) -> None:
    net = small()
    net.opset = opset
    path = saved(tmp_path, net.model())
    assert all(r.state == "supported" for r in check_onnx(path))
    made = import_onnx(path)
    assert ops(made)[-1] == "dense"


def test_operations_with_and_without_handlers_are_told_apart() -> None:
    from thumbnet.importers.onnx_nearest import NEAREST

    assert not set(NEAREST) & set(importer.HANDLERS)
    known = {s.name for s in onnx.defs.get_all_schemas()}
    assert {*NEAREST, *importer.HANDLERS} - known <= {"Optional", "Upsample"}


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"thumbnet\[onnx\]"):
        import_onnx(saved(tmp_path, small().model()))


def test_weights_stored_as_floats_of_several_kinds(tmp_path: Path) -> None:
    net = Network(("N", 4), 13)
    net.op("MatMul", "x", net.op("Cast", net.normal(4, 3).astype(np.float64), to=1))
    made = import_onnx(saved(tmp_path, net.model()))
    assert ops(made) == ["dense"]
