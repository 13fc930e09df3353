"""The table of TFLite operators: `python -m thumbnet.importers.tflite_table > docs/operators.md`."""

from __future__ import annotations

from thumbnet.importers.tflite import NEAREST, SUPPORTED

_HEAD = """\
# TFLite operators

What `thumbnet compile` reads in an int8 `.tflite` file. This page is written by
`python -m thumbnet.importers.tflite_table` from the importer's own table.

Every operator gives, byte for byte, what the reference kernels of TensorFlow Lite Micro give (`tflite-micro` from the
package registry); tests compare both over shapes, scales, zero points and paddings drawn at random, and the C of each
operator with the simulator on emulated cores.

Tensors are int8 with one scale, of up to five axes with a batch axis of 1 in front; weights are int8 or int4,
symmetric, per tensor or per channel, biases int32. Fused activations are RELU, RELU6 and RELU_N1_TO_1.

Where a model takes or gives float32 or uint8 (the usual output of the TFLite converter), the QUANTIZE at its start and
the DEQUANTIZE or QUANTIZE at its end are left out: the firmware takes and gives int8, and `model.h` states the scale
and zero point of both. Several outputs stand one after the other in one. Models whose tensors are uint8 throughout
come from old converters and are refused.

| operator | limits |
| --- | --- |
"""
_REFUSED = """
Refused by name, with what to do instead; so are all others that this page does not list:

| operator | instead |
| --- | --- |
"""


def operators_page() -> str:
    """docs/operators.md, whole."""
    rows = "".join(f"| {op} | {s.limits or '–'} |\n" for op, s in sorted(SUPPORTED.items()))
    refused = "".join(f"| {op} | {hint} |\n" for op, hint in sorted(NEAREST.items()))
    return _HEAD + rows + _REFUSED + refused


if __name__ == "__main__":
    print(operators_page(), end="")
