"""How PyTorch code spells each operation of the float graph: a layer with weights, and a line of `forward`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from thumbnet.errors import UnsupportedOpError
from thumbnet.exporters.torch_names import number, numbers
from thumbnet.graph.graph import Graph, Node, Shape

Floats = npt.NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Site:
    """A node, what it is called, and what it reads: expressions of `forward`, the first is `x`."""

    graph: Graph
    node: Node
    layer: str  # name of its attribute
    inputs: tuple[str, ...]

    @property
    def x(self) -> str:
        return self.inputs[0]

    @property
    def shape(self) -> Shape:
        """Of the first input, without the batch."""
        return self.graph.shapes[self.node.inputs[0]]

    @property
    def out(self) -> Shape:
        return self.graph.shapes[self.node.name]

    def attr(self, key: str, default: Any = None) -> Any:
        return self.node.attrs.get(key, default)

    def activated(self, expression: str) -> str:
        """With the fused activation around it."""
        activation = str(self.attr("activation", "none"))
        if activation not in _ACTIVATIONS:
            raise UnsupportedOpError(activation, self.node.name, "It cannot be written as PyTorch code.")
        return f"{_ACTIVATIONS[activation]}({expression})" if activation != "none" else expression


_ACTIVATIONS = {"none": "", "relu": "F.relu", "relu6": "F.relu6"}


@dataclass(frozen=True, eq=False)
class Spelled:
    """`value`: the expression of `forward`. `layer`: what the constructor assigns, "" for operations without weights.
    `weights`: by their names within the layer.
    """

    value: str
    layer: str = ""
    weights: Mapping[str, Floats] = field(default_factory=dict)


Spelling = Callable[[Site], Spelled]


# --- layers with weights


def _options(**given: str) -> str:
    """Keyword arguments, those left out that are PyTorch's defaults."""
    defaults = {"stride": "1", "padding": "0", "dilation": "1", "groups": "1", "bias": "True", "output_padding": "0"}
    return "".join(f", {k}={v}" for k, v in given.items() if defaults.get(k) != v)


def _plain_padding(padding: Sequence[int]) -> tuple[str, str]:
    """("padding" as an argument, what F.pad is to do before): PyTorch's layers pad alike on opposite sides."""
    top, left, bottom, right = (int(p) for p in padding)
    if top == bottom and left == right:
        return numbers((top, left)), ""
    return "0", f"({left}, {right}, {top}, {bottom})"


def _convolution(s: Site) -> Spelled:
    weight, bias = s.node.weights["weight"], s.node.weights.get("bias")
    inputs = s.shape[0]
    groups = inputs if s.node.op == "depthwise_conv2d" else int(s.attr("groups", 1))
    padding, before = _plain_padding(s.attr("padding", (0, 0, 0, 0)))
    options = _options(
        stride=numbers(s.attr("stride")),
        padding=padding,
        dilation=numbers(s.attr("dilation", (1, 1))),
        groups=str(groups),
        bias=str(bias is not None),
    )
    layer = f"nn.Conv2d({inputs}, {weight.shape[0]}, {numbers(weight.shape[2:])}{options})"
    x = f"F.pad({s.x}, {before})" if before else s.x
    return Spelled(s.activated(f"self.{s.layer}({x})"), layer, dict(s.node.weights))


def _conv_transpose2d(s: Site) -> Spelled:
    """What PyTorch cuts off alike on opposite sides, its layer does; else the whole output is cut by a slice."""
    weight, bias = s.node.weights["weight"], s.node.weights.get("bias")
    padding, uneven = _plain_padding(s.attr("padding", (0, 0, 0, 0)))
    options = _options(stride=numbers(s.attr("stride")), padding=padding, bias=str(bias is not None))
    layer = f"nn.ConvTranspose2d({s.shape[0]}, {weight.shape[1]}, {numbers(weight.shape[2:])}{options})"
    value = f"self.{s.layer}({s.x})"
    if uneven:
        top, left, _, _ = (int(p) for p in s.attr("padding"))
        value += f"[:, :, {top}:{top + s.out[1]}, {left}:{left + s.out[2]}]"
    return Spelled(s.activated(value), layer, dict(s.node.weights))


def _dense(s: Site) -> Spelled:
    weight, bias = s.node.weights["weight"], s.node.weights.get("bias")
    layer = f"nn.Linear({weight.shape[1]}, {weight.shape[0]}{_options(bias=str(bias is not None))})"
    return Spelled(s.activated(f"self.{s.layer}({s.x})"), layer, dict(s.node.weights))


def _batch_norm(s: Site) -> Spelled:
    kind = "BatchNorm2d" if len(s.shape) == 3 else "BatchNorm1d"
    names = {"weight": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    weights: dict[str, Floats] = {names[k]: w for k, w in s.node.weights.items()}
    weights["num_batches_tracked"] = np.zeros((), np.int64)
    return Spelled(f"self.{s.layer}({s.x})", f"nn.{kind}({s.shape[0]}, eps={number(s.attr('eps'))})", weights)


def _prelu(s: Site) -> Spelled:
    weight = s.node.weights["weight"].reshape(-1)
    return Spelled(f"self.{s.layer}({s.x})", f"nn.PReLU({weight.size})", {"weight": weight})


# --- pools and means


def _pool(s: Site) -> Spelled:
    kernel, stride = ([int(v) for v in s.attr(k)] for k in ("kernel", "stride"))
    padding, before = _plain_padding(s.attr("padding", (0, 0, 0, 0)))
    pads = [int(p) for p in s.attr("padding", (0, 0, 0, 0))]
    if not before and (pads[0] > kernel[0] // 2 or pads[1] > kernel[1] // 2):  # more than PyTorch's pools take
        padding, before = "0", f"({pads[1]}, {pads[3]}, {pads[0]}, {pads[2]})"
    options = f", {numbers(stride)}{_options(padding=padding)}"
    if s.node.op == "max_pool2d":
        x = f'F.pad({s.x}, {before}, value=float("-inf"))' if before else s.x
        return Spelled(f"F.max_pool2d({x}, {numbers(kernel)}{options})")
    counted = bool(s.attr("count_include_pad"))
    if not before:
        include = "" if padding == "0" or counted else ", count_include_pad=False"
        return Spelled(f"F.avg_pool2d({s.x}, {numbers(kernel)}{options}{include})")
    value = f"F.avg_pool2d(F.pad({s.x}, {before}), {numbers(kernel)}{options})"
    if not counted:  # sums over ones say how many pixels each window has seen
        ones = f"torch.ones_like({s.x})"
        value += f" / F.avg_pool2d(F.pad({ones}, {before}), {numbers(kernel)}{options})"
    return Spelled(value)


def _global_avg_pool(s: Site) -> Spelled:
    return Spelled(f"{s.x}.mean((2, 3){', keepdim=True' if s.attr('keepdims') else ''})")


def _reduce(s: Site) -> Spelled:
    kind = str(s.attr("kind"))
    name = {"mean": "mean", "sum": "sum", "max": "amax", "min": "amin"}[kind]
    axes = [int(a) + 1 for a in s.attr("axes")]
    return Spelled(f"{s.x}.{name}({axes}{', keepdim=True' if s.attr('keepdims') else ''})")


# --- value by value


def _operator(symbol: str) -> Spelling:
    return lambda s: Spelled(s.activated(f"{s.inputs[0]} {symbol} {s.inputs[1]}"))


def _function(template: str) -> Spelling:
    """Of an expression in which {0}, {1} stand for the inputs."""
    return lambda s: Spelled(template.format(*s.inputs))


def _clip(s: Site) -> Spelled:
    return Spelled(f"{s.x}.clamp({number(s.attr('low'))}, {number(s.attr('high'))})")


# --- values that move


def _concat(s: Site) -> Spelled:
    return Spelled(f"torch.cat([{', '.join(s.inputs)}], {int(s.attr('axis')) + 1})")


def _slice(s: Site) -> Spelled:
    axis, start, stop = (int(s.attr(k)) for k in ("axis", "start", "stop"))
    first = "" if start == 0 else str(start)
    last = "" if stop == s.shape[axis] else str(stop)
    return Spelled(f"{s.x}[{':, ' * (axis + 1)}{first}:{last}]")


def _pad(s: Site) -> Spelled:
    top, left, bottom, right = (int(p) for p in s.attr("padding"))
    return Spelled(f"F.pad({s.x}, ({left}, {right}, {top}, {bottom}))")


def _reshape(s: Site) -> Spelled:
    return Spelled(f"{s.x}.reshape(-1, {', '.join(str(d) for d in s.out)})")


def _transpose(s: Site) -> Spelled:
    return Spelled(f"{s.x}.permute(0, {', '.join(str(int(a) + 1) for a in s.attr('perm'))})")


def _resize(s: Site) -> Spelled:
    size = f"({s.out[1]}, {s.out[2]})"
    if str(s.attr("mode", "nearest")) == "nearest":
        return Spelled(f'F.interpolate({s.x}, {size}, mode="nearest")')
    if not (s.attr("align_corners") or s.attr("half_pixel_centers")):
        raise UnsupportedOpError(
            "resize", s.node.name, "PyTorch interpolates with aligned corners or half-pixel centres only; use these."
        )
    aligned = bool(s.attr("align_corners"))
    return Spelled(f'F.interpolate({s.x}, {size}, mode="bilinear", align_corners={aligned})')


SPELLINGS: Mapping[str, Spelling] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv_transpose2d": _conv_transpose2d,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "prelu": _prelu,
    "add": _operator("+"),
    "sub": _operator("-"),
    "mul": _operator("*"),
    "maximum": _function("torch.maximum({0}, {1})"),
    "minimum": _function("torch.minimum({0}, {1})"),
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_avg_pool": _global_avg_pool,
    "reduce": _reduce,
    "relu": _function("F.relu({0})"),
    "relu6": _function("F.relu6({0})"),
    "hard_swish": _function("F.hardswish({0})"),
    "hard_sigmoid": _function("F.hardsigmoid({0})"),
    "sigmoid": _function("torch.sigmoid({0})"),
    "tanh": _function("torch.tanh({0})"),
    "silu": _function("F.silu({0})"),
    "abs": _function("{0}.abs()"),
    "clip": _clip,
    "elu": lambda s: Spelled(f"F.elu({s.x}, {number(s.attr('alpha', 1.0))})"),
    "leaky_relu": lambda s: Spelled(f"F.leaky_relu({s.x}, {number(s.attr('alpha'))})"),
    "softmax": _function("F.softmax({0}, 1)"),
    "log_softmax": _function("F.log_softmax({0}, 1)"),
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "flatten": _function("{0}.flatten(1)"),
    "reshape": _reshape,
    "transpose": _transpose,
    "resize": _resize,
}
