"""The arena plan: who lives where, and when."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Buffer:
    """A piece of the arena, in use from step `first` to step `last` (indices into the graph's nodes, both included).

    `kind` is "activation" (then `name` is the tensor's) or "scratch" (then `name` is the node's). The graph's inputs
    live from step 0, its outputs to the last step.
    """

    name: str
    kind: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class ArenaPlan:
    """Offsets of all buffers in one arena of `arena_bytes`, 16-byte aligned.

    `aliases[t] = u` where t is computed in place of u.
    """

    arena_bytes: int
    lower_bound_bytes: int  # no plan with these lifetimes and aliases can be smaller
    buffers: tuple[Buffer, ...]
    aliases: dict[str, str]
