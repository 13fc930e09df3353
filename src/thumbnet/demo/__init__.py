"""The demo: EfficientNet-Lite0 on photographs of solar cells, made to fit an nRF52840."""

from typing import Any


def run_demo(*args: Any, **kwargs: Any) -> Any:
    """See `thumbnet.demo.run.run_demo`."""
    from thumbnet.demo.run import run_demo as run  # late: the networks and data are of use without the rest

    return run(*args, **kwargs)


__all__ = ["run_demo"]
