"""The architectures that Thumbnet must take in, find smaller forms of and compile, in PyTorch, at microcontroller size.

torchvision does not come for every torch, so they are written here after their papers; `ZOO` lists them. Weights are
drawn from a fixed seed and batch norms get statistics of their own, so that nothing is accidentally trivial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Entry:
    """`shapes`: of each input, (channels, height, width), (channels, time) or (features,)."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    task: str = "classification"


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU6
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([act(inplace=True)] if act else []))


class MobileNetV1(nn.Module):
    """Howard et al. 2017."""

    def __init__(self, classes: int = 5, width: int = 8) -> None:
        super().__init__()
        plan = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), (16, 1))
        layers: list[nn.Module] = [conv(3, width, 3, 2)]
        channels = width
        for factor, stride in plan:
            layers += [conv(channels, channels, 3, stride, channels), conv(channels, width * factor, 1)]
            channels = width * factor
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Squeeze(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018) with a hard sigmoid, as in MobileNetV3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = (
            nn.Conv2d(channels, max(channels // 4, 4), 1),
            nn.Conv2d(max(channels // 4, 4), channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.down(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.up(y))


class InvertedResidual(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expand: int, act: type[nn.Module], squeeze: bool
    ) -> None:
        super().__init__()
        middle = inputs * expand
        layers: list[nn.Module] = [conv(inputs, middle, 1, act=act)] if expand > 1 else []
        layers.append(conv(middle, middle, kernel, stride, middle, act=act))
        layers += [Squeeze(middle)] if squeeze else []
        self.body = nn.Sequential(*layers, conv(middle, outputs, 1, act=None))
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return x + y if self.skip else y


class MobileNetV2(nn.Module):
    """Sandler et al. 2018; with `kernels` and without squeeze-excite also EfficientNet-Lite (Tan & Le 2019)."""

    def __init__(self, kernels: Sequence[int] = (3, 3, 3, 3), classes: int = 5) -> None:
        super().__init__()
        plan = ((8, 1, 1), (12, 2, 4), (12, 1, 4), (16, 2, 4))
        layers: list[nn.Module] = [conv(3, 8, 3, 2)]
        channels = 8
        for (outputs, stride, expand), kernel in zip(plan, kernels, strict=True):
            layers.append(InvertedResidual(channels, outputs, kernel, stride, expand, nn.ReLU6, False))
            channels = outputs
        self.features = nn.Sequential(*layers, conv(channels, 32, 1))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


class MobileNetV3(nn.Module):
    """Howard et al. 2019: hard swish, squeeze-and-excitation."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(3, 8, 3, 2, act=nn.Hardswish),
            InvertedResidual(8, 8, 3, 1, 1, nn.ReLU, True),
            InvertedResidual(8, 12, 3, 2, 4, nn.ReLU, False),
            InvertedResidual(12, 12, 5, 1, 4, nn.Hardswish, True),
            conv(12, 32, 1, act=nn.Hardswish),
        )
        self.head = nn.Sequential(nn.Linear(32, 24), nn.Hardswish(), nn.Linear(24, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Residual(nn.Module):
    """The basic block of He et al. 2016."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = conv(inputs, outputs, 3, stride, act=nn.ReLU), conv(outputs, outputs, act=None)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride, act=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet8 of MLPerf Tiny (`imagenet` false) or the layout of ResNet18: 7×7 stem, max pool, four stages of two."""

    def __init__(self, imagenet: bool, classes: int = 5) -> None:
        super().__init__()
        self.stem = (
            nn.Sequential(conv(3, 8, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)) if imagenet else conv(3, 8, act=nn.ReLU)
        )
        plan = (8, 8, 12, 12, 16, 16, 24, 24) if imagenet else (8, 12, 16)
        blocks: list[nn.Module] = []
        channels = 8
        for outputs in plan:
            blocks.append(Residual(channels, outputs, 1 if outputs == channels else 2))
            channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


class DsCnn(nn.Module):
    """Zhang et al. 2017, keyword spotting over (time, coefficients)."""

    def __init__(self, classes: int = 12, width: int = 16) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(1, width, (10, 4), 2, (5, 1), bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        for _ in range(3):
            layers += [conv(width, width, 3, 1, width, nn.ReLU), conv(width, width, 1, act=nn.ReLU)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.features(x)
        return F.softmax(self.head(F.avg_pool2d(y, y.shape[2:]).flatten(1)), 1)


class Fire(nn.Module):
    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.narrow, self.wide = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.narrow(x)), F.relu(self.wide(x))], 1)


class SqueezeNet(nn.Module):
    """Iandola et al. 2016, with pools that round up, as in version 1.1."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(12, 4, 8),
            Fire(16, 4, 8),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Fire(16, 6, 12),
        )
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(24, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.head(self.features(x)), 1)


class DenseLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class DenseNet(nn.Module):
    """Huang et al. 2017: every layer reads all earlier ones; batch norm and relu before the convolution."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.first = nn.Sequential(*(DenseLayer(8 + 4 * k, 4) for k in range(3)))
        self.between = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 12, 1, bias=False), nn.AvgPool2d(2))
        self.second = nn.Sequential(*(DenseLayer(12 + 4 * k, 4) for k in range(3)))
        self.norm, self.head = nn.BatchNorm2d(24), nn.Linear(24, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.between(self.first(self.stem(x))))
        return self.head(F.adaptive_avg_pool2d(F.relu(self.norm(x)), 1).flatten(1))


class UNet(nn.Module):
    """Ronneberger et al. 2015: `up` is "transposed", "bilinear" or "nearest"."""

    def __init__(self, up: str = "transposed", classes: int = 3) -> None:
        super().__init__()
        self.mode = up
        self.down1, self.down2, self.bottom = conv(1, 8), conv(8, 12), conv(12, 16)
        self.up2 = nn.ConvTranspose2d(16, 12, 2, 2) if up == "transposed" else conv(16, 12, 1)
        self.up1 = nn.ConvTranspose2d(12, 8, 3, 2, 1, 1) if up == "transposed" else conv(12, 8, 1)
        self.join2, self.join1 = conv(24, 12), conv(16, 8)
        self.head = nn.Conv2d(8, classes, 1)

    def _up(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return layer(x) if self.mode == "transposed" else layer(F.interpolate(x, scale_factor=2, mode=self.mode))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        y = self.bottom(F.max_pool2d(b, 2))
        y = self.join2(torch.cat([self._up(self.up2, y), b], 1))
        return self.head(self.join1(torch.cat([self._up(self.up1, y), a], 1)))


class Ssd(nn.Module):
    """A single-shot detector's head (Liu et al. 2016) on two scales: boxes [anchors, 4] and class scores."""

    def __init__(self, classes: int = 3, anchors: int = 2) -> None:
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(conv(3, 8, 3, 2), conv(8, 8, 3, 1, 8), conv(8, 16, 1))
        self.deep = nn.Sequential(conv(16, 16, 3, 2, 16), conv(16, 24, 1))
        self.boxes = nn.ModuleList(nn.Conv2d(c, anchors * 4, 3, padding=1) for c in (16, 24))
        self.scores = nn.ModuleList(nn.Conv2d(c, anchors * classes, 3, padding=1) for c in (16, 24))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = self.stem(x)
        maps = (a, self.deep(a))
        boxes = [h(m).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for h, m in zip(self.boxes, maps, strict=True)]
        scores = [
            h(m).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.classes)
            for h, m in zip(self.scores, maps, strict=True)
        ]
        return torch.cat(boxes, 1), torch.cat(scores, 1).softmax(-1)


class AutoEncoder(nn.Module):
    """Dense layers around a bottleneck, as the anomaly detector of MLPerf Tiny."""

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        sizes = (features, 24, 24, 6, 24, 24)
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(24, features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class SensorCnn(nn.Module):
    """A 1-D CNN over (channels, time), as for activity recognition from an accelerometer."""

    def __init__(self, channels: int = 3, classes: int = 6) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(channels, 12, 5, 2, 2),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(12, 16, 3, padding=2, dilation=2),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.AvgPool1d(2),
            nn.Conv1d(16, 16, 3, padding=1, groups=16),
            nn.Conv1d(16, 24, 1),
            nn.ReLU(),
        )
        self.head = nn.Linear(24, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.adaptive_avg_pool1d(self.features(x), 1).squeeze(-1))


class Mlp(nn.Module):
    def __init__(self, features: int = 16, classes: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, 24), nn.ReLU(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Grouped(nn.Module):
    """Grouped and dilated convolutions, PReLU, and a channel shuffle (Zhang et al. 2018)."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.PReLU(16))
        self.grouped, self.dilated = conv(16, 16, 3, 1, 4), nn.Conv2d(16, 24, 3, padding=2, dilation=2)
        self.head = nn.Linear(24, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = F.channel_shuffle(self.grouped(x), 4)
        return self.head(F.elu(self.dilated(x)).amax((2, 3)))


class TwoInputs(nn.Module):
    """An image and a vector of readings beside it."""

    def __init__(self, readings: int = 6, classes: int = 4) -> None:
        super().__init__()
        self.image, self.vector = nn.Sequential(conv(3, 8, 3, 2), conv(8, 12, 3, 2)), nn.Linear(readings, 8)
        self.head = nn.Linear(20, classes)

    def forward(self, image: torch.Tensor, readings: torch.Tensor) -> torch.Tensor:
        seen = self.image(image).mean((2, 3))
        return self.head(torch.cat([seen, F.relu(self.vector(readings))], 1))


IMAGE = (3, 32, 32)
ZOO: dict[str, Entry] = {
    "mobilenet_v1": Entry(MobileNetV1, (IMAGE,)),
    "mobilenet_v2": Entry(MobileNetV2, (IMAGE,)),
    "mobilenet_v3": Entry(MobileNetV3, (IMAGE,)),
    "resnet8": Entry(lambda: ResNet(False), (IMAGE,)),
    "resnet18": Entry(lambda: ResNet(True), (IMAGE,)),
    "efficientnet_lite": Entry(lambda: MobileNetV2((3, 3, 5, 5)), (IMAGE,)),
    "ds_cnn": Entry(DsCnn, ((1, 49, 10),)),
    "squeezenet": Entry(SqueezeNet, (IMAGE,)),
    "densenet": Entry(DenseNet, (IMAGE,)),
    "unet": Entry(UNet, ((1, 24, 24),), "segmentation"),
    "unet_bilinear": Entry(lambda: UNet("bilinear"), ((1, 24, 24),), "segmentation"),
    "ssd": Entry(Ssd, (IMAGE,), "custom"),
    "auto_encoder": Entry(AutoEncoder, ((64,),), "anomaly"),
    "sensor_cnn": Entry(SensorCnn, ((3, 64),)),
    "mlp": Entry(Mlp, ((16,),)),
    "grouped": Entry(Grouped, (IMAGE,)),
    "two_inputs": Entry(TwoInputs, (IMAGE, (6,))),
}


def network(name: str, seed: int = 0) -> nn.Module:
    """The network in evaluation mode, with weights and statistics drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = ZOO[name].make()
        for m in module.modules():
            if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
                assert m.running_mean is not None
                assert m.running_var is not None
                nn.init.normal_(m.running_mean, std=0.1)
                nn.init.uniform_(m.running_var, 0.5, 1.5)
                nn.init.normal_(m.bias, std=0.1)
    return module.eval()
