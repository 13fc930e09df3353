"""Dealing to splits."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from thumbnet.data.deal import deal

examples = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60).map(str)), min_size=1, max_size=120)


@given(examples, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_outcome_depends_on_content_alone(pairs: list[tuple[int, str]], seed: int, random: object) -> None:
    placed = dict(zip(pairs, deal(*zip(*pairs, strict=True), seed), strict=True))  # type: ignore[arg-type]
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = dict(zip(shuffled, deal(*zip(*shuffled, strict=True), seed), strict=True))  # type: ignore[arg-type]
    assert placed == again


@given(examples, st.integers(0, 5))
def test_copies_stay_together_in_every_class(pairs: list[tuple[int, str]], seed: int) -> None:
    labels, contents = zip(*pairs, strict=True)
    where: dict[str, set[int]] = {}
    for content, part in zip(contents, deal(labels, contents, seed), strict=True):
        where.setdefault(content, set()).add(part)
    assert all(len(parts) == 1 for parts in where.values())


@given(st.lists(st.integers(3, 200), min_size=2, max_size=4), st.integers(0, 9))
def test_shares_are_kept_in_each_class_and_none_is_empty(sizes: list[int], seed: int) -> None:
    labels = [k for k, n in enumerate(sizes) for _ in range(n)]
    parts = deal(labels, [f"image {i}" for i in range(len(labels))], seed)
    for k, n in enumerate(sizes):
        count = Counter(p for p, label in zip(parts, labels, strict=True) if label == k)
        assert set(count) == {0, 1, 2}
        assert count[1] == count[2] == max(1, round(0.15 * n))


def test_another_seed_deals_otherwise() -> None:
    contents = [str(k) for k in range(100)]
    assert deal([0] * 100, contents, 0) != deal([0] * 100, contents, 1)


def test_without_a_test_share_nothing_is_held_out_for_it() -> None:
    parts = deal([0] * 40, [str(k) for k in range(40)], 0, shares=(0.85, 0.15, 0.0))
    assert Counter(parts) == {0: 34, 1: 6}
