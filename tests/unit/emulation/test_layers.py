from __future__ import annotations

import pytest

from thumbnet.cost.probes import ProbeBuilder
from thumbnet.emulation.cycles import CallCost
from thumbnet.emulation.layers import calls_per_node, layer_costs, macs
from thumbnet.errors import ToolchainError
from thumbnet.exporters.c import emit
from thumbnet.integer.graph import IntegerGraph
from thumbnet.targets import load_target


def branches() -> IntegerGraph:
    """A convolution, a reshape that computes nothing, and a concatenation that takes two calls."""
    b = ProbeBuilder(0)
    x = b.conv2d(b.input(6, 5, 3), 4, (3, 3))
    x = b.concat(x, b.lut(x))
    b.dense(b.reshape(x, 240), 3)
    return b.graph()


def test_calls_belong_to_nodes() -> None:
    ig = branches()
    text = emit(ig, load_target("rp2040"))["model.c"]
    assert [n.op for n in ig.nodes] == ["conv2d", "lut", "concat", "reshape", "dense"]
    assert calls_per_node(text) == [1, 1, 2, 0, 1]
    costs = layer_costs(ig, text, [CallCost("f", 10**i, 2 * 10**i) for i in range(5)])
    assert [c.instructions for c in costs] == [1, 10, 1100, 0, 10000]
    assert [c.cycles for c in costs] == [2, 20, 2200, 0, 20000]
    assert [c.macs for c in costs] == [6 * 5 * 4 * 27, 0, 0, 0, 720]
    assert costs[0].weight_bytes == 108
    assert costs[0].parameter_bytes == 4 * (4 + 4 + 1)


def test_no_figure_stands_at_the_wrong_layer() -> None:
    ig = branches()
    text = emit(ig, load_target("rp2040"))["model.c"]
    assert layer_costs(ig, text, [CallCost("f", 1, 1)] * 4) == ()
    with pytest.raises(ToolchainError, match="model_invoke"):
        calls_per_node("int main(void) { return 0; }")


def test_products_of_a_depthwise_convolution() -> None:
    b = ProbeBuilder(0)
    b.depthwise_conv2d(b.input(8, 8, 6), (3, 3), (2, 2))
    ig = b.graph()
    assert macs(ig.nodes[0], ig) == 4 * 4 * 6 * 9
