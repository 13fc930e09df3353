"""Exporter: the integer graph as a folder of C."""

from thumbnet.exporters.c.emit import emit, write_firmware

__all__ = ["emit", "write_firmware"]
