"""Exporter: the integer graph as a folder of C."""

from thumbnet.exporters.c.emit import emit, write_firmware
from thumbnet.exporters.c.layouts import LAYOUTS, Layout, check_layout, lay_out, place

__all__ = ["LAYOUTS", "Layout", "check_layout", "emit", "lay_out", "place", "write_firmware"]
