"""For operations that cannot be imported: the nearest thing that works."""

from __future__ import annotations

_ACTIVATION = "Use ReLU, ReLU6, LeakyReLU, PReLU, ELU, Hardswish or SiLU instead."
_NORM = "Use BatchNorm2d instead; it costs nothing on the device."
_TIME = "Recurrent layers are not supported; use convolutions over time."
_MATCH = "Attention is not supported; use convolutions, or squeeze-and-excite with a product per channel."
_RESIZE = "Use nearest-neighbour or bilinear interpolation instead, without antialiasing."
_EXTREME = "Use amax or amin, which give the numbers without their places."
_SPREAD = "Use mean, sum, amax or amin instead."
_3D = "Use its 2-D form instead."
_RANK = "Leave it out; do it in the application with the network's outputs."
_ROOT = "Only arithmetic with constants, products and sums are supported."
_LOOKUP = "Look it up before the network."
_FOURIER = "Transform signals before the network."

NEAREST: dict[str, str] = {
    **dict.fromkeys(("gelu", "celu", "selu", "mish", "softplus", "glu", "log_sigmoid", "erf"), _ACTIVATION),
    **dict.fromkeys(("group_norm", "layer_norm", "instance_norm", "rms_norm"), _NORM),
    **dict.fromkeys(("native_layer_norm", "native_group_norm"), _NORM),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _TIME),
    **dict.fromkeys(("scaled_dot_product_attention", "bmm", "einsum", "baddbmm"), _MATCH),
    **dict.fromkeys(("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"), _RESIZE),
    **dict.fromkeys(("max", "min"), _EXTREME),
    **dict.fromkeys(("var", "std", "prod", "logsumexp", "linalg_vector_norm"), _SPREAD),
    **dict.fromkeys(("conv3d", "conv_transpose3d", "max_pool3d", "avg_pool3d", "adaptive_avg_pool3d"), _3D),
    **dict.fromkeys(("argmax", "argmin", "topk", "sort"), _RANK),
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos"), _ROOT),
    **dict.fromkeys(("embedding", "gather", "index_select", "where"), _LOOKUP),
    **dict.fromkeys(("stft", "fft_rfft", "fft_fft"), _FOURIER),
    "upsample_linear1d": "Give the signal a height of 1 and use bilinear interpolation.",
    "grid_sampler": "Use nearest-neighbour or bilinear interpolation instead.",
    "flip": "Flip the input before the network.",
    "roll": "Cut the value (x[:, a:b]) and join the parts with cat.",
    "repeat": "Operations on two values repeat axes of size 1 by themselves.",
}
