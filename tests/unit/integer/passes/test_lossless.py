"""All passes together, on networks nobody thought of."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_cases import stimuli
from integer_pass_cases import assert_lossless, output
from random_graphs import graphs
from random_integer_graphs import integer_graphs, sketched

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.tflite import run_tflm, to_tflite
from thumbnet.graph.graph import Graph
from thumbnet.graph.passes import clean
from thumbnet.importers.tflite import import_tflite
from thumbnet.integer.graph import IntegerGraph
from thumbnet.integer.lower import lower
from thumbnet.integer.passes import PASSES, lossless, lossless_report, macs, validate


@given(integer_graphs(), st.sampled_from([1, 2, 4]))
@settings(max_examples=80, deadline=None)
def test_random_integer_graphs_keep_every_byte(ig: IntegerGraph, multiple: int) -> None:
    after = lossless(ig, channel_multiple=multiple)
    assert_lossless(ig, after)
    assert lossless(after, channel_multiple=multiple) is after
    assert macs(after) <= macs(ig)
    assert len(after.nodes) <= len(ig.nodes)
    assert after.outputs == ig.outputs
    assert [(t.scale, t.zero_point, t.shape) for t in (after.tensors[v] for v in (*ig.inputs, *ig.outputs))] == [
        (t.scale, t.zero_point, t.shape) for t in (ig.tensors[v] for v in (*ig.inputs, *ig.outputs))
    ]


@given(graphs(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_lowered_float_graphs_keep_every_byte(graph: Graph, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cleaned = clean(graph)
    names = (*(i.name for i in cleaned.inputs), *(n.name for n in cleaned.nodes))
    try:
        ig = lower(cleaned, {v: (-float(rng.uniform(0, 2)), float(rng.uniform(0.1, 3))) for v in names})
    except UnsupportedOpError:
        return
    assert_lossless(ig, lossless(ig), seed)


def test_each_pass_keeps_every_byte_by_itself_and_has_something_to_do() -> None:
    """The random graphs are worth nothing if no pass finds anything in them."""
    worked: Counter[str] = Counter()
    exported = 0
    for seed in range(150):
        ig = sketched(seed, 1 + seed % 12)
        if not ig.nodes:
            continue
        feeds = stimuli(ig, seed, 4)
        expected = output(ig, feeds)[0]
        for step in PASSES * 2:
            after = step(ig)
            if after is not ig:
                worked[step.__name__] += 1
                validate(after)
                np.testing.assert_array_equal(output(after, feeds)[0], expected, err_msg=f"{seed} {step.__name__}")
            ig = after
        exported += assert_lossless(sketched(seed, 1 + seed % 12), lossless(ig), seed)
    assert all(worked[step.__name__] >= 5 for step in PASSES), worked
    assert exported >= 100


def test_equal_graphs_give_equal_graphs() -> None:
    for seed in range(20):
        first, second = (lossless(sketched(seed, 10)) for _ in range(2))
        assert first.digest == second.digest


def exportable(ig: IntegerGraph) -> bool:
    try:
        to_tflite(ig)
    except UnsupportedOpError:
        return False
    return True


def test_only_tables_made_of_tables_cost_the_export() -> None:
    lost = 0
    for seed in range(200):
        ig = sketched(seed, 1 + seed % 12)
        after = lossless(ig)
        if exportable(ig) and not exportable(after):
            lost += 1
            assert any(n.attrs.get("kind") == "table" for n in after.nodes)
    assert lost > 0


# --- the report


def test_the_report_says_what_went() -> None:
    for seed in range(60):
        ig = sketched(seed, 10)
        after = lossless(ig)
        lines = "\n".join(lossless_report(ig, after))
        assert bool(lines) == (after is not ig)
        assert (f"Multiply-accumulates: {macs(ig):,} to {macs(after):,}." in lines) == (macs(ig) != macs(after))
        form = {n.name: n.op for n in after.nodes if "conv2d" in n.op}  # one kind may have become the other
        gone = Counter(form.get(n.name, n.op) if "conv2d" in n.op else n.op for n in ig.nodes)
        gone.subtract(Counter(n.op for n in after.nodes))
        for op, count in gone.items():
            assert (f"{count} {op} node" in lines) == (count > 0)


# --- the models of MLPerf Tiny


def model(name: str) -> Path:
    shared = os.environ.get("THUMBNET_SHARED")
    if not shared:
        pytest.skip("THUMBNET_SHARED names no folder with the MLPerf Tiny models")
    path = Path(shared, "models", "mlperf_tiny", f"{name}.tflite")
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def assert_equals_the_file(path: Path, after: IntegerGraph, samples: np.ndarray) -> None:
    expected = run_tflm(path.read_bytes(), samples)
    np.testing.assert_array_equal(
        np.reshape(output(after, {after.inputs[0]: samples})[0], np.shape(expected)), expected
    )


def smooth_images(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Noise at several resolutions: closer to photographs than white noise, so that more channels come alive."""
    rng, images = np.random.default_rng(0), []
    for k in range(count):
        size = int(2 ** rng.integers(1, 6))
        coarse = rng.integers(-128, 128, (size, size, shape[2]))
        rows, columns = (np.arange(n) * size // n for n in shape[:2])
        images.append(coarse[rows][:, columns] if k % 8 else rng.integers(-128, 128, shape))
    return np.stack(images).astype(np.int8)


def test_visual_wake_words_loses_half_its_work() -> None:
    path = model("vww_96_int8")
    ig = import_tflite(path).graph
    after = lossless(ig)
    convolutions = [n for n in after.nodes if n.op in ("conv2d", "depthwise_conv2d")]
    assert macs(ig) == 7_489_664
    assert macs(after) == 3_727_313
    assert sum(n.arrays["weight"].nbytes for n in convolutions) == 29_022
    images = np.concatenate([smooth_images(40, (96, 96, 3)), stimuli(ig, 0, 0)[ig.inputs[0]]])
    expected = output(ig, {ig.inputs[0]: images})[0]
    assert len(np.unique(expected[:, 0])) > 10
    np.testing.assert_array_equal(output(after, {after.inputs[0]: images})[0], expected)
    assert_equals_the_file(path, after, images[-8:])
    np.testing.assert_array_equal(run_tflm(to_tflite(after), images[-8:]), expected[-8:])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("pretrainedResnet_quant", 12_501_632),
        ("kws_ref_model", 2_656_768),
        ("ad01_int8", 264_192),
        ("str_ww_ref_model", 826_368),
    ],
)
def test_the_other_models_have_nothing_dead(name: str, count: int) -> None:
    path = model(name)
    ig = import_tflite(path).graph
    after = lossless(ig)
    assert after is ig
    assert macs(after) == count
