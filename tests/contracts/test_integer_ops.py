"""What every operation of the integer graph must hold to. A new operation needs a case in `integer_op_cases`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_cases import assert_equals_tflm, stimuli
from integer_op_cases import CASES, drawn

from thumbnet.exporters.tflite import to_tflite
from thumbnet.importers.tflite import import_tflite
from thumbnet.integer.kernels import KERNELS
from thumbnet.integer.passes import lossless, validate
from thumbnet.integer.passes.intervals import bounds_of
from thumbnet.integer.simulate import run

each_op = pytest.mark.parametrize("op", CASES)
few = settings(max_examples=25, deadline=None)


def test_every_operation_has_a_case() -> None:
    assert set(CASES) == set(KERNELS)


@each_op
@given(st.integers(0, 2**32 - 1))
@few
def test_it_is_tflm_byte_for_byte(op: str, seed: int) -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro has wheels for Linux only")
    assert_equals_tflm(drawn(op, seed), seed)


@each_op
@given(st.integers(0, 2**32 - 1))
@few
def test_it_survives_the_way_through_a_file(op: str, seed: int) -> None:
    graph = drawn(op, seed)
    again = import_tflite(to_tflite(graph)).graph
    validate(again)
    feeds = stimuli(graph, seed)
    assert [t.shape for t in (again.tensors[v] for v in again.outputs)] == [graph.tensors["y"].shape]
    np.testing.assert_array_equal(run(again, feeds)[again.outputs[0]], run(graph, feeds)["y"])


@each_op
@given(st.integers(0, 2**32 - 1))
@few
def test_passes_keep_every_byte_and_bounds_hold(op: str, seed: int) -> None:
    graph = drawn(op, seed)
    validate(graph)
    feeds = stimuli(graph, seed)
    y = run(graph, feeds)["y"]
    np.testing.assert_array_equal(run(lossless(graph), feeds)["y"], y)
    bounds = bounds_of(graph)["y"]
    flat = y.reshape(-1, y.shape[-1])
    assert (flat >= bounds.low).all()
    assert (flat <= bounds.high).all()
