"""Layers, operations and functions that a Keras file may name, and what they are made with.

Nothing outside of these tables is ever looked up, so a file can bring no code of its own to life.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from thumbnet.errors import UnsupportedOpError
from thumbnet.importers.keras_config import LayerSpec

LAYERS = frozenset(
    (
        *("InputLayer", "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D"),
        *("SeparableConv2D", "Conv1DTranspose", "Conv2DTranspose", "Dense", "BatchNormalization", "ReLU"),
        *("LeakyReLU", "PReLU", "ELU", "Activation", "Softmax", "MaxPooling1D", "MaxPooling2D"),
        *("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
        *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "Add", "Subtract", "Multiply", "Average", "Maximum"),
        *("Minimum", "Concatenate", "Flatten", "Reshape", "Permute", "ZeroPadding1D", "ZeroPadding2D"),
        *("Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D", "Dropout", "SpatialDropout1D"),
        *("SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization"),
        *("Identity", "Rescaling", "Normalization", "RandomFlip", "RandomRotation", "RandomZoom"),
        *("RandomTranslation", "RandomContrast", "RandomBrightness"),
    )
)
"""Supported layers of `keras.layers`."""

_RECURRENT = "Recurrent layers are not supported; use Conv1D over time."
_ATTENTION = "Attention is not supported; use convolutions, or squeeze-and-excite with a product per channel."
_NORM = "Use BatchNormalization instead; it costs nothing on the device."
_3D = "Use its 2-D form instead."
_LOOKUP = "Look words and categories up before the network."
_CODE = (
    "Its code is not run. Write it with layers of Keras (Rescaling, Activation, Multiply, keras.ops …), or export it."
)

REFUSED: dict[str, str] = {
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D"), _RECURRENT),
    "TimeDistributed": "Apply the layer itself: Dense and Conv1D work on each step already.",
    **dict.fromkeys(("MultiHeadAttention", "Attention", "AdditiveAttention", "GroupQueryAttention", "Dot"), _ATTENTION),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "UnitNormalization", "RMSNormalization"), _NORM),
    "SpectralNormalization": "Save the network without this wrapper, which only training needs.",
    **dict.fromkeys(("Conv3D", "Conv3DTranspose", "MaxPooling3D", "AveragePooling3D"), _3D),
    **dict.fromkeys(("Embedding", "StringLookup", "IntegerLookup", "TextVectorization", "Hashing"), _LOOKUP),
    **dict.fromkeys(("Lambda", "TensorFlowOpLayer"), _CODE),
    "RepeatVector": "Use UpSampling1D on a signal of length 1.",
    "Masking": "Masks are not supported; give inputs of one length.",
    "EinsumDense": "Use Dense or a 1×1 Conv2D.",
    "Resizing": "Resize images before the network, or use UpSampling2D.",
    "CenterCrop": "Use Cropping2D.",
    "RandomCrop": "Crop images before the network.",
    "TFSMLayer": "Give the SavedModel itself (with thumbnet[tensorflow]), or export it to TFLite.",
}
"""Other layers, with what to do instead."""

_BUILDABLE = {"LSTM", "GRU", "SimpleRNN", "LayerNormalization", "GroupNormalization", "UnitNormalization", "Conv3D"}
_BUILDABLE |= {"RepeatVector", "Masking", "EinsumDense", "CenterCrop", "MaxPooling3D", "AveragePooling3D", "Dot"}
CHECKED = LAYERS | _BUILDABLE
"""Layers that `check` makes, supported or not, to learn the shapes behind them."""

ALIASES = {
    "AvgPool1D": "AveragePooling1D",
    "AvgPool2D": "AveragePooling2D",
    "MaxPool1D": "MaxPooling1D",
    "MaxPool2D": "MaxPooling2D",
    "GlobalAvgPool1D": "GlobalAveragePooling1D",
    "GlobalAvgPool2D": "GlobalAveragePooling2D",
    "GlobalMaxPool1D": "GlobalMaxPooling1D",
    "GlobalMaxPool2D": "GlobalMaxPooling2D",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Deconvolution2D": "Conv2DTranspose",
    "Convolution2DTranspose": "Conv2DTranspose",
    "SeparableConvolution2D": "SeparableConv2D",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
}

ACTIVATIONS = {
    **{
        n: n
        for n in (
            *("linear", "relu", "relu6", "leaky_relu", "elu", "sigmoid", "tanh", "softmax", "log_softmax", "silu"),
            *("hard_sigmoid",),
        )
    },
    "hard_silu": "hard_silu",
    "swish": "silu",
    "hard_swish": "hard_silu",
    **{
        n: n
        for n in (
            *("gelu", "selu", "celu", "softplus", "softsign", "exponential", "mish", "glu", "log_sigmoid"),
            *("hard_tanh", "tanh_shrink", "soft_shrink", "hard_shrink", "squareplus", "sparsemax"),
        )
    },
}
"""Names that files use → functions of `keras.activations`, supported or not."""

DROPPED = frozenset(
    (
        *("name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape", "input_dim"),
        *("input_length", "input_dtype", "sparse", "ragged", "optional", "synchronized", "quantization_config"),
        *("lora_rank", "lora_alpha", "autocast", "virtual_batch_size", "fused", "adjustment", "fill_mode"),
        *("fill_value", "seed", "renorm_clipping", "renorm_momentum"),
    )
)
"""Settings that no inference reads."""

OPERATIONS: dict[str, str] = {
    **{
        n: n.lower()
        for n in (*("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Negative", "Absolute", "Square", "Clip"),)
    },
    **{
        n: n.lower()
        for n in (*("Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Elu", "Softmax", "Mean", "Sum", "Max", "Min"),)
    },
    **{n: n.lower() for n in (*("Concatenate", "Reshape", "Transpose", "Squeeze", "Pad", "Split"),)},
    "Divide": "divide",
    "TrueDivide": "true_divide",
    "LeakyRelu": "leaky_relu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "LogSoftmax": "log_softmax",
    "ExpandDims": "expand_dims",
    "Amax": "amax",
    "Amin": "amin",
    "GetItem": "",
    "Identity": "",
}
"""Operations of Keras 3 → functions of `keras.ops` that make them."""

Make = Callable[..., Any]


def tensorflow_functions(ops: Any) -> Mapping[str, Make]:
    """Functions of TensorFlow that Keras 2 wrote down as layers (TFOpLambda), as operations of Keras 3.

    They take the first input, and TensorFlow's further arguments by name.
    """

    def binary(function: Make) -> Make:
        return lambda x, y=None: function(x, y)

    def reduce(function: Make) -> Make:
        return lambda input_tensor, axis=None, keepdims=False: function(input_tensor, axis=axis, keepdims=keepdims)

    named: dict[str, Make] = {
        **dict.fromkeys(("__operators__.add", "math.add", "add"), binary(ops.add)),
        **dict.fromkeys(("__operators__.sub", "math.subtract", "subtract"), binary(ops.subtract)),
        **dict.fromkeys(("__operators__.mul", "math.multiply", "multiply"), binary(ops.multiply)),
        **dict.fromkeys(("__operators__.truediv", "math.divide", "math.truediv", "divide"), binary(ops.true_divide)),
        **dict.fromkeys(("__operators__.rsub",), lambda x, y=None: ops.subtract(y, x)),
        **dict.fromkeys(("__operators__.neg", "math.negative", "negative"), ops.negative),
        **dict.fromkeys(("math.maximum", "maximum"), binary(ops.maximum)),
        **dict.fromkeys(("math.minimum", "minimum"), binary(ops.minimum)),
        **dict.fromkeys(("math.reduce_mean", "reduce_mean"), reduce(ops.mean)),
        **dict.fromkeys(("math.reduce_sum", "reduce_sum"), reduce(ops.sum)),
        **dict.fromkeys(("math.reduce_max", "reduce_max"), reduce(ops.max)),
        **dict.fromkeys(("math.sigmoid", "nn.sigmoid", "sigmoid"), ops.sigmoid),
        **dict.fromkeys(("math.tanh", "nn.tanh", "tanh"), ops.tanh),
        **dict.fromkeys(("math.abs", "abs"), ops.absolute),
        **dict.fromkeys(("math.square", "square"), ops.square),
        **dict.fromkeys(("nn.silu", "nn.swish"), lambda features, beta=1.0: _silu(ops, features, beta)),
        "nn.relu": ops.relu,
        "nn.relu6": ops.relu6,
        "nn.elu": ops.elu,
        "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, negative_slope=alpha),
        "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, axis=-1 if axis is None else axis),
        "clip_by_value": lambda t, clip_value_min, clip_value_max: ops.clip(t, clip_value_min, clip_value_max),
        "concat": lambda values, axis: ops.concatenate(values, axis=axis),
        "reshape": lambda tensor, shape: ops.reshape(tensor, shape),
        "transpose": lambda a, perm=None, conjugate=False: ops.transpose(a, perm),
        "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
        "squeeze": lambda input, axis=None: ops.squeeze(input, axis),
        "identity": lambda input: input,
        "cast": lambda x, dtype=None: x,
        "__operators__.getitem": lambda x, slice_spec: x[_key(slice_spec)],
    }
    return named


def _silu(ops: Any, x: Any, beta: float) -> Any:
    return ops.silu(x) if beta == 1 else ops.multiply(x, ops.sigmoid(ops.multiply(x, beta)))


def _key(spec: Any) -> Any:
    return tuple(spec) if isinstance(spec, list) else spec


# --- names in files


def kind_of(spec: LayerSpec) -> str:
    return ALIASES.get(spec.kind, spec.kind)


def refusal(spec: LayerSpec) -> UnsupportedOpError:
    if spec.module != "custom" and kind_of(spec) in REFUSED:
        return UnsupportedOpError(spec.kind, spec.name, REFUSED[kind_of(spec)])
    if spec.is_operation:
        return UnsupportedOpError(f"keras.ops {spec.kind}", spec.name, "Use a supported layer or operation instead.")
    return UnsupportedOpError(
        spec.kind[:80],
        spec.name,
        "It is no layer of Keras that Thumbnet knows, and code of files is never run. "
        "Give the network as a live keras.Model made of Keras's own layers, or export it to ONNX.",
    )
