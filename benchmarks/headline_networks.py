"""The pre-trained networks of the headline benchmark as torch modules: MobileNetV1 1.0 and the CIFAR-10 ResNets.

Weights are read from `.npz` files (names and layouts as their MANIFESTs say), nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

Arrays = Mapping[str, npt.NDArray[Any]]
EPSILON = 1e-3
# (outputs, stride) of the 13 separable blocks: Howard et al., "MobileNets", 2017, table 1
SEPARABLE = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every array of the file, by name."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, for a square input whose size is known when it is traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, stride, size = self.kernel_size[0], self.stride[0], x.shape[-1]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before, after = total // 2, total - total // 2
        if before != after:
            x, before = F.pad(x, (before, after, before, after)), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, before, 1, self.groups)


class _Layer(nn.Sequential):
    """Convolution, batch norm, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        conv = _SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs, eps=EPSILON), nn.ReLU6())


class MobileNetV1(nn.Module):
    """`channels` × H × W in, `classes` logits out. The `frozen` first layers keep their weights and statistics.

    `widths` are those of the 14 convolutions that are not depthwise; by default those of the paper at 1.0.
    """

    name = "mobilenet-v1"

    def __init__(self, classes: int, channels: int = 3, frozen: int = 0, widths: tuple[int, ...] | None = None) -> None:
        super().__init__()
        widths = widths or (32, *(outputs for outputs, _ in SEPARABLE))
        layers = [_Layer(channels, widths[0], 3, 2)]
        for inputs, outputs, (_, stride) in zip(widths, widths[1:], SEPARABLE, strict=False):
            layers += [_Layer(inputs, inputs, 3, stride, groups=inputs), _Layer(inputs, outputs, 1, 1)]
        self.layers = nn.ModuleList(layers)
        self.classifier = nn.Linear(widths[-1], classes)
        self.frozen = frozen
        for layer in layers[:frozen]:
            layer.requires_grad_(False)

    def train(self, mode: bool = True) -> MobileNetV1:
        super().train(mode)
        for layer in self.layers[: self.frozen]:
            layer.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.classifier(x)  # type: ignore[no-any-return]


def mobilenet_v1(arrays: Arrays, classes: int, images: torch.Tensor, frozen: int = 0) -> MobileNetV1:
    """The backbone of `arrays` with a new last layer, for inputs of one or three channels; its function is the file's.

    The file holds folded batch norms. They are put back with the statistics measured on `images` (float32 [N, C, H, W],
    preprocessed), so that the function stays what it was. Fresh batch norms would re-normalize every channel and throw
    the pre-training away. For grey images the first kernel is summed over its colours, which is the same function of
    the grey image repeated three times.
    """
    kernels = [arrays[name] for name in sorted(arrays) if name.endswith("_kernel")]
    biases = [arrays[name] for name in sorted(arrays) if name.endswith("_bias")]
    widths = tuple(k.shape[3] for k in kernels if k.shape[3] > 1)
    network = MobileNetV1(classes, images.shape[1], frozen, widths)
    with torch.no_grad():
        for position, (layer, kernel, bias) in enumerate(zip(network.layers, kernels, biases, strict=True)):
            order = (2, 3, 0, 1) if kernel.shape[3] == 1 else (3, 2, 0, 1)  # HWIO, or [3, 3, C, 1] where depthwise
            weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(order)))
            if position == 0 and images.shape[1] == 1:
                weight = weight.sum(1, keepdim=True)
            layer[0].weight.copy_(weight)
            layer[1].bias.copy_(torch.from_numpy(bias))
        _measure_norms(network, images)
    return network


def _measure_norms(network: MobileNetV1, images: torch.Tensor, batch: int = 32) -> None:
    """Statistics of each convolution's outputs into its batch norm, with gain and offset that undo them.

    Each norm holds the file's bias so far; layer by layer, since a layer's inputs are those before it.
    """
    x = list(images.split(batch))
    for layer in network.layers:
        conv, norm, activation = layer
        y = [conv(part) for part in x]
        count = sum(part.numel() for part in y) / y[0].shape[1]
        mean = sum(part.double().sum((0, 2, 3)) for part in y) / count
        variance = sum((part.double() ** 2).sum((0, 2, 3)) for part in y) / count - mean**2
        mean, variance, bias = mean.float(), variance.clamp_min(0).float(), norm.bias.clone()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(bias + mean)
        x = [activation(part + bias[:, None, None]) for part in y]


class _Basic(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = _option_a(inputs, outputs, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def _option_a(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    """`x[:, :, ::2, ::2]` between (outputs − inputs) / 2 channels of zeros on each side, as a 1×1 convolution of zeros
    and ones: the same function, in a form that every method of the benchmark can make narrower."""
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    before = (outputs - inputs) // 2
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[before : before + inputs, :, 0, 0] = torch.eye(inputs)
    return conv


class CifarResNet(nn.Module):
    """He et al. 2015 for CIFAR: `blocks` basic blocks in each of three stages; the first has `width` channels."""

    def __init__(self, blocks: int, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.name = f"resnet-{6 * blocks + 2}"
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        stages = []
        for stage in range(3):
            inputs, outputs = width << max(0, stage - 1), width << stage
            own = [_Basic(inputs if k == 0 else outputs, outputs, 2 if stage and k == 0 else 1) for k in range(blocks)]
            stages.append(nn.Sequential(*own))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def cifar_resnet(arrays: Arrays) -> CifarResNet:
    """The network whose weights `arrays` holds by PyTorch's names; raises `KeyError` where one is missing."""
    blocks = 1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("layer1."))
    network = CifarResNet(blocks, len(arrays["linear.bias"]), len(arrays["bn1.weight"]))
    own = ("num_batches_tracked", "shortcut.weight")  # what the file needs not hold
    state = {
        key: value if key.endswith(own) else torch.from_numpy(arrays[key])
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network.eval()
