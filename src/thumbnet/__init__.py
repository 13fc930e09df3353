"""Thumbnet: own network in, verified int8 firmware for Arm Cortex-M out.

The public API. Names are imported when first used, so that `import thumbnet` and the command line start at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thumbnet.version import __version__

if TYPE_CHECKING:
    from thumbnet.api import profile, verify
    from thumbnet.checker import Checked, check
    from thumbnet.compiler import Compiled
    from thumbnet.compiler import compile_model as compile  # the field's word
    from thumbnet.data import Dataset, load_data
    from thumbnet.exits import Exported, export
    from thumbnet.importers import load
    from thumbnet.result import Result
    from thumbnet.results import Constraints, Costs
    from thumbnet.story import optimize
    from thumbnet.targets import Target, available_targets, load_target

_HOME = {  # the module, with the name there where that is another
    "optimize": "thumbnet.story",
    "compile": "thumbnet.compiler:compile_model",
    "Compiled": "thumbnet.compiler",
    "check": "thumbnet.checker",
    "Checked": "thumbnet.checker",
    "export": "thumbnet.exits",
    "Exported": "thumbnet.exits",
    "profile": "thumbnet.api",
    "verify": "thumbnet.api",
    "load": "thumbnet.importers",
    "load_data": "thumbnet.data",
    "Dataset": "thumbnet.data",
    "Result": "thumbnet.result",
    "Constraints": "thumbnet.results",
    "Costs": "thumbnet.results",
    "Target": "thumbnet.targets",
    "available_targets": "thumbnet.targets",
    "load_target": "thumbnet.targets",
}

__all__ = [
    "Checked",
    "Compiled",
    "Constraints",
    "Costs",
    "Dataset",
    "Exported",
    "Result",
    "Target",
    "__version__",
    "available_targets",
    "check",
    "compile",
    "export",
    "load",
    "load_data",
    "load_target",
    "optimize",
    "profile",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'thumbnet' has no attribute '{name}'")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(import_module(module), attribute or name)
