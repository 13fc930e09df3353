"""What is read is not overwritten before, at the tightest places that the overlaps allow and farther away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thumbnet.cost.blocks import copies_of
from thumbnet.cost.kernel import ALIGNMENT, Overlap, Window, channel_overlap, window_of
from thumbnet.cost.kernels import choose
from thumbnet.cost.probes import ProbeBuilder
from thumbnet.integer.graph import IntegerGraph

Step = tuple[str, range, range]  # an input, bytes read from it, bytes of the output written then


def spoils(steps: list[Step], name: str, distance: int) -> bool:
    """Whether a step reads, of the input called so, what an earlier one has overwritten or it copies onto itself."""
    written: set[int] = set()
    for source, read, write in steps:
        if source == name:
            there = range(read.start + distance, read.stop + distance)
            same = list(there) == list(write)
            if written & set(there) or (not same and set(there) & set(write)):
                return True
        written |= set(write)
    return False


def copied(ig: IntegerGraph) -> list[Step]:
    node, found = ig.nodes[-1], []
    for v, c in copies_of(node, ig):
        for k in range(c.count):
            read, write = c.source_start + k * c.source_step, c.start + k * c.step
            found.append((v, range(read, read + c.size), range(write, write + c.size)))
    return found


def padded(ig: IntegerGraph) -> Iterator[Step]:
    """The rows of pad.c; borders are written without reading."""
    node = ig.nodes[-1]
    h, w, c = ig.tensors["input"].shape
    top, left, _, right = node.attrs["padding"]
    at = (left + w + right) * c * top
    yield "", range(0), range(at)
    for y in range(h):
        yield "", range(0), range(at, at + left * c)
        at += left * c
        yield "input", range(y * w * c, (y + 1) * w * c), range(at, at + w * c)
        yield "", range(0), range(at + w * c, at + (w + right) * c)
        at += (w + right) * c
    yield "", range(0), range(at, ig.tensors[node.name].bytes)


def resized(ig: IntegerGraph) -> Iterator[Step]:
    (in_h, in_w, c), (h, w, _) = ig.tensors["input"].shape, ig.tensors[ig.nodes[-1].name].shape
    for p in range(h * w):
        y, x = divmod(p, w)
        source = (y * in_h // h * in_w + x * in_w // w) * c
        yield "input", range(source, source + c), range(p * c, (p + 1) * c)


@st.composite
def movers(draw: st.DrawFn) -> tuple[IntegerGraph, list[Step], dict[str, Overlap | None]]:
    b = ProbeBuilder()
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 2, 3, 16])))
    x = b.input(*shape)
    kind = draw(st.sampled_from(["concat", "slice", "pad", "resize"]))
    axis = draw(st.integers(0, 2))
    if kind == "concat":
        parts = [x, *(b.lut(x) for _ in range(draw(st.integers(1, 2))))]
        if draw(st.booleans()) and shape[axis] > 1:
            parts[0] = b.slice(x, axis, 0, 1)
        b.concat(*draw(st.permutations(parts)), axis=axis)
    elif kind == "slice":
        start = draw(st.integers(0, shape[axis] - 1))
        b.slice(x, axis, start, draw(st.integers(start + 1, shape[axis])))
    elif kind == "pad":
        b.pad(x, draw(st.tuples(*[st.integers(0, 2)] * 4)))
    else:
        b.resize_nearest(x, draw(st.tuples(st.integers(1, 7), st.integers(1, 7))))
    ig = b.graph()
    node = ig.nodes[-1]
    steps = {"pad": padded, "resize": resized}.get(kind, copied)(ig)
    return ig, list(steps), dict(zip(node.inputs, choose(node, ig, "generic").overlaps, strict=True))


@settings(max_examples=300, deadline=None)
@given(movers())
def test_copies_read_before_they_overwrite(case: tuple[IntegerGraph, list[Step], dict[str, Overlap | None]]) -> None:
    ig, steps, overlaps = case
    assert {at for _, _, write in steps for at in write} == set(range(ig.tensors[ig.nodes[-1].name].bytes))
    for name, overlap in overlaps.items():
        if overlap is not None:
            assert not spoils(steps, name, overlap.distance)
            assert overlap.distance % ALIGNMENT == 0 or not overlap.exact
            for more in (1, 3, 50) if not overlap.exact else ():
                assert not spoils(steps, name, overlap.distance + more)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.integers(3, 7), st.integers(3, 7), st.sampled_from([1, 2, 3, 16])),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_pools_compute_each_channel_where_it_does_not_meet_another(shape, kernel, stride) -> None:
    b = ProbeBuilder()
    b.pool("max_pool2d", b.input(*shape), kernel, stride)
    ig = b.graph()
    w: Window = window_of(ig.nodes[0], ig)
    overlap = channel_overlap(w)
    steps: list[Step] = []
    for c in range(w.in_c):
        for p in range(w.out_h * w.out_w):
            y, x = p // w.out_w * w.stride[0] - w.padding[0], p % w.out_w * w.stride[1] - w.padding[1]
            for i in range(max(y, 0), min(y + w.kernel[0], w.in_h)):
                for j in range(max(x, 0), min(x + w.kernel[1], w.in_w)):
                    at = (i * w.in_w + j) * w.in_c + c
                    steps.append(("input", range(at, at + 1), range(0)))
            steps.append(("", range(0), range(p * w.out_c + c, p * w.out_c + c + 1)))
    assert overlap.exact
    assert overlap.distance % ALIGNMENT == 0
    assert not spoils(steps, "input", overlap.distance)


@pytest.mark.parametrize("axis", [0, 2])
def test_what_is_in_its_place_is_not_copied(axis: int) -> None:
    """A concat along the first axis whose parts die with it needs no memory beside its output, and no copy."""
    from thumbnet.cost.memory import plan_arena
    from thumbnet.exporters.c import emit
    from thumbnet.targets import load_target

    b = ProbeBuilder(3)
    x = b.input(4, 4, 4)
    b.concat(b.conv2d(x, 16), b.lut(b.conv2d(x, 16, (3, 3))), axis=axis)
    ig = b.graph()
    copies = emit(ig, load_target("cortex-m4"))["model.c"].count("tn_copy_blocks(")
    assert copies == (0 if axis == 0 else 2)
    assert plan_arena(ig, "generic").arena_bytes <= (512 + 96 if axis == 0 else 768 + 144)
