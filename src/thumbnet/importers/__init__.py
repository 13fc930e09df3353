"""Frameworks to graphs. `load` takes whatever a user calls a model."""

from thumbnet.importers.imported import Imported
from thumbnet.importers.load import load
from thumbnet.importers.torch import import_torch, imported

__all__ = ["Imported", "import_torch", "imported", "load"]
