"""What networks of every task learn from: targets and the reference's outputs, moved with their images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import conv

from thumbnet.data import Augmentation, Preprocessing, load_data
from thumbnet.data.tasks import Regression, Segmentation
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.search.space import explore_space
from thumbnet.training import distill
from thumbnet.training.distill import Lessons, objective_of, reference_outputs
from thumbnet.training.loop import Images, Schedule, Seen, assess, train
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import insert_batch_norm
from thumbnet.training.quantize_aware import QuantizedModule, calibrate

TASK = Segmentation(("dark", "bright"))


def pixelwise(kernel: int = 1) -> Graph:
    """A network that moves its answer with its input, where the kernel is 1."""
    rng = np.random.default_rng(0)
    nodes = (
        conv("first", "x", 1, 8, rng, kernel=kernel, activation="relu"),
        conv("out", "first", 8, 2, rng, kernel=kernel),
    )
    graph = Graph("pixels", (Input("x", (1, 12, 12)),), nodes, ("out",))
    graph.validate()
    return graph


def images() -> Images:
    x = np.random.default_rng(0).integers(0, 256, (48, 12, 12), dtype=np.uint8)
    data = load_data(
        {f"{a}_{s}": v for s in ("train", "val", "test") for a, v in zip("xy", (x, x // 128), strict=True)},
        task="segmentation",
    )
    return Images.of(data.train, Preprocessing((12, 12), 1, (0.5,), (0.5,)))


def asked(module: GraphModule, mirrored: bool) -> tuple[torch.Tensor, ...]:
    return reference_outputs(module, images(), TASK, mirrored=mirrored, on_images=lambda n: None)


def test_the_mirror_image_s_maps_are_mirrored_back() -> None:
    (plain,), (mirrored,) = (asked(GraphModule(pixelwise()), m) for m in (False, True))
    assert plain.dtype == torch.float16
    assert torch.allclose(plain.float(), mirrored.float(), atol=2e-3)
    (uneven,) = asked(GraphModule(pixelwise(3)), True)
    assert not torch.allclose(uneven.float(), asked(GraphModule(pixelwise(3)), False)[0].float(), atol=1e-2)


def test_outputs_beyond_the_bound_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "MAX_BYTES", 1000)
    assert asked(GraphModule(pixelwise()), False) == ()


def test_masks_and_the_reference_s_maps_move_with_the_image() -> None:
    module, data = GraphModule(pixelwise()).eval(), images()
    mirror = Augmentation(flip=True, upside_down=True, transpose=True, shift=0.0, contrast=0.0, brightness=0.0)
    indices, view = torch.arange(48), mirror.draw(48, torch.Generator().manual_seed(0))
    assert 0 < int(view.flips[:, 0].sum()) < 48
    seen = Seen((mirror.apply(data.normalized(indices), view),), data.targets(indices), lambda m: mirror.move(m, view))
    still = Seen(seen.inputs, seen.targets)
    objective = Lessons(TASK, asked(module, False), weight=1.0)
    with torch.no_grad():
        outputs = (module(*seen.inputs),)
        assert float(objective.of(outputs, seen, indices)) == pytest.approx(0, abs=1e-4)
        assert float(objective.of(outputs, still, indices)) > 0.01
        right = (outputs[0] * 0 + torch.stack([-9 * seen.inputs[0][:, 0], 9 * seen.inputs[0][:, 0]], 1),)
        labels = Lessons(TASK)
        assert float(labels.of(right, seen, indices)) < 0.1 < float(labels.of(right, still, indices))


def test_a_segmentation_is_learned() -> None:
    module, data = GraphModule(insert_batch_norm(pixelwise(), images().normalized(slice(0, 32)))), images()
    objective = objective_of(TASK)
    train(module, data, objective, Schedule(60, batch=16, rate=2e-2), augmentation=Augmentation(), seed=0)
    found = assess(module, data, TASK)
    assert found.score > 90
    assert found.loss < 0.3


def test_convolutions_that_answer_stay_bare() -> None:
    normalized = insert_batch_norm(pixelwise(), images().normalized(slice(0, 32)))
    assert [n.name for n in normalized.nodes if n.op == "batch_norm"] == ["first.norm"]
    assert normalized.outputs == ("out",)


def test_maps_fix_the_resolution_and_the_outputs_their_channels() -> None:
    graph = pixelwise(3)
    large = Graph("large", (Input("x", (1, 64, 64)),), graph.nodes, ("out", "first"))
    space = explore_space(large, resizable=False)
    assert space.resolutions == ((64, 64),)
    assert space.cuts == ()
    assert space.groups == ()  # both values are outputs
    assert {g.id for g in explore_space(graph, resizable=False).groups} == {"first"}


def two_inputs() -> Graph:
    rng = np.random.default_rng(0)
    weights = {"weight": rng.normal(size=(2, 5)).astype(np.float32), "bias": np.zeros(2, np.float32)}
    nodes = (
        Node("pool", "global_avg_pool", ("image",), {"keepdims": False}),
        Node("all", "concat", ("pool", "row"), {"axis": 0}),
        Node("out", "dense", ("all",), {"activation": "none"}, weights),
        Node("side", "relu", ("row",)),
    )
    return Graph("two", (Input("image", (2, 4, 4)), Input("row", (3,))), nodes, ("out", "side"))


def test_quantization_aware_networks_take_and_give_several() -> None:
    graph = two_inputs()
    module = QuantizedModule(graph, {"image": (0.02, 0), "row": (0.05, 10)})
    image, row = torch.rand(16, 2, 4, 4), torch.randn(16, 3)
    module(image, row)
    calibrate(module, [])
    outputs, exact = module(image, row), GraphModule(graph)(image, row)
    assert len(outputs) == 2
    for a, b in zip(outputs, exact, strict=True):
        assert torch.allclose(a, b, atol=0.15)
    assert set(module.ranges()) == set(graph.shapes)


def test_several_numbers_are_learned_in_units_of_their_spread() -> None:
    task = Regression(("a", "b"), (1.0, 100.0))
    outputs, wanted = (torch.zeros(4, 1), torch.zeros(4, 1)), (torch.ones(4, 1), torch.full((4, 1), 100.0))
    assert float(Lessons(task).of(outputs, Seen((), wanted), torch.arange(4))) == pytest.approx(1.0)
