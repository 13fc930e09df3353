"""For operations of ONNX that the float network does not have: the nearest thing that works."""

from __future__ import annotations

_ACTIVATION = "Use Relu, LeakyRelu, PRelu, Elu, HardSwish or Swish instead."
_NORM = "Use BatchNormalization instead; it costs nothing on the device."
_TIME = "Recurrent layers are not supported; use convolutions over time."
_CONTROL = "Branches and loops are not supported; export the network with them unrolled."
_MATCH = "Attention is not supported; use convolutions, or squeeze-and-excite with a product per channel."
_RANK = "Leave it out; do it in the application with the network's outputs."
_LOOKUP = "Look-ups are not supported; do them before the network."
_INTEGERS = (
    "Quantize in the QDQ format: onnxruntime.quantization.quantize_static(quant_format=QuantFormat.QDQ); "
    "or give the float model."
)
_SEQUENCE = "Sequences and optional values are not supported; give each tensor an output of its own."
_MEAN = "Use ReduceMean, ReduceSum, ReduceMax or ReduceMin instead."
_ROOT = "Only arithmetic with constants, products and sums are supported."

NEAREST: dict[str, str] = {
    **dict.fromkeys(("Gelu", "Celu", "Selu", "Mish", "Softplus", "Softsign", "ThresholdedRelu", "Erf"), _ACTIVATION),
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "RMSNormalization"), _NORM
    ),
    **dict.fromkeys(("MeanVarianceNormalization", "LpNormalization"), _NORM),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _TIME),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _CONTROL),
    **dict.fromkeys(("Attention", "Einsum", "RotaryEmbedding", "CumSum"), _MATCH),
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK", "NonMaxSuppression", "NonZero", "Hardmax"), _RANK),
    **dict.fromkeys(("GatherElements", "GatherND", "ScatterND", "ScatterElements", "OneHot", "Where"), _LOOKUP),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceProd", "ReduceSumSquare", "LpPool"), _MEAN),
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"), _INTEGERS
    ),
    **dict.fromkeys(("Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Floor", "Ceil", "Round", "Sign"), _ROOT),
    **dict.fromkeys(
        ("SequenceConstruct", "SequenceAt", "SequenceEmpty", "SplitToSequence", "ConcatFromSequence", "Optional"),
        _SEQUENCE,
    ),
    "Upsample": "Export for opset 11 or later, which has Resize.",
    "GlobalLpPool": "Use GlobalAveragePool or GlobalMaxPool instead.",
    "MaxUnpool": "Use Resize followed by Conv.",
    "GridSample": "Use Resize instead.",
    "DeformConv": "Use Conv instead.",
}
HOPELESS = ("If", "Loop", "Scan", "SequenceMap", "LSTM", "GRU", "RNN")
OTHER_DOMAIN = "Only ONNX's own operators are read; export without optimizations for one runtime."
