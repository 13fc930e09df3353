"""What every operation of the float graph must hold to. A new operation needs a case here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from thumbnet.errors import ModelError, UnsupportedOpError
from thumbnet.graph.channels import _UnionFind
from thumbnet.graph.graph import Node
from thumbnet.graph.ops import OPS, op_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A node and the shapes it reads. `misfit` are shapes it must refuse."""

    op: str
    inputs: Sequence[Shape]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Shape] = field(default_factory=dict)
    misfit: Sequence[Shape] | None = None
    macs: int = 0

    def node(self) -> Node:
        rng = np.random.default_rng(1)
        weights = {k: rng.normal(size=s).astype(np.float32) for k, s in self.weights.items()}
        if "var" in weights:
            weights["var"] = np.abs(weights["var"]) + 0.1
        return Node("n", self.op, tuple(f"x{k}" for k in range(len(self.inputs))), self.attrs, weights)


def conv(stride: list[int], padding: list[int], dilation: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {"stride": stride, "padding": padding, "dilation": dilation or [1, 1], **more}


IMAGE = (6, 5, 7)
CASES = [
    Case(
        "conv2d",
        [IMAGE],
        conv([1, 1], [1, 1, 1, 1], groups=1),
        {"weight": (4, 6, 3, 3), "bias": (4,)},
        [(5, 5, 7)],
        7560,
    ),
    Case(
        "conv2d", [IMAGE], conv([2, 1], [0, 1, 2, 0], [1, 2], groups=1), {"weight": (4, 6, 3, 2)}, [(6,)], 4 * 36 * 18
    ),
    Case(
        "conv2d",
        [IMAGE],
        conv([1, 1], [0, 0, 0, 0], groups=2, activation="relu6"),
        {"weight": (4, 3, 1, 1)},
        [(8, 5, 7)],
        420,
    ),
    Case(
        "depthwise_conv2d",
        [IMAGE],
        conv([2, 2], [0, 0, 1, 1]),
        {"weight": (6, 1, 3, 3), "bias": (6,)},
        [(4, 5, 7)],
        54 * 6,
    ),
    Case(
        "depthwise_conv2d",
        [IMAGE],
        conv([1, 1], [1, 1, 1, 1], activation="relu"),
        {"weight": (12, 1, 3, 3)},
        None,
        108 * 35,
    ),
    Case("dense", [(6,)], {"activation": "relu"}, {"weight": (4, 6), "bias": (4,)}, [IMAGE], 24),
    Case("batch_norm", [IMAGE], {"eps": 1e-3}, dict.fromkeys(("weight", "bias", "mean", "var"), (6,)), [(5, 5, 7)]),
    Case("batch_norm", [(6,)], {"eps": 1e-3}, dict.fromkeys(("weight", "bias", "mean", "var"), (6,))),
    Case("add", [IMAGE, IMAGE], {"activation": "relu"}, misfit=[IMAGE, (6, 5, 6)]),
    Case("add", [IMAGE, (6, 1, 1)], misfit=[IMAGE, (6,)]),
    Case("sub", [(6, 1, 1), IMAGE]),
    Case("mul", [IMAGE, (6, 1, 1)], misfit=[IMAGE, (1, 5, 6)]),
    Case("mul", [IMAGE, (1, 5, 7)], misfit=[(6, 1, 1), (1, 5, 7)]),
    Case("maximum", [IMAGE, IMAGE], misfit=[IMAGE, (6, 5, 6)]),
    Case("minimum", [(1, 1, 7), IMAGE], {"activation": "relu"}),
    Case(
        "conv_transpose2d",
        [IMAGE],
        {"stride": [2, 2], "padding": [0, 1, 1, 0], "activation": "relu"},
        {"weight": (4, 6, 3, 2), "bias": (4,)},
        [(5, 5, 7)],
        4 * 6 * 3 * 2 * 35,
    ),
    Case(
        "conv_transpose2d",
        [IMAGE],
        {"stride": [2, 3], "padding": [1, 0, -1, -2]},
        {"weight": (3, 6, 3, 3)},
        [(6,)],
        3 * 6 * 9 * 35,
    ),
    Case("mul", [(6,), (6,)]),
    Case("concat", [IMAGE, (2, 5, 7)], {"axis": 0}, misfit=[IMAGE, (2, 5, 6)]),
    Case("concat", [IMAGE, (6, 5, 2)], {"axis": 2}, misfit=[IMAGE, (5, 5, 2)]),
    Case("slice", [IMAGE], {"axis": 0, "start": 1, "stop": 5}, misfit=[(4, 5, 7)]),
    Case("slice", [IMAGE], {"axis": 1, "start": 1, "stop": 3}, misfit=[(6, 2, 7)]),
    Case("max_pool2d", [IMAGE], {"kernel": [3, 2], "stride": [2, 2], "padding": [1, 0, 1, 1]}, misfit=[(6, 0, 7)]),
    Case("avg_pool2d", [IMAGE], {"kernel": [3, 3], "stride": [2, 1], "padding": [1, 1, 1, 1]}, misfit=[(6,)]),
    Case(
        "avg_pool2d", [IMAGE], {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 0, 0, 1], "count_include_pad": True}
    ),
    Case(
        "avg_pool2d", [IMAGE], {"kernel": [2, 3], "stride": [2, 2], "padding": [1, 0, 0, 1], "count_include_pad": False}
    ),
    Case("global_avg_pool", [IMAGE], {"keepdims": True}, misfit=[(6,)]),
    Case("global_avg_pool", [IMAGE], {"keepdims": False}),
    Case("mean", [IMAGE], {"axes": [1], "keepdims": True}, misfit=[(6,)]),
    Case("sum", [IMAGE], {"axes": [0], "keepdims": False}),
    Case("reduce_max", [IMAGE], {"axes": [1, 2], "keepdims": False}),
    Case("reduce_min", [(6, 5)], {"axes": [0, 1], "keepdims": False}),
    *(Case(op, [IMAGE]) for op in ("relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "silu")),
    *(Case(op, [IMAGE]) for op in ("elu", "abs")),
    Case("leaky_relu", [IMAGE], {"alpha": 0.1}),
    Case("clip", [IMAGE], {"low": -1.0, "high": 0.5}),
    Case("prelu", [IMAGE], {}, {"slope": (6,)}, [(5, 5, 7)]),
    Case("softmax", [(6,)]),
    Case("softmax", [(6, 5)], {"axis": 1}, misfit=[(6,)]),
    Case("log_softmax", [(6,)]),
    Case("pad", [IMAGE], {"padding": [1, 2, 3, 0]}, misfit=[(6,)]),
    Case("pad", [IMAGE], {"padding": [1, 2, 3, 0], "mode": "reflect"}, misfit=[(6, 3, 7)]),
    Case("flatten", [IMAGE]),
    Case("transpose", [IMAGE], {"perm": [1, 2, 0]}, misfit=[(6, 5)]),
    Case("transpose", [IMAGE], {"perm": [0, 2, 1]}),
    Case("reshape", [IMAGE], {"shape": [6, 7, 5]}, misfit=[(6, 5, 6)]),
    Case("reshape", [(6, 1, 1)], {"shape": [6]}),
    Case("reshape", [(30,)], {"shape": [6, 5, 1]}),
    Case("reshape", [IMAGE], {"shape": [210]}),
    Case("reshape", [IMAGE], {"shape": [10, 7, 3]}),
    Case("resize", [IMAGE], {"size": [10, 7]}, misfit=[(6,)]),
    Case("resize", [IMAGE], {"size": [10, 7], "mode": "nearest", "half_pixel_centers": True}),
    Case("resize", [IMAGE], {"size": [9, 4], "mode": "nearest", "align_corners": True}),
    Case("resize", [IMAGE], {"size": [9, 14], "mode": "bilinear"}),
    Case("resize", [IMAGE], {"size": [9, 14], "mode": "bilinear", "half_pixel_centers": True}),
    Case("resize", [IMAGE], {"size": [3, 14], "mode": "bilinear", "align_corners": True}),
]
each_case = pytest.mark.parametrize("case", CASES, ids=[f"{k}-{c.op}" for k, c in enumerate(CASES)])
MISFITS = [c for c in CASES if c.misfit is not None]


def feed(case: Case) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, *s, generator=generator) for s in case.inputs]


def run(node: Node, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    weights = {k: torch.from_numpy(np.array(w)) for k, w in node.weights.items()}
    return op_of(node).forward(node, weights, [x.clone() for x in inputs])


def test_every_operation_has_a_case() -> None:
    assert {c.op for c in CASES} == set(OPS)
    assert all(name == op.name for name, op in OPS.items())


@each_case
def test_shape_is_that_of_the_computed_tensor(case: Case) -> None:
    node = case.node()
    assert (2, *op_of(node).infer_shape(node, case.inputs)) == run(node, feed(case)).shape


@pytest.mark.parametrize("case", MISFITS, ids=[c.op for c in MISFITS])
def test_misfits_are_refused_by_name(case: Case) -> None:
    node = case.node()
    assert case.misfit is not None
    with pytest.raises(ModelError, match="'n'"):
        op_of(node).infer_shape(node, case.misfit)


@each_case
def test_macs(case: Case) -> None:
    node = case.node()
    op = op_of(node)
    assert op.macs(node, case.inputs, op.infer_shape(node, case.inputs)) == case.macs


@each_case
def test_attributes_survive_json(case: Case) -> None:
    assert json.loads(json.dumps(dict(case.attrs))) == dict(case.attrs)


@each_case
def test_inputs_are_not_changed(case: Case) -> None:
    inputs, node = feed(case), case.node()
    before = [x.clone() for x in inputs]
    op_of(node).forward(node, {k: torch.from_numpy(w.copy()) for k, w in node.weights.items()}, inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@each_case
def test_samples_do_not_mix(case: Case) -> None:
    inputs, node = feed(case), case.node()
    torch.testing.assert_close(run(node, [x[:1] for x in inputs]), run(node, inputs)[:1])


@each_case
@pytest.mark.parametrize("seed", range(4))
def test_slicing_equals_zeroing(case: Case, seed: int) -> None:
    """Removing channels gives what the kept ones are when the removed inputs are zero."""
    node = case.node()
    op = op_of(node)
    shape = op.infer_shape(node, case.inputs)
    linker = _UnionFind()
    ids = [linker.add(s[0], f"x{k}") for k, s in enumerate(case.inputs)]
    out = op.link(node, ids, shape, linker)
    assert len(out) == shape[0]

    pinned = {linker.find(k) for k in linker.pinned}
    classes = sorted({linker.find(int(k)) for v in (*ids, out) for k in v} - pinned)
    rng = np.random.default_rng(seed)
    gone = {c for c in classes if rng.random() < 0.4}
    kept = [np.array([k for k, i in enumerate(v.tolist()) if linker.find(i) not in gone], np.intp) for v in (*ids, out)]
    if any(len(k) == 0 for k in kept):
        gone = set()
        kept = [np.arange(len(v)) for v in (*ids, out)]

    inputs = feed(case)
    zeroed = [
        torch.zeros_like(x).index_copy(1, torch.from_numpy(k), x[:, k]) for x, k in zip(inputs, kept, strict=False)
    ]
    sliced = op.slice(node, kept[:-1], kept[-1])
    small = [x[:, k] for x, k in zip(inputs, kept, strict=False)]
    assert op.infer_shape(sliced, [tuple(x.shape[1:]) for x in small])[0] == len(kept[-1])
    torch.testing.assert_close(run(sliced, small), run(node, zeroed)[:, kept[-1]], rtol=1e-4, atol=1e-4)


def test_an_unknown_operation_names_its_node_and_the_closest_one() -> None:
    with pytest.raises(UnsupportedOpError, match=r"'conv2e' \(node 'here'\).*'conv2d'"):
        op_of(Node("here", "conv2e", ()))


def test_an_activation_that_cannot_be_fused_is_refused() -> None:
    node = Node("n", "dense", ("x",), {"activation": "tanh"}, {"weight": np.zeros((2, 3), np.float32)})
    with pytest.raises(ModelError, match="tanh"):
        op_of(node).infer_shape(node, [(3,)])
