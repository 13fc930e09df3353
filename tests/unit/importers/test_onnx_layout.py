"""Layouts say where each value lies: whatever reshapes and transposes do to the axes, memory stays as it is."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thumbnet.graph.layout import Layout, LayoutError, order_of, parts_of

Array = npt.NDArray[np.int64]
shapes = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4).map(tuple)
layouts = st.sampled_from([Layout.row_major, Layout.channels_last])


def read(layout: Layout, memory: Array) -> Array:
    """The tensor that `memory` holds."""
    values = memory.reshape([p.size for p in layout.stored])
    return values.transpose([layout.stored.index(p) for p in chain(*layout.axes)]).reshape(layout.shape)


def written(layout: Layout, values: Array) -> Array:
    """The inverse of `read`."""
    memory = np.empty(values.size, np.int64)
    memory[read(layout, np.arange(values.size)).reshape(-1)] = values.reshape(-1)
    return memory


@settings(deadline=None)
@given(shapes, layouts, st.data())
def test_axes_change_as_numpy_changes_them(shape: tuple[int, ...], start: type, data: st.DataObject) -> None:
    layout = start(shape)  # type: ignore[call-arg]
    values = np.arange(math.prod(shape)).reshape(shape)
    memory = written(layout, values)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(values.ndim)))
            layout, values = layout.transposed(order), values.transpose(order)
        else:
            at = data.draw(st.integers(0, values.ndim))
            joined = (math.prod(values.shape[:at]), *values.shape[at:])
            wanted = data.draw(st.sampled_from([joined, shape, tuple(data.draw(st.permutations(values.shape)))]))
            try:
                layout = layout.reshaped(wanted)
            except LayoutError:
                continue
            values = values.reshape(wanted)
        assert layout.shape == values.shape
        assert np.array_equal(read(layout, memory), values)
        assert np.array_equal(read(layout.merged(), memory), values)


@settings(deadline=None)
@given(shapes, st.data())
def test_a_reshape_of_values_in_order_is_always_possible(shape: tuple[int, ...], data: st.DataObject) -> None:
    sizes = data.draw(st.permutations(shape))
    assert Layout.row_major(shape).reshaped(sizes).shape == tuple(sizes)


def test_an_image_with_channels_last_flattens_but_keeps_its_order() -> None:
    image = Layout.channels_last((1, 3, 4, 5))
    assert image.memory_shape == (4, 5, 3)
    assert image.space() == (4, 5)
    flat = image.reshaped((1, 60))
    order = order_of(flat.axes[1], flat.trailing(1))
    assert np.array_equal(order, np.arange(60).reshape(3, 4, 5).transpose(1, 2, 0).reshape(-1))
    with pytest.raises(LayoutError, match="another order"):
        _ = flat.memory_shape
    assert flat.reshaped((1, 3, 4, 5)).key() == image.key()
    assert flat.key() != Layout.row_major((1, 60)).key()


def test_values_are_not_torn_apart() -> None:
    with pytest.raises(LayoutError):
        Layout.channels_last((1, 3, 4, 5)).reshaped((1, 4, 3, 5))
    with pytest.raises(LayoutError):
        Layout.row_major((1, 4, 5, 3)).space()  # channels would have to be last


def test_parts_of_size_one_do_not_count() -> None:
    assert parts_of(1) == ()
    assert Layout.channels_last((1, 8, 1, 1)).key() == Layout.row_major((1, 8, 1, 1)).key()
    assert Layout.channels_last((1, 8, 1, 1)).memory_shape == (1, 1, 8)
