"""PyTorch in: every supported operation against torch itself, everything else refused with a reason."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.networks import NETWORKS, SHAPE, network
from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.evaluate import evaluate_graph
from thumbnet.importers import aten, imported, values
from thumbnet.importers import torch as importer
from thumbnet.importers.torch import import_torch

Function = Callable[[torch.Tensor], torch.Tensor]


class Lambda(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(4, 6, 3)
        self.register_buffer("scale", torch.tensor([1.0, -2.0, 0.5, 3.0]).reshape(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def images(shape: tuple[int, ...], count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32) * 3


@pytest.mark.parametrize("name", NETWORKS)
def test_real_topologies_compute_the_same(name: str) -> None:
    module = network(name)
    graph = import_torch(module, SHAPE)
    with torch.inference_mode():
        expected = module(torch.from_numpy(images(SHAPE)))
    np.testing.assert_allclose(evaluate_graph(graph, images(SHAPE)), expected.numpy(), rtol=1e-4, atol=1e-5)


def pooled(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3), keepdim=True)


SCALE = torch.tensor([1.0, -2.0, 0.5, 3.0]).reshape(4, 1, 1)
WEIGHT = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(0))
SUPPORTED: dict[str, tuple[Function, list[str] | None]] = {
    "conv_same": (lambda x: F.conv2d(x, WEIGHT, padding="same", dilation=2), ["conv2d"]),
    "conv_valid": (lambda x: F.conv2d(x, WEIGHT, padding="valid", stride=(2, 1)), ["conv2d"]),
    "depthwise": (lambda x: F.conv2d(x, WEIGHT[:, :1], padding=1, groups=4), ["depthwise_conv2d"]),
    "relu6": (lambda x: F.relu6(x), ["relu6"]),
    "clamp": (lambda x: x.clamp(0, 6), ["relu6"]),
    "clamp_min": (lambda x: x.clamp(min=0), ["relu"]),
    "clamp_min_method": (lambda x: torch.clamp_min(x, 0.0), ["relu"]),
    "clamp_in_two_steps": (lambda x: x.clamp(min=0).clamp(max=6), ["relu", "relu6"]),
    "hardswish": (lambda x: F.hardswish(x), ["hard_swish"]),
    "hardsigmoid": (lambda x: F.hardsigmoid(x), ["hard_sigmoid"]),
    "silu": (lambda x: F.silu(x), ["silu"]),
    "tanh": (lambda x: torch.tanh(x), ["tanh"]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), ["leaky_relu"]),
    "softmax": (lambda x: x.softmax(1), ["softmax"]),
    "max_pool": (lambda x: F.max_pool2d(x, 3, 2, 1), ["max_pool2d"]),
    "avg_pool_with_padding": (lambda x: F.avg_pool2d(x, 3, 2, 1), ["avg_pool2d"]),
    "avg_pool_without_padding": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), ["avg_pool2d"]),
    "avg_pool_of_everything": (lambda x: F.avg_pool2d(x, (8, 6)), ["global_avg_pool"]),
    "ceil_mode_without_effect": (lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True), ["max_pool2d"]),
    "adaptive_to_a_divisor": (lambda x: F.adaptive_avg_pool2d(x, (4, 2)), ["avg_pool2d"]),
    "adaptive_max": (lambda x: F.adaptive_max_pool2d(x, 1), ["max_pool2d"]),
    "mean": (lambda x: x.mean(dim=(-1, -2)), ["global_avg_pool"]),
    "mean_twice_keeps": (lambda x: x.mean((2, 3), keepdim=True) * x, ["global_avg_pool", "mul"]),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 3)), ["pad"]),
    "pad_channels": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), ["conv2d"]),
    "concat": (lambda x: torch.cat([x, x * 2], 1), ["batch_norm", "concat"]),
    "concat_rows": (lambda x: torch.cat([x, x], -2), ["concat"]),
    "split": (lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1), ["slice", "slice", "concat"]),
    "chunk": (lambda x: x.chunk(2, 1)[1], ["slice"]),
    "slice": (lambda x: x[:, 1:3, 2:, :-1], ["slice", "slice", "slice"]),
    "every_other_pixel": (lambda x: x[:, :, ::2, 1::3], ["max_pool2d", "slice", "max_pool2d"]),
    "nearest_size": (lambda x: F.interpolate(x, size=(12, 9)), ["resize"]),
    "nearest_scale": (lambda x: F.interpolate(x, scale_factor=2), ["resize"]),
    "constant_per_channel": (lambda x: (x - SCALE) / SCALE, ["batch_norm", "batch_norm"]),
    "constant_in_front": (lambda x: 1 - x, ["batch_norm"]),
    "negative": (lambda x: -x, ["batch_norm"]),
    "times_one": (lambda x: F.relu(x * 1 + 0), ["relu"]),
    "subtraction": (lambda x: F.relu(x) - x, ["relu", "sub"]),
    "identities": (lambda x: F.dropout(x.contiguous(), 0.5, False).clone().float().tanh(), ["tanh"]),
    "flatten": (lambda x: x.flatten(1), ["flatten"]),
    "view": (lambda x: x.view(x.size(0), -1), ["flatten"]),
    "view_any_batch": (lambda x: x.reshape(-1, 4 * 8 * 6), ["flatten"]),
    "squeeze": (lambda x: pooled(x).squeeze(-1).squeeze(-1), ["global_avg_pool", "reshape", "flatten"]),
    "squeeze_all": (lambda x: pooled(x).squeeze(), ["global_avg_pool", "flatten"]),
    "unsqueeze": (lambda x: x * x.mean((2, 3))[:, :, None, None], ["global_avg_pool", "reshape", "reshape", "mul"]),
    "unflatten": (lambda x: x.flatten(1).unflatten(1, (4, 8, 6)), ["flatten", "reshape"]),
    "swap_single_axes": (lambda x: pooled(x).permute(0, 2, 1, 3).flatten(1), ["global_avg_pool", "flatten"]),
    "matmul": (lambda x: x.flatten(1) @ torch.ones(192, 3), ["flatten", "dense"]),
    "addmm": (lambda x: torch.addmm(torch.ones(3), x.flatten(1), torch.ones(192, 3)), ["flatten", "dense"]),
    "computed_weights": (lambda x: F.conv2d(x, WEIGHT / WEIGHT.norm()), ["conv2d"]),
    "batch_norm": (lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4), None, torch.ones(4)), ["batch_norm"]),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), ["resize"]),
    "bilinear_aligned": (lambda x: F.interpolate(x, (5, 9), mode="bilinear", align_corners=True), ["resize"]),
    "nearest_exact": (lambda x: F.interpolate(x, (5, 9), mode="nearest-exact"), ["resize"]),
    "conv_transpose": (lambda x: F.conv_transpose2d(x, WEIGHT, stride=2), ["conv_transpose2d"]),
    "conv_transpose_padded": (
        lambda x: F.conv_transpose2d(x, WEIGHT, SCALE.reshape(-1), (2, 3), 1, (1, 2)),
        ["conv_transpose2d"],
    ),
    "conv_transpose_grouped": (lambda x: F.conv_transpose2d(x, WEIGHT[:, :1], None, 2, 1, 0, 4), ["conv_transpose2d"]),
    "conv_transpose_dilated": (lambda x: F.conv_transpose2d(x, WEIGHT, dilation=2), ["conv_transpose2d"]),
    "channel_shuffle": (
        lambda x: F.relu(x.view(-1, 2, 2, 8, 6).transpose(1, 2).reshape(-1, 4, 8, 6)),
        ["reshape", "relu", "reshape", "transpose", "reshape"],
    ),
    "shuffled_channels": (lambda x: F.channel_shuffle(x, 2), ["reshape", "transpose", "reshape"]),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), ["reshape", "transpose", "reshape"]),
    "pixel_unshuffle": (lambda x: F.conv2d(F.pixel_unshuffle(x, 2), torch.ones(2, 16, 1, 1)), None),
    "ceil_mode": (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), ["max_pool2d"]),
    "ceil_mode_padded": (lambda x: F.max_pool2d(x, 3, 3, 1, ceil_mode=True), ["max_pool2d"]),
    "ceil_mode_of_a_mean": (lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True), ["avg_pool2d"]),
    "reflection": (lambda x: F.pad(x, (1, 1, 2, 1), mode="reflect"), ["pad"]),
    "clamp_around_zero": (lambda x: x.clamp(-1, 1), ["clip"]),
    "prelu": (lambda x: F.prelu(x, SCALE.reshape(-1)), ["prelu"]),
    "elu": (lambda x: F.elu(x), ["elu"]),
    "abs": (lambda x: x.abs(), ["abs"]),
    "mean_over_channels": (lambda x: x.mean(1), ["mean", "reshape"]),
    "mean_over_rows": (lambda x: x.mean(2), ["mean"]),
    "sum": (lambda x: x.sum((2, 3), keepdim=True), ["sum"]),
    "largest": (lambda x: x.amax((2, 3)), ["reduce_max", "flatten"]),
    "spatial_product": (lambda x: x * x[:, :1], ["slice", "mul"]),
    "maximum": (lambda x: torch.maximum(x, -x), ["batch_norm", "maximum"]),
    "bounded": (lambda x: torch.minimum(F.relu(x), torch.tensor(2.0)), ["relu", "clip"]),
    "linear_on_images": (lambda x: F.linear(x, torch.ones(3, 6)), ["transpose", "conv2d", "transpose"]),
    "linear_last": (lambda x: F.linear(x.permute(0, 2, 3, 1), SCALE.reshape(1, 4)).permute(0, 3, 1, 2), ["conv2d"]),
    "square": (lambda x: x**2, ["mul"]),
    "select": (lambda x: x[:, 2], ["slice", "reshape"]),
    "unbind_and_stack": (lambda x: torch.stack(x.unbind(1)[::-1], 1), None),
    "rows_of_anchors": (lambda x: x.permute(0, 2, 3, 1).reshape(-1, 96, 2).softmax(-1), None),
    "in_place_through_a_view": (lambda x: _in_place_through_a_view(x), None),
    "conv1d": (lambda x: F.conv1d(x.flatten(2), WEIGHT[..., 0], padding=1).reshape(-1, 4, 8, 6), None),
    "conv1d_pools": (lambda x: F.max_pool1d(F.avg_pool1d(F.relu(x.flatten(2)), 3, 2), 2).mean(2), None),
    "conv1d_transposed": (lambda x: F.conv_transpose1d(x.flatten(2), WEIGHT[..., 0], stride=2), None),
    "batch_norm_of_a_signal": (
        lambda x: F.batch_norm(F.conv1d(x.flatten(2), WEIGHT[..., 0]), torch.zeros(4), torch.ones(4)),
        ["reshape", "reshape", "conv2d", "batch_norm"],
    ),
    "softmax_over_pixels": (lambda x: x.softmax(2), None),
    "two_orders": (lambda x: x.permute(0, 2, 3, 1).flatten(1) + x.flatten(1), None),
}  # fmt: skip


@pytest.mark.parametrize("name", SUPPORTED)
def test_operations_compute_the_same(name: str) -> None:
    function, ops = SUPPORTED[name]
    made = imported(Lambda(function), (4, 8, 6))
    assert ops is None or [n.op for n in made.graph.nodes] == ops
    expected = function(torch.from_numpy(images((4, 8, 6)))).numpy()
    computed = made.outputs[0].to_source(evaluate_graph(made.graph, images((4, 8, 6))))
    np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-4)


def _in_place_on_a_shared_value(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    z = F.dropout(y, 0.5, False)
    F.relu_(z)
    return y + z


def _in_place_through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y.permute(0, 2, 1, 3).add_(x.permute(0, 2, 1, 3) * 3)
    return y


def test_in_place_operations_reach_every_name_of_a_value() -> None:
    graph = import_torch(Lambda(_in_place_on_a_shared_value), (4, 8, 6))
    x = images((4, 8, 6))
    np.testing.assert_allclose(evaluate_graph(graph, x), 4 * np.maximum(x, 0), rtol=1e-5)


UNSUPPORTED: dict[str, tuple[Function, str]] = {
    "gelu": (lambda x: F.gelu(x), "gelu.*Hardswish"),
    "group_norm": (lambda x: F.group_norm(x, 2), "group_norm.*BatchNorm2d"),
    "dilated_pool": (lambda x: F.max_pool2d(x, 2, 1, 0, 2), "dilation=1"),
    "pad_with_one": (lambda x: F.pad(x, (1, 1, 1, 1), value=1.0), "zeros"),
    "uneven_adaptive": (lambda x: F.adaptive_avg_pool2d(x, (3, 6)), "unequal"),
    "mean_over_the_batch": (lambda x: x - x.mean(0, keepdim=True), "batch axis"),
    "batch_statistics": (lambda x: F.batch_norm(x, None, None, training=True), "eval"),
    "spatial_constant": (lambda x: x * torch.rand(8, 6), "not one number per channel"),
    "quotient": (lambda x: x / (x * x + 1), "multiply instead"),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), "Attention"),
    "weights_from_input": (lambda x: F.conv2d(x, x[:1, :, :3, :3]), "batch|fixed weights"),
    "cumulative": (lambda x: x.cumsum(2), "cumsum"),
    "cube": (lambda x: x**3, "squares"),
    "clamp_above_zero": (lambda x: x.clamp(1, 2), "0 between"),
    "elu_of_another_slope": (lambda x: F.elu(x, 0.5), "alpha=1"),
    "two_broadcasts": (lambda x: x[:, :1] * x.mean((2, 3), keepdim=True), "combines shapes"),
    "edge_padding": (lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"), "reflections|replication_pad2d"),
    "ceil_mode_of_a_mean": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), "ceil_mode=False"),
    "repetition": (lambda x: x[:, :1].expand(-1, 4, -1, -1).relu(), "repeated"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_imported_is_named_with_a_way_out(name: str) -> None:
    function, message = UNSUPPORTED[name]
    with pytest.raises(UnsupportedOpError, match=message):
        import_torch(Lambda(function), (4, 8, 6))


def test_the_error_names_the_place_in_the_module() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.GELU()))
    with pytest.raises(UnsupportedOpError, match=r"node '1.1'"):
        import_torch(model, SHAPE)


def test_node_names_follow_the_module() -> None:
    graph = import_torch(network("mobilenet_v2"), SHAPE)
    assert {"stem.0", "blocks.0.layers.3", "blocks.0.add", "head.3"} <= set(graph.by_name)


def test_a_shared_module_gets_a_name_for_each_use() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x))

    assert [n.name for n in import_torch(Twice(), SHAPE).nodes] == ["conv", "conv_2"]


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 8, 8), (16, 16), (3, 0, 16)])
def test_a_wrong_input_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="input of shape"):
        import_torch(network("vgg"), shape)


def test_a_missing_input_shape_is_asked_for() -> None:
    with pytest.raises(ModelError, match="input_shape="):
        import_torch(network("vgg"))


def test_control_flow_on_values_is_refused() -> None:
    with pytest.raises(ModelError, match=r"torch.export cannot trace Lambda.*control flow"):
        import_torch(Lambda(lambda x: x if float(x.sum()) > 0 else -x), SHAPE)


def test_the_module_stays_as_it_was() -> None:
    module = network("resnet8b").train()
    module.stem.eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    import_torch(module, SHAPE)
    assert module.training
    assert not module.stem.training
    assert module.head.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_a_module_in_training_mode_is_imported_for_inference() -> None:
    module = network("vgg")
    expected = import_torch(module, SHAPE)
    assert import_torch(module.train(), SHAPE).digest == expected.digest


def _as(op: str) -> aten.Handler:
    return lambda b, node, args: values.elementwise(b, aten.origin(node), op, args[0])


class TestRecord:
    def test_says_how_exact_the_import_is(self) -> None:
        record = imported(network("resnet8a"), SHAPE, samples=images(SHAPE, 5))
        assert 0 <= record.max_difference <= record.tolerance < 1e-2

    def test_a_difference_is_an_error_that_states_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An importer with a fault: leaky relu as relu."""
        monkeypatch.setitem(importer.HANDLERS, "leaky_relu", _as("relu"))
        with pytest.raises(
            ModelError, match=r"differs from the original, run by PyTorch.*, by 0\.\d+ \(tolerated: 0\.000"
        ):
            import_torch(Lambda(lambda x: F.leaky_relu(x, 0.2)), SHAPE)

    def test_a_difference_on_real_inputs_alone_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(importer.HANDLERS, "relu", _as("relu6"))
        model = Lambda(lambda x: F.relu(x))
        import_torch(model, SHAPE)  # standard normal numbers stay below 6
        with pytest.raises(ModelError, match="differs"):
            imported(model, SHAPE, samples=images(SHAPE, 4) * 10)

    def test_outputs_that_are_not_finite_are_refused(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 2, 1))
        nn.init.constant_(model[0].weight, float("nan"))
        with pytest.raises(ModelError, match="not finite"):
            import_torch(model, SHAPE)


class TestExportedProgram:
    def test_with_a_fixed_batch(self) -> None:
        module = network("resnet8b")
        program = torch.export.export(module, (torch.zeros(1, *SHAPE),))
        assert import_torch(program, name="ResNet8").digest == import_torch(module, SHAPE).digest

    def test_with_any_batch(self) -> None:
        module = network("mobilenet_v2")
        program = torch.export.export(
            module, (torch.zeros(2, *SHAPE),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        assert import_torch(program, name="MobileNetV2").digest == import_torch(module, SHAPE).digest

    @pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch about its own pytrees
    @pytest.mark.parametrize("name", NETWORKS)
    def test_decomposed_to_core_aten(self, name: str) -> None:
        module = network(name)
        program = torch.export.export(module, (torch.zeros(2, *SHAPE),)).run_decompositions()
        graph = import_torch(program)
        with torch.inference_mode():
            expected = module(torch.from_numpy(images(SHAPE)))
        np.testing.assert_allclose(evaluate_graph(graph, images(SHAPE)), expected.numpy(), rtol=1e-4, atol=1e-5)

    def test_with_an_open_image_size_is_refused(self) -> None:
        size = torch.export.Dim("size", min=4, max=64)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        program = torch.export.export(model, (torch.zeros(2, *SHAPE),), dynamic_shapes=({2: size},))
        with pytest.raises(ModelError, match="fixed height and width"):
            import_torch(program)

    def test_with_two_inputs_and_two_outputs(self) -> None:
        class Two(nn.Module):
            def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                return a + b, F.relu(a - b)

        program = torch.export.export(Two(), (torch.zeros(2, *SHAPE), torch.zeros(2, *SHAPE)))
        graph = import_torch(program)
        assert [i.name for i in graph.inputs] == ["a", "b"]
        assert graph.outputs == ("add", "relu")
