"""The moves of the search, in one visible table."""

from __future__ import annotations

from thumbnet.search.moves.activation import SwapActivation
from thumbnet.search.moves.bits import SetBits
from thumbnet.search.moves.depth import SkipBlock, Truncate
from thumbnet.search.moves.grey import GreyInput
from thumbnet.search.moves.kernel import SetKernel
from thumbnet.search.moves.low_rank import LowRank
from thumbnet.search.moves.resolution import SetResolution
from thumbnet.search.moves.separate import Separate
from thumbnet.search.moves.taught import InheritTaught
from thumbnet.search.moves.width import SetWidths
from thumbnet.search.recipe import Move

MOVES: dict[str, type[Move]] = {
    move.kind: move
    for move in (
        SetWidths,
        SkipBlock,
        Truncate,
        SetResolution,
        GreyInput,
        SetKernel,
        Separate,
        LowRank,
        SwapActivation,
        SetBits,
        InheritTaught,
    )
}
EXCHANGES: tuple[type[Move], ...] = (Separate, LowRank, SetKernel, SwapActivation)
"""What can stand in for a layer; each has its name as its attribute `node`."""

__all__ = [
    "EXCHANGES",
    "MOVES",
    "GreyInput",
    "InheritTaught",
    "LowRank",
    "Separate",
    "SetBits",
    "SetKernel",
    "SetResolution",
    "SetWidths",
    "SkipBlock",
    "SwapActivation",
    "Truncate",
]
