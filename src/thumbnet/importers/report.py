"""What `thumbnet check` says of each operation of a model, before any work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeReport:
    """`state` is "supported", "refused" or "unchecked"; `reason` says why, and what to do instead."""

    name: str
    op: str
    state: str
    reason: str
