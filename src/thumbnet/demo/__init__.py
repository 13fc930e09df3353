"""The demo: EfficientNet-Lite0 on photographs of solar cells, made to fit an nRF52840."""

from thumbnet.demo.run import run_demo

__all__ = ["run_demo"]
