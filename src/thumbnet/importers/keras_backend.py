"""Keras itself, imported when first needed."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from thumbnet.errors import ModelError


def keras_module() -> Any:
    """Keras, on torch unless the process has chosen otherwise. Raises `ModelError` where it is not installed."""
    if sys.modules.get("keras") is None:
        chosen = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = chosen or "torch"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import keras
        except (ImportError, ValueError) as e:
            raise ModelError(
                f"Keras cannot be imported ({str(e).splitlines()[0][:120]}).",
                "Install it with `pip install 'thumbnet[keras]'`, and leave KERAS_BACKEND unset or set it to 'torch'.",
            ) from e
        finally:
            if chosen is None:
                del os.environ["KERAS_BACKEND"]
    else:
        import keras
    if int(keras.__version__.split(".")[0]) < 3:
        raise ModelError(f"Keras {keras.__version__} is too old.", "Install it with `pip install 'thumbnet[keras]'`.")
    return keras


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """Until Keras 3: 0.2 · x + 0.5, cut off at 0 and 1."""
    ops = keras_module().ops
    return ops.clip(ops.add(ops.multiply(x, 0.2), 0.5), 0.0, 1.0)
