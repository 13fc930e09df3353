"""Where a depthwise convolution in lines may write over its input: against a replay of its reads and writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thumbnet.cost.kernel import Overlap, Window
from thumbnet.cost.lines import Lines, line_overlap


def survives(w: Window) -> bool:
    """Whether no input row is read after one of its pixels was overwritten, as depthwise_channels.S goes over them."""
    lines = Lines.of(w)
    needed = min(w.in_h, (w.out_h - 1) * w.stride[0] + w.kernel[0] - w.padding[0])
    row, kept, written = -w.padding[0], 0, 0
    for done in range(0, w.out_h, lines.rows):
        for _ in range(kept, lines.lines):
            if any(0 <= r < needed and written > r * w.in_w for r in (row, row + 1)):
                return False
            row += 2
        written = min(done + lines.rows, w.out_h) * w.out_w
        kept = lines.kept
        row += lines.rows * w.stride[0] - 2 * (lines.lines - kept)
    return True


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([3, 5]),
    st.tuples(st.integers(1, 4), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 4)] * 4),
)
def test_only_what_was_read_is_overwritten(size, kernel, stride, padding) -> None:
    room = [n + padding[i] + padding[i + 2] - kernel for i, n in enumerate(size)]
    if min(room) < 0:
        return
    out_h, out_w = (r // s + 1 for r, s in zip(room, stride, strict=True))
    w = Window(*size, 8, out_h, out_w, 8, (kernel, kernel), stride, (1, 1), padding[:2])
    safe = survives(w) and out_h * out_w <= size[0] * size[1]
    assert line_overlap(w) == (Overlap(0, exact=True) if safe else None)


def test_usual_convolutions_run_in_place() -> None:
    for size, kernel, stride, padding in ((48, 3, 1, 1), (47, 3, 2, 1), (24, 5, 1, 2), (24, 5, 2, 1), (3, 3, 1, 1)):
        out = -(-size // stride)
        w = Window(size, size, 8, out, out, 8, (kernel,) * 2, (stride,) * 2, (1, 1), (padding,) * 2)
        assert line_overlap(w) == Overlap(0, exact=True)
