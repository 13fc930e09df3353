"""Boards and cores as data."""

from thumbnet.targets.limits import limits_on
from thumbnet.targets.load import available_targets, load_target
from thumbnet.targets.target import Core, Isa, Target
from thumbnet.targets.units import parse_size

__all__ = ["Core", "Isa", "Target", "available_targets", "limits_on", "load_target", "parse_size"]
