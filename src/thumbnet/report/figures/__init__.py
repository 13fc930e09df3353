"""The report's figures: pure functions from plain values to SVG."""

from thumbnet.report.figures.arena import arena_timeline
from thumbnet.report.figures.confusion import confusion_matrix
from thumbnet.report.figures.curves import Curve, curve_of, curves
from thumbnet.report.figures.groups import group_chart
from thumbnet.report.figures.layers import LayerPair, layer_bars, layer_dumbbells, layer_pairs, op_legend
from thumbnet.report.figures.pareto import Point, pareto
from thumbnet.report.figures.robustness import corruption_panels

__all__ = [
    "Curve",
    "LayerPair",
    "Point",
    "arena_timeline",
    "confusion_matrix",
    "corruption_panels",
    "curve_of",
    "curves",
    "group_chart",
    "layer_bars",
    "layer_dumbbells",
    "layer_pairs",
    "op_legend",
    "pareto",
]
