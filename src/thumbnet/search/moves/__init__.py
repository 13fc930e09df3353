"""The moves of the search, in one visible table."""

from __future__ import annotations

from thumbnet.search.moves.bits import SetBits
from thumbnet.search.moves.depth import SkipBlock, Truncate
from thumbnet.search.moves.resolution import SetResolution
from thumbnet.search.moves.separate import Separate
from thumbnet.search.moves.taught import InheritTaught
from thumbnet.search.moves.width import SetWidths
from thumbnet.search.recipe import Move

MOVES: dict[str, type[Move]] = {
    m.kind: m for m in (SetWidths, SkipBlock, Truncate, SetResolution, Separate, SetBits, InheritTaught)
}
EXCHANGES: tuple[type[Move], ...] = (Separate,)  # what a layer can be exchanged for, by their attribute `node`

__all__ = [
    "EXCHANGES",
    "MOVES",
    "InheritTaught",
    "Separate",
    "SetBits",
    "SetResolution",
    "SetWidths",
    "SkipBlock",
    "Truncate",
]
