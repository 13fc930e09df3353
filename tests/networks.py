"""Small PyTorch networks, one per topology that Thumbnet must understand. Input: 3 × 16 × 16, output: 5 logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

SHAPE = (3, 16, 16)
CLASSES = 5


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Vgg(nn.Module):
    """A chain that ends in flatten and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_norm(3, 8), nn.MaxPool2d(2), conv_norm(8, 12), nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(12 * 16, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, CLASSES), nn.Softmax(1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, option: str) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.extra = outputs - inputs
        self.shortcut = nn.Sequential()
        if stride > 1 and option == "B":
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.second(self.first(x)))
        if self.extra and not len(self.shortcut):  # option A: every other pixel, zero channels on both sides
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        y += self.shortcut(x)
        return F.relu(y)


class ResNet8(nn.Module):
    def __init__(self, option: str) -> None:
        super().__init__()
        self.stem = conv_norm(3, 8)
        self.stages = nn.Sequential(
            BasicBlock(8, 8, 1, option), BasicBlock(8, 12, 2, option), BasicBlock(12, 16, 2, option)
        )
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stages(self.stem(x))
        y = F.avg_pool2d(y, y.size()[3])
        return self.head(y.view(y.size(0), -1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = 3 * inputs
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU6(),
            nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU6(),
            nn.Conv2d(middle, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class MobileNetV2(nn.Module):
    """Inverted residuals, and a depthwise convolution with two outputs per input in front."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, groups=3), nn.ReLU6(), nn.Conv2d(6, 8, 1))
        self.blocks = nn.Sequential(InvertedResidual(8, 8, 1), InvertedResidual(8, 12, 2), InvertedResidual(12, 12, 1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(12, CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)))


class DenseNet(nn.Module):
    """Batch norm and relu before each convolution, outputs concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        widths = (6, 10, 14)
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)
        self.layers = nn.ModuleList(nn.Conv2d(w, 4, 3, 1, 1) for w in widths)
        self.final = nn.BatchNorm2d(18)
        self.head = nn.Conv2d(18, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = torch.cat([x, layer(F.relu(norm(x)))], 1)
        return self.head(F.relu(self.final(x))).mean((2, 3))


class SqueezeExcite(nn.Module):
    """MobileNetV3's block, its product per channel included."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.Hardswish())
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.project = nn.Conv2d(12, 8, 1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        scale = F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(F.silu(self.project(x * scale)).mean((2, 3)))


class UNet(nn.Module):
    """Down, up by nearest neighbour, concatenated with the skipped features."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = conv_norm(3, 6), conv_norm(6, 10)
        self.up, self.head = conv_norm(16, 8), nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skipped = self.down(x)
        y = F.interpolate(self.bottom(F.max_pool2d(skipped, 2)), scale_factor=2, mode="nearest")
        y = self.up(torch.cat([y, skipped], 1))
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Grouped(nn.Module):
    """ResNeXt's grouped convolutions, and a value split in two halves that meet again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 12, 3, 2)
        self.grouped = conv_norm(12, 16, 3, 1, groups=4)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 6, 3, padding="same")
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.grouped(self.stem(x)).chunk(2, 1)
        return self.head((torch.tanh(self.left(left)) - F.leaky_relu(self.right(right), 0.2)).mean((-2, -1)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": Vgg,
    "resnet8a": lambda: ResNet8("A"),
    "resnet8b": lambda: ResNet8("B"),
    "mobilenet_v2": MobileNetV2,
    "densenet": DenseNet,
    "squeeze_excite": SqueezeExcite,
    "unet": UNet,
    "grouped": Grouped,
}


def network(name: str, seed: int = 0) -> nn.Module:
    """The named network in evaluation mode, its batch norms with statistics as if trained."""
    torch.manual_seed(seed)
    module = NETWORKS[name]().eval()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.3)
            nn.init.normal_(m.running_mean, 0, 0.3)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return module
