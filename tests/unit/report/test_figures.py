"""The figures: geometry that can be checked without eyes."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thumbnet.report.figures import Point, arena_timeline, confusion_matrix, curve_of, curves, layer_bars
from thumbnet.report.figures.arena import live_bytes
from thumbnet.report.figures.layers import layer_dumbbells, layer_pairs
from thumbnet.report.figures.pareto import front, pareto
from thumbnet.report.figures.svg import Scale, linear_ticks, log_ticks, tag
from thumbnet.report.units import count

finite = st.floats(-1e9, 1e9, allow_nan=False)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # the text is ours, made a line above


@given(finite, finite, st.integers(1, 12))
@example(0.0, 5e-324, 1)
def test_linear_ticks_are_few_round_and_inside(a: float, b: float, wanted: int) -> None:
    low, high = min(a, b), max(a, b)
    ticks = linear_ticks(low, high, wanted)
    air = (high - low) * 1e-6 + 1e-9 * max(abs(low), abs(high), 1)
    assert all(low - air <= t <= high + air for t in ticks)
    assert len(ticks) <= wanted + 1
    assert ticks == sorted(ticks)


@given(st.floats(1e-6, 1e9), st.floats(1.1, 1e9))
def test_log_ticks_are_inside(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor, 5)
    assert all(low * 0.999 <= t <= low * factor * 1.001 for t in ticks)
    assert ticks
    assert len(ticks) <= 8


@given(st.floats(1e-3, 1e6), st.floats(1.5, 1e6), st.floats(0, 1), st.booleans())
def test_scales_map_ends_to_ends_and_keep_order(low: float, factor: float, share: float, log: bool) -> None:
    scale = Scale(low, low * factor, 10, 110, log)
    assert scale(low) == pytest.approx(10, abs=1e-6)
    assert scale(low * factor) == pytest.approx(110, abs=1e-6)
    middle = low * factor**share if log else low + share * (low * factor - low)
    assert scale(middle) == pytest.approx(10 + 100 * share, abs=1e-3)


def test_text_and_attributes_are_escaped() -> None:
    element = parsed(tag("text", "<b>&", class_='a"b'))
    assert element.text == "<b>&"
    assert element.get("class") == 'a"b'


points = st.builds(
    Point,
    bytes=st.integers(1, 10**7),
    accuracy=st.one_of(st.none(), st.floats(0, 100)),
    feasible=st.booleans(),
    title=st.just("t"),
)


@given(st.lists(points, max_size=30))
def test_front_is_exactly_the_points_that_nothing_beats(items: list[Point]) -> None:
    scored = [p for p in items if p.feasible and p.accuracy is not None]

    def beaten(p: Point) -> bool:
        assert p.accuracy is not None
        return any(
            q.accuracy is not None
            and q.bytes <= p.bytes
            and q.accuracy >= p.accuracy
            and (q.bytes, q.accuracy) != (p.bytes, p.accuracy)
            for q in scored
        )

    expected = {(p.bytes, p.accuracy) for p in scored if not beaten(p)}
    found = [(p.bytes, p.accuracy) for p in front(items)]
    assert set(found) == expected
    assert len(found) == len(expected)


@given(st.lists(points, min_size=1, max_size=20), st.one_of(st.none(), st.integers(1024, 10**6)))
def test_pareto_draws_every_point_inside_the_figure(items: list[Point], limit: int | None) -> None:
    svg = parsed(pareto(items, cost="flash", limit=limit, reference=90.0))
    dots = list(svg.iter("circle"))
    rugs = list(svg.iter("path"))
    assert len(dots) + len(rugs) == len(items)
    assert len(rugs) == sum(p.accuracy is None for p in items)
    assert all(0 <= float(c.get("cx", -1)) <= 480 and 0 <= float(c.get("cy", -1)) <= 320 for c in dots)


def test_layers_are_paired_by_name_in_the_order_of_the_reference() -> None:
    before: Any = [{"name": n, "op": "conv2d", "macs": 10, "parameters": 1} for n in ("a", "b", "c")]
    after: Any = [{"name": n, "op": "conv2d", "macs": 5, "weight_bytes": 1} for n in ("in", "a", "mid", "c", "end")]
    pairs = layer_pairs(before, after)
    assert [p.name for p in pairs] == ["in", "a", "b", "mid", "c", "end"]
    assert [p.number for p in pairs] == [1, 2, 3, 4, 5, 6]
    assert [bool(p.before) for p in pairs] == [False, True, True, False, True, False]
    assert [bool(p.after) for p in pairs] == [True, True, False, True, True, True]
    assert pairs[1].macs == (10, 5)
    assert pairs[1].stored_bytes == (4, 1)


names = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(names, names)
def test_pairing_loses_and_doubles_nothing(first: list[str], second: list[str]) -> None:
    before: Any = [{"name": n} for n in first]
    after: Any = [{"name": n} for n in second]
    pairs = layer_pairs(before, after)
    assert [p.before["name"] for p in pairs if p.before] == first
    assert sorted(p.after["name"] for p in pairs if p.after) == sorted(second)
    assert all(p.before["name"] == p.after["name"] for p in pairs if p.before and p.after)


def test_bar_heights_are_proportional(details: dict[str, Any]) -> None:
    layers: Any = [{"name": n, "op": "conv2d", "cycles": c} for n, c in (("a", 100), ("b", 50), ("c", 0))]
    svg = parsed(layer_bars(layer_pairs([], layers), lambda x: x["cycles"], label="cycles", form=count))
    heights = [float(r.get("height", 0)) for r in svg.iter("rect")]
    assert len(heights) == 2
    assert heights[0] == pytest.approx(2 * heights[1], rel=1e-3)


def test_removed_layers_are_crossed_out() -> None:
    before: Any = [{"name": "a", "macs": 100}, {"name": "b", "macs": 10}]
    after: Any = [{"name": "a", "macs": 20}]
    svg = layer_dumbbells(layer_pairs(before, after), lambda p: p.macs, label="MACs", form=count)
    classes = [e.get("class") for e in parsed(svg).iter()]
    assert (classes.count("before"), classes.count("after"), classes.count("gone")) == (2, 1, 1)


def test_nothing_to_draw_gives_nothing() -> None:
    assert not layer_dumbbells([], lambda p: p.macs, label="MACs", form=count)
    assert not layer_bars([], lambda x: 1, label="cycles", form=count)
    assert not curves([], label="loss")
    assert not arena_timeline([], [], arena_bytes=0)
    assert not confusion_matrix([], [])
    assert not confusion_matrix([[1, 2]], ["a"])


def test_arena_marks_the_peak_and_keeps_proportions() -> None:
    buffers: Any = [
        {"name": "x", "kind": "activation", "offset": 0, "bytes": 1024, "first": 0, "last": 1},
        {"name": "y", "kind": "activation", "offset": 1024, "bytes": 2048, "first": 1, "last": 2},
        {"name": "k", "kind": "scratch", "offset": 3072, "bytes": 512, "first": 1, "last": 1},
    ]
    assert live_bytes(buffers, 3) == [1024, 3584, 2048]
    in_place = {"name": "z", "kind": "activation", "offset": 512, "bytes": 1024, "first": 0, "last": 0}
    assert live_bytes([*buffers, in_place], 3) == [1536, 3584, 2048]
    svg = parsed(arena_timeline(buffers, ["p", "q", "r"], arena_bytes=3584, limit=4096))
    boxes = {g.findtext("title", "").split(" ")[0]: g.find("rect") for g in svg.iter("g")}
    size = {n: (float(r.get("width", 0)), float(r.get("height", 0))) for n, r in boxes.items() if r is not None}
    assert size["y"][1] == pytest.approx(2 * size["x"][1], abs=0.02)
    assert size["x"][0] == pytest.approx(2 * size["k"][0], abs=0.02)
    words = " ".join(t.text or "" for t in svg.iter("text")).replace("\xa0", " ")
    assert "peak: 3.5 KB in use at step 1, q" in words
    assert "limit leaves 4 KB to the arena" in words


def test_curves_skip_what_is_not_a_number() -> None:
    data = [{"step": 0, "loss": 1.0}, {"step": 1, "loss": math.nan}, {"step": 2}, {"step": 3, "loss": 0.5}]
    curve = curve_of("c", data, "loss")
    assert curve.points == ((0, 1.0), (3, 0.5))
    line = next(parsed(curves([curve], label="loss")).iter("polyline"))
    assert len((line.get("points") or "").split()) == 2


def test_confusion_counts_add_up_and_say_what_is_right() -> None:
    svg = parsed(confusion_matrix([[8, 2], [1, 9]], ["bad", "good"]))
    assert svg.get("aria-label") == "Confusion matrix, 17 of 20 right"
    titles = [t.text for t in svg.iter("title")]
    assert titles == [
        "bad: 8 of 10 right",
        "bad taken for good: 2 of 10",
        "good taken for bad: 1 of 10",
        "good: 9 of 10 right",
    ]


@pytest.mark.parametrize("n", [1, 2, 5, 12, 13, 40])
def test_confusion_fits_any_number_of_classes(n: int) -> None:
    svg = confusion_matrix([[1] * n for _ in range(n)], [])
    cells = re.findall(r'class="cell (?:right|wrong)"', svg)
    assert len(cells) == n * n
