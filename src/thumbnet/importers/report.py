"""What an importer can say of a model node by node, before any work."""

from __future__ import annotations

from dataclasses import dataclass

SUPPORTED, REFUSED, UNCHECKED = "supported", "refused", "unchecked"


@dataclass(frozen=True)
class NodeReport:
    """A node of a source: `state` is "supported", "refused", or "unchecked" where a refused node hides it.

    `reason` says why, and what to do next; it is empty for supported nodes.
    """

    name: str
    op: str
    state: str
    reason: str
