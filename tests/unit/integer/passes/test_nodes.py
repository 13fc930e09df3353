"""Passes on whole nodes: unused, repeated, idle and mergeable ones, and softmax at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from integer_cases import graph_of, stimuli
from integer_pass_cases import assert_lossless, output, random_weights, weighted

from thumbnet.integer import build
from thumbnet.integer.graph import IntegerGraph, IntegerNode, QTensor
from thumbnet.integer.passes import common_nodes, dead_nodes, drop_softmax, lossless, merge_moves, remove_identity
from thumbnet.integer.simulate import run

X = QTensor("x", (4, 3, 2), 0.05, 3)


def like(name: str, *shape: int, scale: float = 0.05, zero_point: int = 3) -> QTensor:
    return QTensor(name, shape, scale, zero_point)


def conv(name: str, x: QTensor, channels: int = 2, **kw: Any) -> tuple[QTensor, IntegerNode]:
    out = like(name, *x.shape[:2], channels, zero_point=kw.pop("zero_point", 3))
    return out, weighted("conv2d", x, out, random_weights(1, channels, 1, 1, x.shape[-1]), **kw)


def names(ig: IntegerGraph) -> list[str]:
    return [n.name for n in ig.nodes]


# --- dead_nodes, common_nodes


def test_nodes_without_influence_go() -> None:
    a, first = conv("a", X)
    b, second = conv("b", a)
    c, third = conv("c", a)
    before = graph_of([X, a, b, c], [X], [first, second, third])
    after = dead_nodes(before)
    assert names(after) == ["a", "c"]
    assert set(after.tensors) == {"x", "a", "c"}
    assert assert_lossless(before, after)
    assert dead_nodes(after) is after


def test_unread_inputs_stay() -> None:
    z = like("z", 2)
    a, first = conv("a", X)
    ig = IntegerGraph("g", {t.name: t for t in (X, z, a)}, ("x", "z"), (first,), ("a",))
    assert dead_nodes(ig) is ig
    assert lossless(ig) is ig


def test_repeated_nodes_are_computed_once_and_so_are_their_readers() -> None:
    a, first = conv("a", X)
    b, second = replace(a, name="b"), replace(first, name="b")
    c, third = conv("c", a)
    d, fourth = replace(c, name="d"), replace(third, name="d", inputs=("b",))
    y = like("y", 4, 3, 2, scale=0.1)
    before = graph_of([X, a, b, c, d, y], [X], [first, second, third, fourth, build.add("y", c, d, y)])
    after = common_nodes(before)
    assert names(after) == ["a", "c", "y"]
    assert after.by_name["y"].inputs == ("c", "c")
    assert assert_lossless(before, after)


@pytest.mark.parametrize("change", ["weight", "clamp", "zero_point", "scale", "stride"])
def test_nodes_that_differ_in_anything_stay(change: str) -> None:
    a, first = conv("a", X)
    b, second = replace(a, name="b"), replace(first, name="b")
    if change == "weight":
        second = replace(second, arrays={**second.arrays, "weight": second.arrays["weight"] * 0})
    elif change == "clamp":
        second = replace(second, clamp=(3, 127))
    elif change == "stride":
        second = replace(second, attrs={**second.attrs, "stride": [1, 2]})
        b = like("b", 4, 2, 2)
    else:
        b = replace(b, zero_point=9) if change == "zero_point" else replace(b, scale=0.06)
    flat = [IntegerNode(f"f{v.name}", "reshape", (v.name,), {"shape": [v.bytes]}) for v in (a, b)]
    tensors = [X, a, b, like("fa", a.bytes), like("fb", b.bytes), like("y", a.bytes + b.bytes)]
    nodes = [first, second, *flat, IntegerNode("y", "concat", ("fa", "fb"), {"axis": 0})]
    before = graph_of(tensors, [X], nodes)
    assert common_nodes(before) is before


def test_outputs_are_never_merged() -> None:
    a, first = conv("a", X)
    before = IntegerGraph(
        "g", {"x": X, "a": a, "b": replace(a, name="b")}, ("x",), (first, replace(first, name="b")), ("a", "b")
    )
    assert common_nodes(before) is before


# --- remove_identity


def idle(kind: str) -> tuple[QTensor, IntegerNode]:
    out = like("i", *X.shape)
    window = {"stride": [1, 1], "padding": [0] * 4}
    return out, {
        "pad": IntegerNode("i", "pad", ("h",), {"padding": [0] * 4}),
        "reshape": IntegerNode("i", "reshape", ("h",), {"shape": list(X.shape)}),
        "slice": IntegerNode("i", "slice", ("h",), {"axis": 1, "start": 0, "stop": 3}),
        "resize_nearest": IntegerNode("i", "resize_nearest", ("h",), {"size": [4, 3]}),
        "concat": IntegerNode("i", "concat", ("h",), {"axis": 2}),
        "max_pool2d": IntegerNode("i", "max_pool2d", ("h",), {"kernel": [1, 1], **window}),
        "avg_pool2d": IntegerNode("i", "avg_pool2d", ("h",), {"kernel": [1, 1], **window}),
        "requantize": build.requantize("i", like("h", *X.shape), out),
        "lut": build.lut("i", like("h", *X.shape), out, "leaky_relu", alpha=1.0),
    }[kind]


KINDS = ("pad", "reshape", "slice", "resize_nearest", "concat", "max_pool2d", "avg_pool2d", "requantize", "lut")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [True, False])
def test_idle_nodes_go(kind: str, last: bool) -> None:
    h, first = conv("h", X)
    i, node = idle(kind)
    y, end = conv("y", i)
    nodes = [first, node] if last else [first, node, end]
    before = graph_of([X, h, i, *([] if last else [y])], [X], nodes)
    after = remove_identity(before)
    assert names(after) == (["i"] if last else ["h", "y"])
    assert after.outputs == before.outputs
    assert assert_lossless(before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_idle_nodes_that_mean_another_quantization_stay(kind: str) -> None:
    h, first = conv("h", X)
    i, node = idle(kind)
    ig = graph_of([X, h, replace(i, zero_point=4)], [X], [first, node])
    assert remove_identity(ig) is ig


def test_an_idle_node_between_input_and_output_stays() -> None:
    i, node = idle("pad")
    ig = graph_of([X, i], [X], [replace(node, inputs=("x",))])
    assert remove_identity(ig) is ig


@pytest.mark.parametrize(("activation", "goes"), [("relu", True), ("none", False)])
def test_a_relu_of_what_is_never_negative_goes(activation: str, goes: bool) -> None:
    h, first = conv("h", X, activation=activation)
    p, r, y = like("p", 2, 3, 2), like("r", 2, 3, 2), like("y", 2, 3, 2)
    pool = build.pool("p", "avg_pool2d", h, [2, 1], [2, 1], [0] * 4)
    end = weighted("conv2d", r, y, random_weights(1, 2, 1, 1, 2))
    before = graph_of([X, h, p, r, y], [X], [first, pool, build.relu("r", p, r), end])
    after = remove_identity(before)
    assert assert_lossless(before, after)
    assert ("r" in after.by_name) != goes


def test_a_global_pool_of_one_pixel_becomes_a_reshape() -> None:
    x, p, y = like("x", 1, 1, 3), like("p", 3), like("y", 2)
    dense = weighted("dense", p, y, random_weights(1, 2, 3))
    before = graph_of([x, p, y], [x], [build.global_avg_pool("p", x, p), dense])
    after = remove_identity(before)
    assert [n.op for n in after.nodes] == ["reshape", "dense"]
    assert assert_lossless(before, after)
    other = replace(p, scale=0.06)
    before = graph_of([x, other, y], [x], [build.global_avg_pool("p", x, other), dense])
    assert remove_identity(before) is before


# --- merge_moves


def reshape(name: str, source: str, *shape: int) -> IntegerNode:
    return IntegerNode(name, "reshape", (source,), {"shape": list(shape)})


def test_a_chain_of_reshapes_becomes_one_though_others_read_its_links() -> None:
    a, b, c = like("a", 24), like("b", 3, 4, 2), like("c", 2, 12, zero_point=9)
    d = like("d", 48)
    nodes = [reshape("a", "x", 24), reshape("b", "a", 3, 4, 2), reshape("c", "b", 2, 12), reshape("e", "c", 24)]
    nodes += [IntegerNode("d", "concat", ("a", "e"), {"axis": 0})]
    before = graph_of([X, a, b, c, like("e", 24), d], [X], nodes)
    after = dead_nodes(merge_moves(before))
    assert [(n.op, n.inputs) for n in after.nodes] == [("reshape", ("x",)), ("reshape", ("x",)), ("concat", ("a", "e"))]
    assert assert_lossless(before, after)


def test_a_global_pool_drops_its_axes_itself() -> None:
    p, f = like("p", 1, 1, 2), like("f", 2)
    nodes = [build.global_avg_pool("p", X, p), reshape("f", "p", 2)]
    before = graph_of([X, p, f], [X], nodes)
    after = merge_moves(before)
    assert names(after) == ["f"]
    assert after.by_name["f"].op == "global_avg_pool"
    assert assert_lossless(before, after)
    kept = IntegerGraph("g", before.tensors, ("x",), before.nodes, ("f", "p"))
    assert merge_moves(kept) is kept


def test_pads_add_up_and_slices_of_slices_too() -> None:
    p, q = like("p", 5, 6, 2), like("q", 8, 7, 2)
    s, t = like("s", 6, 7, 2), like("t", 2, 7, 2)
    nodes = [
        IntegerNode("p", "pad", ("x",), {"padding": [1, 2, 0, 1]}),
        IntegerNode("q", "pad", ("p",), {"padding": [0, 1, 3, 0]}),
        IntegerNode("s", "slice", ("q",), {"axis": 0, "start": 1, "stop": 7}),
        IntegerNode("t", "slice", ("s",), {"axis": 0, "start": 2, "stop": 4}),
    ]
    before = graph_of([X, p, q, s, t], [X], nodes)
    after = merge_moves(before)
    assert [dict(n.attrs) for n in after.nodes] == [
        {"padding": [1, 3, 3, 1]},
        {"axis": 0, "start": 3, "stop": 5},
    ]
    assert after.outputs == ("t",)
    assert assert_lossless(before, after)
    shared = IntegerGraph("g", before.tensors, ("x",), before.nodes, ("t", "p", "s"))
    assert merge_moves(shared) is shared


def test_pads_with_different_values_stay_two() -> None:
    p, q = like("p", 5, 3, 2), like("q", 6, 3, 2, zero_point=4)
    nodes = [IntegerNode(b, "pad", (a,), {"padding": [1, 0, 0, 0]}) for a, b in (("x", "p"), ("p", "q"))]
    ig = graph_of([X, p, q], [X], nodes)
    assert merge_moves(ig) is ig


@pytest.mark.parametrize(
    ("start", "stop", "expected"), [(0, 2, ("a", 0, 2)), (2, 5, ("b", 0, 3)), (3, 4, ("b", 1, 2)), (1, 3, None)]
)
def test_a_slice_of_a_concat_reads_the_part_itself(start: int, stop: int, expected: Any) -> None:
    a, first = conv("a", X)
    b, second = conv("b", X, 3)
    c, s = like("c", 4, 3, 5), like("s", 4, 3, stop - start)
    cat = IntegerNode("c", "concat", ("a", "b"), {"axis": 2})
    cut = IntegerNode("s", "slice", ("c",), {"axis": 2, "start": start, "stop": stop})
    before = graph_of([X, a, b, c, s], [X], [first, second, cat, cut])
    after = merge_moves(before)
    assert assert_lossless(before, after)
    if expected is None:
        assert after is before
    else:
        node = after.by_name["s"]
        assert (node.inputs[0], node.attrs["start"], node.attrs["stop"]) == expected


def test_concats_along_one_axis_become_one() -> None:
    a, first = conv("a", X)
    b, second = conv("b", X, 3)
    c, d, e = like("c", 4, 3, 5), like("d", 4, 3, 9), like("e", 8, 3, 9)
    nodes = [first, second, IntegerNode("c", "concat", ("a", "b"), {"axis": 2})]
    nodes += [
        IntegerNode("d", "concat", ("x", "c", "a"), {"axis": 2}),
        IntegerNode("e", "concat", ("d", "d"), {"axis": 0}),
    ]
    before = graph_of([X, a, b, c, d, e], [X], nodes)
    after = merge_moves(before)
    assert names(after) == ["a", "b", "d", "e"]
    assert after.by_name["d"].inputs == ("x", "a", "b", "a")
    assert assert_lossless(before, after)


# --- drop_softmax


def with_softmax(logits_out: bool = False) -> IntegerGraph:
    x, logits, p = like("x", 5), like("logits", 3), QTensor("p", (3,), 1 / 256, -128)
    nodes = [weighted("dense", x, logits, random_weights(1, 3, 5), scale=0.002), build.softmax("p", logits)]
    ig = graph_of([x, logits, p], [x], nodes)
    return replace(ig, outputs=("p", "logits")) if logits_out else ig


def test_softmax_goes_on_request_only() -> None:
    before = with_softmax()
    assert lossless(before) is before
    after = lossless(before, drop_softmax=True)
    assert after.outputs == ("logits",)
    assert names(after) == ["logits"]
    feeds = stimuli(before, 1)
    np.testing.assert_array_equal(output(after, feeds)[0], run(replace(before, outputs=("logits",)), feeds)["logits"])


def test_softmax_stays_where_its_logits_are_an_output_or_an_input() -> None:
    ig = with_softmax(logits_out=True)
    assert drop_softmax(ig) is ig
    x, p = like("x", 3), QTensor("p", (3,), 1 / 256, -128)
    ig = graph_of([x, p], [x], [build.softmax("p", x)])
    assert drop_softmax(ig) is ig


def test_what_follows_softmax_goes_with_it() -> None:
    before = with_softmax()
    q, r, s = like("q", 3, scale=1 / 128), like("r", 1, 1, 3, scale=1 / 128), like("s", 3, scale=1 / 128)
    nodes = [*before.nodes, build.requantize("q", before.tensors["p"], q)]
    requantized = graph_of([*before.tensors.values(), q], [before.tensors["x"]], nodes)
    assert lossless(requantized, drop_softmax=True).outputs == ("logits",)
    nodes += [reshape("r", "q", 1, 1, 3)]
    reshaped = graph_of([*before.tensors.values(), q, r], [before.tensors["x"]], nodes)
    after = lossless(reshaped, drop_softmax=True)
    assert [n.op for n in after.nodes] == ["dense", "reshape"]
    assert after.outputs == ("r",)
    assert after.tensors["r"] == replace(before.tensors["logits"], name="r", shape=(1, 1, 3))
    nodes += [reshape("s", "r", 3)]
    back = graph_of([*before.tensors.values(), q, r, s], [before.tensors["x"]], nodes)
    feeds = stimuli(before, 1)
    expected = output(replace(before, outputs=("logits",)), feeds)[0]
    for ig in (reshaped, back):
        got = output(lossless(ig, drop_softmax=True), feeds)[0]
        np.testing.assert_array_equal(got.reshape(expected.shape), expected)


def test_a_table_behind_softmax_goes_with_it_if_it_keeps_the_order_of_values() -> None:
    before, q = with_softmax(), like("q", 3)
    for table, outputs in ((np.arange(-64, 64).repeat(2), ("logits",)), (np.arange(127, -129, -1), ("q",))):
        node = IntegerNode("q", "lut", ("p",), {"kind": "table"}, {"table": table.astype(np.int8)})
        ig = graph_of([*before.tensors.values(), q], [before.tensors["x"]], [*before.nodes, node])
        assert drop_softmax(ig).outputs == outputs


def test_softmax_inside_the_network_stays() -> None:
    before = with_softmax()
    y = like("y", 2)
    nodes = (*before.nodes, weighted("dense", before.tensors["p"], y, random_weights(2, 2, 3)))
    ig = IntegerGraph("g", {**before.tensors, "y": y}, ("x",), nodes, ("y",))
    assert drop_softmax(ig) is ig
