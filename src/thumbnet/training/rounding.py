"""The rounding of weights, as training sees it."""

from __future__ import annotations

import torch

from thumbnet.integer.arithmetic import WEIGHT_MAX
from thumbnet.integer.quantization import WEIGHT_AXES

SMALLEST = 1e-10  # largest weight of a channel that is treated as all zeros


def rounded(op: str, w: torch.Tensor, bits: int) -> torch.Tensor:
    """Weights as the integer network stores them. Scales follow the weights but pass no gradient: the straight-through
    estimate is of the rounding alone."""
    largest = WEIGHT_MAX[bits]
    if WEIGHT_AXES[op] is None:
        scale = float(w.detach().abs().max().clamp_min(SMALLEST)) / largest
        return torch.fake_quantize_per_tensor_affine(w, scale, 0, -largest, largest)
    scales = w.detach().abs().flatten(1).amax(1).clamp_min(SMALLEST) / largest
    zeros = torch.zeros(len(scales), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(w, scales, zeros, 0, -largest, largest)
