"""An ONNX file in the making: constants, nodes and names, over the package `onnx`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import ToolchainError
from thumbnet.version import __version__

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]

OPSET = 17  # the oldest that has everything written here: what most runtimes read
IR_VERSION = 8  # the one of that opset
PRODUCER = "Thumbnet"
BATCH = "N"  # the first axis of inputs and outputs, of any size


class OnnxModel:
    """Collects the nodes of one graph; `finish` gives the file's bytes. Equal calls give equal bytes.

    Raises `ToolchainError` where the package `onnx` is absent.
    """

    def __init__(self, name: str) -> None:
        try:
            import onnx
        except ImportError as e:
            raise ToolchainError(
                "Writing ONNX files takes the package 'onnx'.", "Run: pip install 'thumbnet[onnx]'."
            ) from e
        self._onnx = onnx
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._names: set[str] = set()

    def unique(self, wanted: str) -> str:
        """`wanted`, or with a number behind it where that is taken; taken from now on."""
        name, k = wanted, 1
        while name in self._names:
            k += 1
            name = f"{wanted}_{k}"
        self._names.add(name)
        return name

    def input(self, name: str, shape: Sequence[int]) -> str:
        """A float32 input [N, *shape]."""
        made = self.unique(name)
        self._inputs.append(self._port(made, shape))
        return made

    def output(self, value: str, shape: Sequence[int]) -> None:
        """Declares a value to be a float32 output [N, *shape]."""
        self._outputs.append(self._port(value, shape))

    def constant(self, name: str, values: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        made = self.unique(name)
        array = np.ascontiguousarray(np.asarray(values, dtype)) if np.ndim(values) else np.asarray(values, dtype)
        self._constants.append(self._onnx.numpy_helper.from_array(array, made))
        return made

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self.constant(name, np.array([int(v) for v in values], np.int64))

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Adds an operator with one output, and returns the output's name. Inputs "" are left out."""
        made = self.unique(name)
        self._nodes.append(self._onnx.helper.make_node(op, list(inputs), [made], name=made, **attributes))
        return made

    def finish(self) -> bytes:
        """The file, checked by the package's own checker."""
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, self.name or "network", self._inputs, self._outputs, self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name=PRODUCER,
            producer_version=__version__,
            ir_version=IR_VERSION,
        )
        self._onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _port(self, name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
        sizes: list[str | int | None] = [BATCH, *(int(s) for s in shape)]
        return self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, sizes)
