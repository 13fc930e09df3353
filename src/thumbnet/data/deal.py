"""Dealing examples to splits: stratified, reproducible, copies of one example kept together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

SHARES = (0.70, 0.15, 0.15)  # train, val, test


def deal(
    labels: Sequence[int], contents: Sequence[str], seed: int, shares: tuple[float, float, float] = SHARES
) -> list[int]:
    """0 = train, 1 = val, 2 = test for each example.

    Within each class, examples are ordered by a hash of `seed` and content and cut at the shares, so the outcome
    depends neither on file names nor on their order. Every split of a non-zero share gets at least one example of a
    class that has enough different ones. Examples of equal content go to one split, whatever their classes.
    """
    order: dict[int, dict[str, bytes]] = defaultdict(dict)
    count: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for label, content in zip(labels, contents, strict=True):
        order[label].setdefault(content, hashlib.sha256(f"{seed}/{content}".encode()).digest())
        count[label][content] += 1
    place: dict[str, int] = {}
    for label in sorted(order):
        ranked = sorted(order[label], key=lambda c: order[label][c])
        _cut(ranked, count[label], shares, place)
    return [place[c] for c in contents]


def _cut(ranked: list[str], count: dict[str, int], shares: tuple[float, float, float], place: dict[str, int]) -> None:
    """Fills test, then val, then train with the contents in this order."""
    total = sum(count.values())
    wanted = {part: max(1, round(shares[part] * total)) for part in (2, 1) if shares[part] > 0}
    have = dict.fromkeys((0, 1, 2), 0)
    free = []
    for content in ranked:  # copies in another class decided these
        if content in place:
            have[place[content]] += count[content]
        else:
            free.append(content)
    for position, content in enumerate(free):
        left = len(free) - position
        short = [part for part in wanted if have[part] < wanted[part]]
        part = short[0] if short and left > (0 if have[0] else 1) else 0
        place[content] = part
        have[part] += count[content]
