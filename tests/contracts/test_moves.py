"""What every move must hold to, on every architecture of the zoo. A new move is tested here by being in the table."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo import ZOO, network

from thumbnet.cost import estimate
from thumbnet.data import Preprocessing
from thumbnet.errors import ModelError
from thumbnet.graph.blocks import Block, part, regions
from thumbnet.graph.channels import channel_groups
from thumbnet.graph.evaluate import evaluate_graph, evaluate_values
from thumbnet.graph.graph import Graph, Input, Node
from thumbnet.graph.passes import clean
from thumbnet.importers.load import load_imported
from thumbnet.integer.lower import lower
from thumbnet.integer.passes.join_inputs import join_ports
from thumbnet.integer.quantization import weight_bits
from thumbnet.results import Constraints
from thumbnet.search.fit import Fitter
from thumbnet.search.moves import (
    MOVES,
    GreyInput,
    InheritTaught,
    LowRank,
    Separate,
    SetBits,
    SetKernel,
    SetWidths,
    SwapActivation,
)
from thumbnet.search.moves.activation import CHEAPER
from thumbnet.search.moves.layers import bare_name, layer_of, stored_bytes
from thumbnet.search.recipe import Context, Move, Recipe
from thumbnet.search.select import uniform_plans
from thumbnet.search.shape import Shape
from thumbnet.search.space import explore_space
from thumbnet.search.variants import Variant, exchanges
from thumbnet.search.variants import forms as forms_of
from thumbnet.targets import load_target
from thumbnet.training.module import GraphModule
from thumbnet.training.normalize import insert_batch_norm, restore_names

SAMPLED = 4  # options of each move and network
RESHAPES_INPUT = ("resolution", "grey")


def conv(name: str, x: str, outputs: int, inputs: int, k: int, pad: int = 0, stride: int = 1, **more: object) -> Node:
    weight = np.random.default_rng(len(name)).normal(0, (inputs * k * k) ** -0.5, (outputs, inputs, k, k))
    attrs = {"stride": [stride] * 2, "padding": [pad] * 4, "dilation": [1, 1], "groups": 1, "activation": "relu"}
    weights = {"weight": weight.astype(np.float32), "bias": np.full(outputs, 0.1, np.float32)}
    return Node(name, "conv2d", (x,), {**attrs, **more}, weights)


def dense(name: str, x: str, outputs: int, inputs: int) -> Node:
    weight = np.random.default_rng(outputs).normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)
    return Node(name, "dense", (x,), {"activation": "none"}, {"weight": weight, "bias": np.zeros(outputs, np.float32)})


def residual() -> Graph:
    """A wide residual network with a 5×5 first layer, a dilated layer, and a window whose padding differs by side."""
    nodes = (
        conv("stem", "x", 16, 3, 5, 2),
        conv("first", "stem", 16, 16, 3, 1),
        conv("second", "first", 16, 16, 3, 2, dilation=[2, 2], activation="none"),
        Node("sum", "add", ("stem", "second"), {"activation": "relu"}),
        conv("down", "sum", 24, 16, 3, stride=2, padding=[0, 0, 1, 1]),
        conv("mix", "down", 32, 24, 1),
        Node("pool", "global_avg_pool", ("mix",), {"keepdims": False}),
        dense("head", "pool", 5, 32),
    )
    return Graph("residual", (Input("x", (3, 64, 64)),), nodes, ("head",))


NETWORKS = (*ZOO, "residual")


@cache
def forms(name: str) -> tuple[Graph, Graph]:
    """The network as recipes see it: normalized, and bare."""
    graph = residual() if name == "residual" else load_imported(network(name), list(ZOO[name].shapes)).graph
    generator = torch.Generator().manual_seed(0)
    graph = clean(graph)
    images = [torch.randn((8, *i.shape), generator=generator) for i in graph.inputs]
    normalized = insert_batch_norm(graph, *images)
    return normalized, restore_names(clean(normalized))


TAUGHT = "a variant"


@cache
def context(name: str) -> Context:
    """Random importance, and something that every second layer has learned."""
    rng, graph = np.random.default_rng(0), forms(name)[0]
    learned = {
        n.name: {k: (w * 1.5 + 0.01).astype(np.float32) for k, w in n.weights.items()}
        for n in [n for n in graph.nodes if n.weights][::2]
    }
    importance = {g.id: rng.uniform(size=g.size) for g in channel_groups(graph) if not g.pinned}
    return Context(importance, taught={TAUGHT: learned})


def sampled(kind: str, name: str) -> list[Move]:
    if kind == "taught":  # a graph does not tell what was taught
        return [InheritTaught((TAUGHT,))]
    options = MOVES[kind].options(forms(name)[0])
    if len(options) <= SAMPLED:
        return list(options)
    return [options[k] for k in np.linspace(0, len(options) - 1, SAMPLED).astype(int)]


def facts(graph: Graph) -> list[tuple[object, ...]]:
    inputs: list[tuple[object, ...]] = [(i.name, i.shape) for i in graph.inputs]
    return inputs + [
        (n.name, n.op, n.inputs, json.dumps(dict(n.attrs), sort_keys=True), {k: w.shape for k, w in n.weights.items()})
        for n in graph.nodes
    ]


def without_values(graph: Graph) -> Graph:
    """As costs are had: weights of the right shapes that take no memory."""
    half = np.float32(0.5)
    return graph.with_nodes(
        n.with_weights(**{k: np.broadcast_to(half, w.shape) for k, w in n.weights.items()}) for n in graph.nodes
    )


def parameter_bytes(graph: Graph) -> float:
    return sum(stored_bytes(n) if "weight" in n.weights else 4 * n.parameters for n in graph.nodes)


def outputs_of(graph: Graph) -> torch.Tensor:
    """What the network gives for noise; all outputs in one vector."""
    generator = torch.Generator().manual_seed(0)
    feeds = {i.name: torch.randn((2, *i.shape), generator=generator) for i in graph.inputs}
    with torch.inference_mode():
        values = evaluate_values(graph, feeds)
    return torch.cat([values[v].flatten() for v in graph.outputs])


@pytest.mark.parametrize("kind", MOVES)
def test_the_table_names_each_move_by_its_kind_and_some_network_allows_it(kind: str) -> None:
    assert MOVES[kind].kind == kind
    allowed = any(MOVES[kind].options(forms(name)[0]) for name in NETWORKS)
    assert allowed == (
        kind != "taught"
    )  # a graph alone does not tell what was taught: tests/unit/search/test_variants.py


@pytest.mark.parametrize("kind", MOVES)
def test_the_page_has_a_line_for_each_move(kind: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/moves.md").read_text()
    move = MOVES[kind]
    arguments = ", ".join(f.name for f in fields(move))  # type: ignore[arg-type]
    assert f"| `{move.__name__}({arguments})` | {kind} |" in page


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", MOVES)
def test_a_move_gives_the_same_valid_network_from_both_forms(kind: str, name: str) -> None:
    normalized, bare = forms(name)
    assert MOVES[kind].options(normalized) == MOVES[kind].options(normalized)
    for move in sampled(kind, name):
        recipe = Recipe((move,))
        moved = recipe.apply(normalized, context(name))
        # What was taught goes by the normalized form's names; it changes weights alone.
        on_bare = Recipe(()) if kind == "taught" else recipe
        slim = on_bare.apply(bare, context(name))
        assert facts(restore_names(clean(moved))) == facts(slim), str(move)
        assert moved.digest == recipe.apply(normalized, context(name)).digest
        assert moved.digest != normalized.digest
        assert moved.outputs == normalized.outputs
        if kind not in RESHAPES_INPUT:
            assert moved.inputs == normalized.inputs
        if kind != "resolution":  # what comes out may be a map of what goes in
            assert [moved.shapes[v] for v in moved.outputs] == [normalized.shapes[v] for v in normalized.outputs]
        assert facts(on_bare.apply(without_values(bare), context(name))) == facts(slim), str(move)
        assert parameter_bytes(slim) <= parameter_bytes(bare), str(move)
        lower(slim, None)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", MOVES)
def test_a_recipe_survives_json_and_the_groups_elsewhere_survive_the_move(kind: str, name: str) -> None:
    normalized, _ = forms(name)
    before = {g.id for g in channel_groups(normalized)}
    for move in sampled(kind, name):
        recipe = Recipe((move,))
        again = Recipe.from_json(json.loads(json.dumps(recipe.json())))
        assert again == recipe
        assert again.id == recipe.id
        assert str(move)
        if kind not in ("skip", "truncate"):
            assert before <= {g.id for g in channel_groups(move.apply(normalized, context(name)))}


@pytest.mark.parametrize("name", NETWORKS)
def test_moves_at_different_layers_can_change_places(name: str) -> None:
    normalized, _ = forms(name)
    sites: dict[str, Move] = {}
    for kind in ("kernel", "separate", "low_rank", "activation"):
        for move in MOVES[kind].options(normalized):
            sites.setdefault(move.json()["node"], move)
    for move in SetBits.options(normalized):
        (node,) = move.bits
        sites.setdefault(node, move)
    moves = tuple(sites[node] for node in sorted(sites, key=lambda n: sites[n].kind))
    moves = moves[:: max(1, len(moves) // 8)]  # of every kind
    there, back = (Recipe(m).apply(normalized, context(name)) for m in (moves, moves[::-1]))
    assert facts(there) == facts(back)
    assert there.digest == back.digest


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", [k for k in MOVES if k not in ("widths", "truncate")])  # which comes behind widths
def test_widths_can_be_set_behind_a_move(kind: str, name: str) -> None:
    normalized, _ = forms(name)
    for move in sampled(kind, name):
        moved = move.apply(normalized, context(name))
        widths = {g.id: max(1, g.size // 2) for g in channel_groups(moved) if not g.pinned}
        narrow = SetWidths(widths).apply(moved, context(name))
        narrow.validate()
        assert {g.id: g.size for g in channel_groups(narrow) if not g.pinned} == widths, str(move)


@pytest.mark.parametrize("name", NETWORKS)
def test_costs_are_fitted_to_what_the_recipe_gives(name: str) -> None:
    """Whatever a block can become, in all blocks at once, with and without limits: bytes and products of the skeleton
    are those of the candidate."""
    normalized, _ = forms(name)
    space = explore_space(normalized, greys=(False, True) if GreyInput.options(normalized) else (False,))
    variants = [(Variant(b.name, (), False, 0.0, {}), *made(normalized, b)) for b in regions(normalized)]
    target = load_target("nrf52840")
    for limits in (Constraints(), Constraints(flash_bytes=12 << 10, ram_bytes=9 << 10)):
        fitter = Fitter(space, context(name), target, limits)
        for plan in uniform_plans(variants):
            fitted = fitter.fit(Shape(None, plan.skips, None, 1.0, exchanges=plan.exchanges, grey=space.greys[-1]))
            assert fitted is not None, plan
            candidate = restore_names(clean(fitted.recipe.apply(normalized, context(name))))
            real = estimate(join_ports(lower(candidate, None)), target)
            costs = fitted.costs
            assert (real.flash_bytes, real.ram_bytes, real.macs) == (costs.flash_bytes, costs.ram_bytes, costs.macs), (
                plan
            )


def made(graph: Graph, block: Block) -> list[Variant]:
    """What the block can become, untaught."""
    whole = part(graph, block)
    return [Variant(block.name, f, False, 1.0, {}) for e in exchanges(whole) for f in forms_of(e, whole) if f]


def test_what_fits_does_not_depend_on_what_was_fitted_before() -> None:
    normalized, _ = forms("mobilenet_v2")
    space = explore_space(normalized, greys=(False, True))
    shapes = [Shape(None, (), r, 1.0, grey=grey) for r in space.resolutions for grey in space.greys]
    limits = Constraints(ram_bytes=4 << 10)

    def fit(order: list[Shape]) -> dict[Shape, dict[str, int]]:
        fitter = Fitter(space, context("mobilenet_v2"), load_target("nrf52840"), limits)
        found = {shape: fitter.fit(shape) for shape in order}
        return {shape: f.widths for shape, f in found.items() if f is not None}

    assert len(fit(shapes)) == len(shapes)
    assert fit(shapes) == fit(shapes[::-1])


def test_what_was_taught_must_be_there_and_must_fit() -> None:
    graph, own = forms("residual")[0], context("residual")
    moved = InheritTaught((TAUGHT,)).apply(graph, own)
    for node, weights in own.taught[TAUGHT].items():
        for key, weight in weights.items():
            np.testing.assert_array_equal(moved.by_name[node].weights[key], weight)
    with pytest.raises(ModelError, match=TAUGHT):
        InheritTaught((TAUGHT,)).apply(graph, Context({}))
    with pytest.raises(ModelError, match="does not fit"):
        InheritTaught((TAUGHT,)).apply(SetWidths({"stem": 8}).apply(graph, own), own)


def test_a_smaller_kernel_is_exact_where_what_goes_is_zero() -> None:
    graph = forms("residual")[0]
    for move in SetKernel.options(graph):
        node = layer_of(graph, move.node)
        weight = node.weights["weight"].copy()
        moved = move.apply(graph, Context({}))
        kept = layer_of(moved, move.node).weights["weight"].shape[2]
        pads = (node.attrs["padding"][0] - layer_of(moved, move.node).attrs["padding"][0]) // node.attrs["dilation"][0]
        inside = np.zeros(weight.shape, bool)
        inside[:, :, pads : pads + kept, pads : pads + kept] = True
        zeroed = node.with_weights(weight=np.where(inside, weight, 0).astype(np.float32))
        before = graph.with_nodes(zeroed if n.name == node.name else n for n in graph.nodes)
        torch.testing.assert_close(outputs_of(move.apply(before, Context({}))), outputs_of(before))


def test_the_kept_weights_are_the_least_squares_fit_for_correlated_pixels() -> None:
    """By solving the normal equations of the AR(1) field that the docstring names."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(2, 3, 5, 5)).astype(np.float32)
    node = conv("c", "x", 2, 3, 5, 2).with_weights(weight=weight)
    graph = Graph("one", (Input("x", (3, 8, 8)),), (node,), ("c",))
    found = SetKernel("c", 3).apply(graph, Context({})).by_name["c"].weights["weight"]
    at = np.stack(np.meshgrid(range(5), range(5), indexing="ij"), -1).reshape(25, 2)
    correlation = 0.5 ** np.abs(at[:, None] - at[None]).sum(-1)
    kept = np.array([1 <= y <= 3 and 1 <= x <= 3 for y, x in at])
    wanted = np.linalg.solve(correlation[np.ix_(kept, kept)], correlation[kept] @ weight.reshape(6, 25).T).T
    np.testing.assert_allclose(found.reshape(6, 9), wanted, atol=1e-5)


def test_separating_is_exact_where_the_filters_of_each_channel_are_multiples_of_one() -> None:
    graph = forms("residual")[0]
    rng = np.random.default_rng(0)
    node = layer_of(graph, "first")
    weight = rng.normal(size=(16, 16, 1, 1)) * rng.normal(size=(1, 16, 3, 3))
    rank_one = node.with_weights(weight=weight.astype(np.float32))
    before = graph.with_nodes(rank_one if n.name == node.name else n for n in graph.nodes)
    moved = Separate("first").apply(before, Context({}))
    torch.testing.assert_close(outputs_of(moved), outputs_of(before), atol=1e-4, rtol=1e-4)
    filters = moved.by_name["first.spatial"].weights["weight"].reshape(16, 9)
    np.testing.assert_allclose(np.linalg.norm(filters, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["first", "second", "mix", "head", "down"])
def test_the_full_rank_is_exact_and_a_lower_one_is_the_nearest(name: str) -> None:
    graph = forms("residual")[1]
    node = layer_of(graph, name)
    matrix = node.weights["weight"].reshape(len(node.weights["weight"]), -1).astype(np.float64)
    whole = LowRank(name, min(matrix.shape)).apply(graph, Context({}))
    torch.testing.assert_close(outputs_of(whole), outputs_of(graph), atol=1e-4, rtol=1e-4)
    cut = LowRank(name, 3).apply(graph, Context({}))
    first = cut.by_name[f"{name}.reduced"].weights["weight"].reshape(3, -1)
    second = cut.by_name[name].weights["weight"].reshape(-1, 3)
    rest = np.linalg.svd(matrix, compute_uv=False)[3:]
    np.testing.assert_allclose(np.linalg.norm(matrix - second @ first), np.linalg.norm(rest), rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=0), rtol=1e-4)


def test_the_channels_between_the_halves_narrow_from_the_last() -> None:
    graph = forms("residual")[0]
    assert "mix.reduced" not in context("residual").importance
    narrow = Recipe((LowRank("mix", 12), SetWidths({"mix.reduced": 5}))).apply(graph, context("residual"))
    direct = Recipe((LowRank("mix", 5),)).apply(graph, context("residual"))
    assert facts(narrow) == facts(direct)
    torch.testing.assert_close(outputs_of(narrow), outputs_of(direct), atol=1e-5, rtol=1e-5)


def test_bits_keep_the_float_function_and_are_inherited(tmp_path: Path) -> None:
    normalized, bare = forms("residual")
    move = SetBits({"first": 4, "head": 4, "stem": 8})
    moved = move.apply(normalized, Context({}))
    assert torch.equal(outputs_of(moved), outputs_of(normalized))
    assert {n.name for n in moved.nodes if weight_bits(n) == 4} == {"first.linear", "head"}
    split = Recipe((move, LowRank("first", 8), Separate("first.reduced"), SetWidths({"down": 12})))
    for form in (normalized, bare):
        graph = GraphModule(split.apply(form, Context({}))).to_graph()
        graph.save(tmp_path / "g.json")
        slim = restore_names(clean(Graph.load(tmp_path / "g.json")))
        four = {"first.reduced.spatial", "first.reduced", "first", "head"}
        assert {n.name for n in slim.nodes if weight_bits(n) == 4} == four
        assert {n.name for n in lower(slim, None).nodes if n.weight_bits == 4} == four
    assert SetBits({"head": 8}).apply(moved, Context({})).by_name["head"].attrs == normalized.by_name["head"].attrs


@pytest.mark.parametrize("name", ["mobilenet_v3", "mlp", "grouped"])
def test_an_exchanged_activation_costs_less(name: str) -> None:
    _, bare = forms(name)
    target = load_target("nrf52840")
    before = estimate(join_ports(lower(bare, None)), target)
    for move in SwapActivation.options(bare):
        after = estimate(join_ports(lower(move.apply(bare, Context({})), None)), target)
        assert after.cycles < before.cycles, str(move)
        assert after.flash_bytes <= before.flash_bytes, str(move)


def test_an_activation_that_gates_stays_bounded_and_an_answer_stays_as_it_is() -> None:
    nodes = (conv("c", "x", 4, 4, 1, activation="none"), Node("s", "sigmoid", ("c",)))
    gate = (Node("y", "mul", ("c", "s")), Node("t", "tanh", ("y",)))
    graph = Graph("gated", (Input("x", (4, 8, 8)),), (*nodes, *gate), ("t",))
    assert SwapActivation.options(graph) == (SwapActivation("s", "hard_sigmoid"),)


@pytest.mark.parametrize("name", ["mobilenet_v3", "mlp", "grouped"])
def test_a_block_may_end_in_an_activation_that_is_exchanged(name: str) -> None:
    """Its last value is an output of the block, but no answer of the network; and it keeps its layers' names, by which
    the whole network inherits what the block learns."""
    graph = forms(name)[0]
    costly = {n.name for n in graph.nodes if n.op in CHEAPER and n.name not in graph.outputs}
    found = set()
    for block in regions(graph):
        whole = part(graph, block)
        for exchange in exchanges(whole):
            found |= {m.node for m in exchange if isinstance(m, SwapActivation)}
            small, large = (Recipe(exchange).apply(g, Context({})) for g in (whole, graph))
            assert small.outputs == whole.outputs
            assert {n.name for n in small.nodes if n.weights} <= {n.name for n in large.nodes if n.weights}
    assert found == costly


@pytest.mark.parametrize("first", ["conv2d", "depthwise_conv2d"])
def test_grey_input_is_exact_on_grey_images(first: str) -> None:
    """Whatever the means and stds of the colours, without padding; with padding where the colours are alike."""
    unlike = Preprocessing((8, 8), 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    alike = Preprocessing((8, 8), 3, (0.5,) * 3, (0.3,) * 3).on_grid()
    for pad, colours in ((0, unlike), (1, alike)):
        node = conv("c", "p", 6, 1 if first == "depthwise_conv2d" else 3, 3, pad)
        pool = Node("p", "avg_pool2d", ("x",), {"kernel": [2, 2], "stride": [1, 1], "padding": [0] * 4})
        graph = Graph("g", (Input("x", (3, 8, 8)),), (pool, replace(node, op=first)), ("c",))
        graph.validate()
        pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
        seen, grey = np.repeat(pixels, 3, -1), colours.at((1, 8, 8))
        moved = GreyInput().apply(graph, Context({}, colours=colours.colours))
        expected = evaluate_graph(graph, colours.normalize(seen))
        np.testing.assert_allclose(evaluate_graph(moved, grey.normalize(seen)), expected, atol=1e-5)
        np.testing.assert_array_equal(grey.normalize(seen), grey.normalize(pixels))


@pytest.mark.parametrize("name", ["sensor_cnn", "unet", "mlp", "ds_cnn"])
def test_what_is_no_colour_image_is_not_made_grey(name: str) -> None:
    assert GreyInput.options(forms(name)[0]) == ()
    with pytest.raises(ModelError, match="grey"):
        GreyInput().apply(forms(name)[0], Context({}))


@pytest.mark.parametrize("kind", MOVES)
def test_options_of_a_moved_network_can_be_applied_too(kind: str) -> None:
    """Whatever has been done before, the same kind of move at the same layer included."""
    graph = forms("residual")[0]
    for first in ("separate", "low_rank", "kernel", "bits", "grey"):
        moved = Recipe(MOVES[first].options(graph)[:1]).apply(graph, Context({}))
        for move in MOVES[kind].options(moved):
            Recipe((move,)).apply(moved, Context({}))


def test_moves_combine_at_one_layer() -> None:
    normalized, bare = forms("residual")
    recipe = Recipe((SetKernel("stem", 3), LowRank("first", 8), Separate("first.reduced"), SetWidths({"stem": 12})))
    moved, slim = (recipe.apply(g, Context({})) for g in (normalized, bare))
    assert facts(restore_names(clean(moved))) == facts(slim)
    assert {"first.reduced.spatial", "first.reduced", "first"} <= set(slim.by_name)
    assert slim.by_name["first.reduced.spatial"].weights["weight"].shape == (12, 1, 3, 3)


@pytest.mark.parametrize(
    "move",
    [
        SetKernel("gone", 3),
        SetKernel("first", 3),
        SetKernel("down", 1, ),
        Separate("mix"),
        Separate("stem"),
        LowRank("first", 17),
        LowRank("sum", 4),
        SetBits({"first": 3}),
        SetBits({"sum": 4}),
        SwapActivation("sum", "relu6"),
        SwapActivation("gone", "relu"),
    ],
)  # fmt: skip
def test_a_move_that_does_not_fit_says_so(move: Move) -> None:
    graph = forms("residual")[0]
    if move == SetKernel("down", 1):
        graph = graph.with_nodes(
            n.with_attrs(padding=[0, 0, 0, 0]) if bare_name(graph, n) == "down" else n for n in graph.nodes
        )
    name = move.json()["node"] if "node" in move.json() else next(iter(move.json()["bits"]))
    with pytest.raises(ModelError, match=name):
        move.apply(graph, Context({}))
