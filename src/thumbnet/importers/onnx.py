"""Float ONNX files → the float graph, checked against ONNX Runtime. Quantized files (QDQ) give the float network that
they were quantized from, but for the rounding of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from thumbnet.errors import ThumbnetError, UnsupportedOpError
from thumbnet.importers.imported import TOLERANCE, Imported, imported
from thumbnet.importers.model_file import model_bytes
from thumbnet.importers.onnx_conversion import HANDLERS, Conversion, Converted
from thumbnet.importers.onnx_nearest import HOPELESS, NEAREST
from thumbnet.importers.onnx_quantized import QUANTIZED
from thumbnet.importers.onnx_reader import (
    OnnxContent,
    read_onnx,
    standalone,
)
from thumbnet.importers.onnx_runtime import OnnxRunner, inferred_shapes
from thumbnet.importers.report import SUPPORTED, NodeReport

QDQ_TOLERANCE = 0.5
"""Of what an output varies, for quantized files: ONNX Runtime rounds every activation, the float network none."""


def import_onnx(path: Path) -> Imported:
    """The network of a file, as ONNX Runtime computes it.

    Raises `ModelError` for a file that is damaged, of changing shape but for the batch, or unlike what ONNX Runtime
    computes, and `UnsupportedOpError` for an operation that the graph does not have.
    """
    path = Path(path)
    data = model_bytes(path)
    content = read_onnx(data, str(path), path.parent)
    made = converted(content, str(path), path.stem)
    names = [p.name for p in content.inputs]
    run = OnnxRunner(standalone(data, str(path), path.parent), names, [p.name for p in content.outputs], str(path))
    quantized = any(node.op in QUANTIZED for node in content.nodes)
    return imported(
        *(made.graph, made.inputs, made.outputs, run, run.runtime),
        batch=made.batch,
        tolerance_factor=QDQ_TOLERANCE if quantized else TOLERANCE,
        ranges=made.ranges,
    )


def check_onnx(path: Path) -> list[NodeReport]:
    """What can be said of each node of a file. Raises `ModelError` for a file that cannot be read at all."""
    path = Path(path)
    return check_bytes(model_bytes(path), str(path), path.parent)


def check_bytes(data: bytes, where: str, folder: Path | None = None) -> list[NodeReport]:
    """As `check_onnx`; `folder` is where numbers outside of the file may be."""
    content = read_onnx(data, where, folder)

    def shapes() -> Mapping[str, Sequence[int | None]]:
        return inferred_shapes(standalone(data, where, folder))

    first = Conversion(content, where, "model", False).reports(shapes)
    if all(r.state == SUPPORTED for r in first):
        return first
    second = Conversion(content, where, "model", True).reports(shapes)
    return second if _unsupported(second) < _unsupported(first) else first


def _unsupported(reports: Sequence[NodeReport]) -> int:
    return sum(r.state != SUPPORTED for r in reports)


def converted(content: OnnxContent, where: str, name: str) -> Converted:
    """With the channels of its inputs where fewer images must be transposed: files do not say where they are."""
    _refuse_control(content)
    made, error = None, None
    for channels_last in (False, True):
        try:
            other = Conversion(content, where, name, channels_last).converted()
        except ThumbnetError as e:
            error = error or e
            continue
        if not other.moves:
            return other
        made = other if made is None or other.moves < made.moves else made
    if made is None:
        assert error is not None
        raise error
    return made


def _refuse_control(content: OnnxContent) -> None:
    """Branches, loops and recurrent layers first: around them all kinds of operations are found."""
    for node in content.nodes:
        if not node.domain and node.op in HOPELESS:
            raise UnsupportedOpError(node.op, node.name, NEAREST[node.op])


__all__ = ["HANDLERS", "QDQ_TOLERANCE", "check_bytes", "check_onnx", "converted", "import_onnx"]
