"""For operations that cannot be imported: the nearest thing that works."""

from __future__ import annotations

_ACTIVATION = "Use ReLU, ReLU6, LeakyReLU, Hardswish or SiLU instead."
_NORM = "Use BatchNorm2d instead; it costs nothing on the device."
_TIME = "Recurrent layers are not supported; use convolutions over time."
_MATCH = "Attention is not supported; use convolutions, or squeeze-and-excite with a product per channel."
_RESIZE = "Use nearest-neighbour interpolation instead."
_REDUCE = "Use the mean over height and width (adaptive_avg_pool2d to 1) instead."

NEAREST: dict[str, str] = {
    **dict.fromkeys(("gelu", "elu", "celu", "selu", "mish", "softplus", "softsign", "prelu", "glu"), _ACTIVATION),
    **dict.fromkeys(("group_norm", "layer_norm", "instance_norm", "native_layer_norm", "native_group_norm"), _NORM),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _TIME),
    **dict.fromkeys(("scaled_dot_product_attention", "bmm", "einsum", "baddbmm"), _MATCH),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa"), _RESIZE),
    **dict.fromkeys(("sum", "amax", "max", "min", "amin", "var", "std"), _REDUCE),
    "conv1d": "Give the signal a height of 1 and use Conv2d with a kernel of (1, k).",
    "conv3d": "Use Conv2d instead.",
    "conv_transpose2d": "Use nearest-neighbour interpolation followed by Conv2d.",
    "max_pool1d": "Give the signal a height of 1 and use MaxPool2d with a kernel of (1, k).",
    "avg_pool1d": "Give the signal a height of 1 and use AvgPool2d with a kernel of (1, k).",
    "adaptive_avg_pool1d": "Give the signal a height of 1 and use AdaptiveAvgPool2d.",
    "channel_shuffle": "Channel shuffles are not supported; use a 1×1 convolution.",
    "pixel_shuffle": "Use nearest-neighbour interpolation followed by Conv2d.",
    "embedding": "Look embeddings up before the network.",
    "select": "Take a range of channels (x[:, a:b]) instead of a single one.",
    "unbind": "Use chunk or split instead.",
    "pow": "Multiply the value with itself instead.",
}
