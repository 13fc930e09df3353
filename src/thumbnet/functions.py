"""Functions of the user's own, given as such or by name."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

from thumbnet.data.tasks.custom import Own
from thumbnet.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def own_function(what: str, given: Own | str | None) -> Own | None:
    """A function, or the one that "package.module:function" names; None where nothing is given.

    `what` is "loss" or "metric". Raises `UsageError` for anything else, and where the module cannot be imported.
    """
    if given is None or callable(given):
        return given
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise UsageError(f"The {what} {str(given)[:80]!r} is no function.", "Write 'package.module:function'.")
    module, _, name = given.partition(":")
    found = getattr(_imported(what, module), name, None)
    if not callable(found):
        raise UsageError(f"The module '{module}' has no function '{name}' to be the {what}.", "Check the name.")
    return found  # type: ignore[no-any-return]


def _imported(what: str, module: str) -> object:
    """With the current folder on the path, as `python -m` has it."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except Exception as e:  # the user's code runs
        raise UsageError(
            f"The module '{module}' of the {what} cannot be imported: {e} ({type(e).__name__}).",
            "Install it, or run where it can be found.",
        ) from e
    finally:
        if added:
            sys.path.remove(here)
