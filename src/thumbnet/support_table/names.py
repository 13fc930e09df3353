"""What every importer calls the operations of the float graph, declared: name in the source → operations it becomes.

Of several operations the settings decide, or whether an operand is constant. A name without any leaves nothing behind.
Tests compare the names with the importers' own tables.
"""

from __future__ import annotations

from collections.abc import Mapping

TORCH: Mapping[str, str] = {
    **dict.fromkeys(("conv2d", "conv1d"), "conv2d depthwise_conv2d"),
    "convolution": "conv2d depthwise_conv2d conv_transpose2d",
    **dict.fromkeys(("conv_transpose2d", "conv_transpose1d"), "conv_transpose2d"),
    **dict.fromkeys(("linear", "addmm", "mm", "matmul"), "dense"),
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), "batch_norm"),
    **dict.fromkeys(("max_pool2d", "max_pool1d", "max_pool2d_with_indices"), "max_pool2d"),
    **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool1d"), "max_pool2d"),
    **dict.fromkeys(("avg_pool2d", "avg_pool1d"), "avg_pool2d"),
    **dict.fromkeys(
        ("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool1d"), "avg_pool2d global_avg_pool"
    ),
    "mean": "mean global_avg_pool",
    "sum": "sum",
    "amax": "reduce_max",
    "amin": "reduce_min",
    **{name: name for name in ("relu", "relu6", "sigmoid", "tanh", "silu", "abs", "elu", "leaky_relu", "softmax")},
    "hardswish": "hard_swish",
    "hardsigmoid": "hard_sigmoid",
    **dict.fromkeys(("clamp", "hardtanh"), "clip relu relu6"),
    "clamp_min": "relu",
    **dict.fromkeys(("prelu", "_prelu_kernel"), "prelu"),
    "_softmax": "softmax",
    **dict.fromkeys(("log_softmax", "_log_softmax"), "log_softmax"),
    "add": "add batch_norm",
    "sub": "sub batch_norm",
    "mul": "mul batch_norm",
    **dict.fromkeys(("div", "rsub", "neg"), "batch_norm"),
    "maximum": "maximum relu",
    "minimum": "minimum",
    **dict.fromkeys(("square", "pow"), "mul"),
    **dict.fromkeys(("cat", "concat", "stack"), "concat"),
    **dict.fromkeys(("slice", "select", "unbind", "chunk", "split", "split_with_sizes"), "slice"),
    **dict.fromkeys(("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d"), "pad"),
    **dict.fromkeys(
        ("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d"), "resize"
    ),
    "flatten": "flatten",
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "unflatten", "view_copy"), "reshape flatten"
    ),
    **dict.fromkeys(("permute", "transpose"), "transpose"),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"), "transpose reshape"),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "identity", "alias", "clone", "contiguous"), ""),
    **dict.fromkeys(("detach", "to", "_to_copy", "lift_fresh", "expand"), ""),
}

ONNX: Mapping[str, str] = {
    "Conv": "conv2d depthwise_conv2d",
    "ConvTranspose": "conv_transpose2d",
    **dict.fromkeys(("Gemm", "MatMul"), "dense"),
    "BatchNormalization": "batch_norm",
    "MaxPool": "max_pool2d",
    "AveragePool": "avg_pool2d",
    "GlobalAveragePool": "global_avg_pool",
    "GlobalMaxPool": "max_pool2d reduce_max",
    "ReduceMean": "mean global_avg_pool",
    "ReduceSum": "sum",
    "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min",
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "PRelu": "prelu",
    "Elu": "elu",
    "Clip": "clip relu relu6",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid clip",
    "Tanh": "tanh",
    "HardSwish": "hard_swish",
    "Swish": "silu",
    "Abs": "abs",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Add": "add batch_norm",
    "Sub": "sub batch_norm",
    "Mul": "mul batch_norm silu hard_swish",
    **dict.fromkeys(("Div", "Neg"), "batch_norm"),
    "Max": "maximum relu",
    "Min": "minimum",
    "Sum": "add",
    "Mean": "add",
    "Pow": "mul",
    "Concat": "concat",
    **dict.fromkeys(("Slice", "Split", "Gather"), "slice"),
    "Pad": "pad",
    "Resize": "resize",
    "Flatten": "flatten",
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), "reshape flatten"),
    "Transpose": "transpose",
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), "transpose reshape"),
    **dict.fromkeys(("Identity", "Dropout", "Cast", "Expand", "Tile", "QuantizeLinear", "DequantizeLinear"), ""),
}

KERAS: Mapping[str, str] = {
    **dict.fromkeys(("Conv1D", "Conv2D"), "conv2d depthwise_conv2d"),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), "depthwise_conv2d"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "depthwise_conv2d conv2d"),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose"), "conv_transpose2d"),
    "Dense": "dense",
    **dict.fromkeys(("BatchNormalization", "Normalization", "Rescaling"), "batch_norm"),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D"), "max_pool2d"),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D"), "avg_pool2d"),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D"), "global_avg_pool mean"),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D"), "max_pool2d reduce_max"),
    "Activation": "relu relu6 leaky_relu elu sigmoid tanh silu hard_sigmoid hard_swish softmax log_softmax",
    "ReLU": "relu relu6 leaky_relu clip",
    "Relu": "relu",
    "Relu6": "relu6",
    **dict.fromkeys(("LeakyReLU", "LeakyRelu"), "leaky_relu"),
    "PReLU": "prelu",
    **dict.fromkeys(("ELU", "Elu"), "elu"),
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Silu": "silu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_swish",
    "Absolute": "abs",
    "Clip": "clip relu relu6",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Add": "add batch_norm",
    "Subtract": "sub batch_norm",
    "Multiply": "mul batch_norm silu hard_swish",
    **dict.fromkeys(("Divide", "TrueDivide", "Negative"), "batch_norm"),
    "Average": "add",
    "Square": "mul",
    "Maximum": "maximum relu",
    "Minimum": "minimum",
    "Mean": "mean global_avg_pool",
    "Sum": "sum",
    **dict.fromkeys(("Max", "Amax"), "reduce_max"),
    **dict.fromkeys(("Min", "Amin"), "reduce_min"),
    "Concatenate": "concat",
    **dict.fromkeys(("Cropping1D", "Cropping2D", "GetItem", "Split"), "slice"),
    **dict.fromkeys(("ZeroPadding1D", "ZeroPadding2D", "Pad"), "pad"),
    **dict.fromkeys(("UpSampling1D", "UpSampling2D"), "resize"),
    "Flatten": "flatten",
    **dict.fromkeys(("Reshape", "Squeeze", "ExpandDims"), "reshape flatten"),
    **dict.fromkeys(("Permute", "Transpose"), "transpose"),
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout"), ""),
    **dict.fromkeys(("GaussianNoise", "ActivityRegularization", "Identity", "RandomFlip", "RandomRotation"), ""),
    **dict.fromkeys(("RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"), ""),
}

TFLITE: Mapping[str, str] = {
    "CONV_2D": "conv2d depthwise_conv2d",
    "DEPTHWISE_CONV_2D": "depthwise_conv2d",
    "TRANSPOSE_CONV": "conv_transpose2d",
    "FULLY_CONNECTED": "dense",
    "ADD": "add batch_norm",
    "SUB": "sub batch_norm",
    "MUL": "mul batch_norm silu hard_swish",
    **dict.fromkeys(("DIV", "NEG"), "batch_norm"),
    "MAXIMUM": "maximum relu",
    "MINIMUM": "minimum",
    "SQUARE": "mul",
    "MAX_POOL_2D": "max_pool2d",
    "AVERAGE_POOL_2D": "avg_pool2d",
    "MEAN": "mean global_avg_pool",
    "SUM": "sum",
    "REDUCE_MAX": "reduce_max",
    "REDUCE_MIN": "reduce_min",
    **{n: n.lower() for n in ("RELU", "RELU6", "TANH", "HARD_SWISH", "ELU", "ABS", "LEAKY_RELU", "PRELU", "SOFTMAX")},
    "LOGISTIC": "sigmoid",
    "RELU_N1_TO_1": "clip",
    "LOG_SOFTMAX": "log_softmax",
    **dict.fromkeys(("CONCATENATION", "PACK"), "concat"),
    **dict.fromkeys(("UNPACK", "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE"), "slice"),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), "pad"),
    **dict.fromkeys(("RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"), "resize"),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), "reshape flatten"),
    "TRANSPOSE": "transpose",
    **dict.fromkeys(("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"), "transpose reshape"),
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE"), ""),
}

SOURCES: Mapping[str, Mapping[str, str]] = {"PyTorch": TORCH, "ONNX": ONNX, "Keras": KERAS, "TFLite": TFLITE}


def names_of(source: str, operation: str) -> list[str]:
    """How a source calls an operation of the graph, in the order of the table."""
    return [name for name, made in SOURCES[source].items() if operation in made.split()]


def passed_over(source: str) -> list[str]:
    """What leaves no operation behind."""
    return [name for name, made in SOURCES[source].items() if not made]
