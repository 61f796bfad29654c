"""What each consumer is documented to take: the documents' own lists. rules.py names the documents."""

# TFLite's GPU delegate: what gpu_compatibility.cc lets through and model_builder.cc knows how to build.
GPU = frozenset({
    "ABS", "ADD", "ADD_N", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CAST", "CONCATENATION", "CONV_2D", "COS", "CUMSUM",
    "DENSIFY", "DEPTH_TO_SPACE", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DIV", "ELU", "EQUAL", "EXP", "FLOOR",
    "FLOOR_DIV", "FLOOR_MOD", "FULLY_CONNECTED", "GATHER", "GELU", "GREATER", "GREATER_EQUAL", "HARD_SWISH",
    "LEAKY_RELU", "LESS", "LESS_EQUAL", "LOG", "LOGICAL_AND", "LOGISTIC", "LSTM", "MAX_POOL_2D", "MAXIMUM", "MEAN",
    "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "NOT_EQUAL", "ONE_HOT", "PACK", "PAD", "PADV2", "POW", "PRELU", "QUANTIZE",
    "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SELECT", "SELECT_V2", "SIGN", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH",
    "SPLIT", "SPLIT_V", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TILE",
    "TRANSPOSE", "TRANSPOSE_CONV",
})  # fmt: skip
# The list of the delegate's guide and README.
GPU_DOCUMENTED = frozenset({
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "EXP", "FULLY_CONNECTED", "LOGISTIC",
    "LSTM", "MAX_POOL_2D", "MAXIMUM", "MINIMUM", "MUL", "PAD", "PRELU", "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR",
    "SOFTMAX", "STRIDED_SLICE", "SUB", "TRANSPOSE_CONV",
})  # fmt: skip
# What model_builder.cc allows beside float and 8-bit tensors.
GPU_OTHER_TYPES = {
    "CAST": {"BOOL", "INT32"}, "ONE_HOT": {"INT32"}, "SELECT": {"BOOL"}, "SELECT_V2": {"BOOL"}, "LOGICAL_AND": {"BOOL"},
    "GATHER": {"INT32"}, "EQUAL": {"BOOL"}, "NOT_EQUAL": {"BOOL"}, "GREATER": {"BOOL"}, "GREATER_EQUAL": {"BOOL"},
    "LESS": {"BOOL"}, "LESS_EQUAL": {"BOOL"},
}  # fmt: skip

# The NNAPI delegate's Validate: the operator, and the newest version of it. DEPTH_TO_SPACE and HARD_SWISH: any.
NNAPI = {
    "ABS": 1, "ADD": 2, "ARG_MAX": 2, "ARG_MIN": 2, "AVERAGE_POOL_2D": 2, "BATCH_MATMUL": 2, "BATCH_TO_SPACE_ND": 2,
    "BIDIRECTIONAL_SEQUENCE_LSTM": 1, "CAST": 1, "CONCATENATION": 2, "CONV_2D": 5, "COS": 1, "DEPTHWISE_CONV_2D": 3,
    "DEPTH_TO_SPACE": 99, "DEQUANTIZE": 2, "DIV": 1, "ELU": 1, "EMBEDDING_LOOKUP": 1, "EQUAL": 2, "EXP": 1,
    "EXPAND_DIMS": 1, "FILL": 1, "FLOOR": 1, "FULLY_CONNECTED": 5, "GATHER": 2, "GREATER": 2, "GREATER_EQUAL": 2,
    "HARD_SWISH": 99, "HASHTABLE_LOOKUP": 1, "L2_NORMALIZATION": 2, "L2_POOL_2D": 1, "LEAKY_RELU": 1, "LESS": 2,
    "LESS_EQUAL": 2, "LOCAL_RESPONSE_NORMALIZATION": 1, "LOG": 1, "LOGICAL_AND": 1, "LOGICAL_NOT": 1, "LOGICAL_OR": 1,
    "LOGISTIC": 2, "LOG_SOFTMAX": 1, "LSH_PROJECTION": 1, "LSTM": 3, "MAXIMUM": 3, "MAX_POOL_2D": 2, "MEAN": 2,
    "MINIMUM": 3, "MIRROR_PAD": 2, "MUL": 3, "NEG": 2, "NOT_EQUAL": 2, "PACK": 2, "PAD": 2, "PADV2": 2, "POW": 1,
    "PRELU": 1, "QUANTIZE": 2, "REDUCE_ANY": 2, "REDUCE_MAX": 2, "REDUCE_MIN": 2, "REDUCE_PROD": 1, "RELU": 2,
    "RELU6": 2, "RELU_N1_TO_1": 2, "RESHAPE": 1, "RESIZE_BILINEAR": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "REVERSE_V2": 3,
    "RNN": 1, "RSQRT": 2, "SELECT": 2, "SIN": 1, "SLICE": 2, "SOFTMAX": 2, "SPACE_TO_BATCH_ND": 2, "SPACE_TO_DEPTH": 2,
    "SPLIT": 3, "SPLIT_V": 2, "SQRT": 1, "SQUARED_DIFFERENCE": 2, "SQUEEZE": 1, "STRIDED_SLICE": 2, "SUB": 3, "SUM": 1,
    "SVDF": 1, "TANH": 2, "TILE": 1, "TOPK_V2": 2, "TRANSPOSE": 2, "TRANSPOSE_CONV": 4,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 2, "UNIDIRECTIONAL_SEQUENCE_RNN": 1, "UNPACK": 2,
}  # fmt: skip

# The XNNPACK delegate's VisitNode.
XNNPACK = frozenset({
    "ABS", "ADD", "ASSIGN_VARIABLE", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CEIL", "CONCATENATION", "CONV_2D", "COS",
    "DEPTH_TO_SPACE", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "DIV", "ELU", "EXP", "EXPAND_DIMS", "FLOOR",
    "FULLY_CONNECTED", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MAX_POOL_2D", "MAXIMUM", "MEAN", "MINIMUM",
    "MUL", "NEG", "PAD", "PRELU", "QUANTIZE", "READ_VARIABLE", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6",
    "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR", "ROUND", "RSQRT", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH",
    "SPLIT", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE",
    "TRANSPOSE_CONV", "VAR_HANDLE",
})  # fmt: skip
# The lists of its README, of floating-point and of quantized operators.
XNNPACK_DOCUMENTED = frozenset({
    "ABS", "ADD", "AVERAGE_POOL_2D", "CEIL", "CONCATENATION", "CONV_2D", "DEPTH_TO_SPACE", "DEPTHWISE_CONV_2D",
    "DEQUANTIZE", "DIV", "ELU", "FLOOR", "FULLY_CONNECTED", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MAX_POOL_2D",
    "MAXIMUM", "MEAN", "MINIMUM", "MUL", "NEG", "PAD", "PRELU", "QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1",
    "RESHAPE", "RESIZE_BILINEAR", "ROUND", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SQRT", "SQUARE",
    "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
})  # fmt: skip
XNNPACK_JOINED = 5  # tensors of one CONCATENATION
TFLITE_BUILT_IN_CUSTOM = ("AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess")

# ONNX operators have their domain in front where it is not ai.onnx.
NNAPI_EP = frozenset({
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "com.microsoft:QLinearAdd",
    "com.microsoft:QLinearAveragePool", "com.microsoft:QLinearSigmoid", "Concat", "Conv", "DepthToSpace",
    "DequantizeLinear", "Div", "Elu", "Exp", "Flatten", "Floor", "Gather", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "Identity", "LeakyRelu", "Log", "LRN", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "Pad",
    "Pow", "PRelu", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Resize",
    "Sigmoid", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip
# The document spells ArgMax "Argmax".
COREML_EP = frozenset({
    "Add", "ArgMax", "AveragePool", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Erf",
    "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "GridSample", "GroupNormalization", "InstanceNormalization",
    "LayerNormalization", "LeakyRelu", "MatMul", "Max", "MaxPool", "Mul", "Pow", "PRelu", "Reciprocal", "ReduceMax",
    "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Round", "Shape", "Sigmoid", "Slice", "Softmax", "Split",
    "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip
XNNPACK_EP = frozenset({
    "AveragePool", "com.microsoft:QLinearAveragePool", "com.microsoft:QLinearConvTranspose",
    "com.microsoft:QLinearSoftmax", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "QLinearConv", "Resize",
    "Softmax",
})  # fmt: skip
ORT_MOBILE = frozenset({
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "Cast", "Ceil", "Clip",
    "com.microsoft:DynamicQuantizeMatMul", "com.microsoft:FusedConv", "com.microsoft:FusedGemm",
    "com.microsoft:FusedMatMul", "com.microsoft:Gelu", "com.microsoft:MatMulIntegerToFloat",
    "com.microsoft:NhwcMaxPool", "com.microsoft:QLinearAdd", "com.microsoft:QLinearAveragePool",
    "com.microsoft:QLinearConv", "com.microsoft:QLinearGlobalAveragePool", "com.microsoft:QLinearLeakyRelu",
    "com.microsoft:QLinearMul", "com.microsoft:QLinearSigmoid", "Concat", "ConstantOfShape", "Conv", "ConvTranspose",
    "Cos", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp",
    "Expand", "Flatten", "Floor", "Gather", "GatherND", "Gemm", "GlobalAveragePool", "Greater", "GreaterOrEqual",
    "HardSigmoid", "Identity", "If", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "Loop", "LRN", "MatMul", "MatMulInteger", "Max", "MaxPool", "Mean", "Min",
    "Mul", "Neg", "NonMaxSuppression", "NonZero", "Not", "Or", "Pad", "Pow", "PRelu", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "Relu", "Reshape", "Resize", "ReverseSequence", "Round", "Scan", "ScatterND", "Shape", "Sigmoid", "Sin", "Size",
    "Slice", "Softmax", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Tile",
    "TopK", "Transpose", "Unique", "Unsqueeze", "Where",
})  # fmt: skip
ORT_MOBILE_OPSETS = range(12, 16)
MAX_OPSET, MAX_IR = 21, 10  # of ONNX Runtime 1.18 to 1.20
COREML_EP_RANK = 5

# The ANE guide's matrix: no path on any family; native from the A14 (M2) or the A15 (M3) on.
ANE_NO_PATH = frozenset({
    "acos", "acosh", "asin", "asinh", "atanh", "band_part", "cond", "constexpr_cast", "cosh", "gru", "list_gather",
    "list_length", "list_read", "list_scatter", "list_write", "logical_and", "logical_or", "logical_xor", "lstm",
    "make_list", "mod", "non_maximum_suppression", "non_zero", "one_hot", "random_bernoulli", "random_categorical",
    "random_normal", "reduce_prod", "reverse_sequence", "rnn", "scatter", "scatter_along_axis", "scatter_nd", "shape",
    "sinh", "sliding_windows", "tan", "while_loop",
})  # fmt: skip
ANE_NEWER = frozenset({
    "affine", "argsort", "cos", "crop_resize", "gather_nd", "random_uniform", "reduce_argmin", "resample", "resize",
    "resize_bilinear", "resize_nearest_neighbor", "sin", "topk", "upsample_bilinear", "upsample_nearest_neighbor",
})  # fmt: skip
ANE_TABLES = frozenset({
    "elu", "erf", "exp", "exp2", "gelu", "log", "scaled_tanh", "sigmoid", "sigmoid_hard", "silu", "softplus",
    "softsign", "tanh",
})  # fmt: skip
ANE_PRODUCTS = frozenset({
    "conv", "conv_transpose", "einsum", "linear", "matmul", "scaled_dot_product_attention",
})  # fmt: skip
ANE_WIDTH, ANE_CHANNELS = 16384, 65536
ANE_KERNEL_WIDTH, ANE_KERNEL_HEIGHT = 13, 29
CORE_ML_RANK = 5
# The community's list, for the classic format.
ANE_LAYERS = frozenset({
    "addBroadcastable", "biDirectionalLSTM", "concatND", "custom", "divideBroadcastable", "floorDivBroadcastable",
    "gather", "gatherAlongAxis", "gatherND", "gru", "loadConstantND", "maxBroadcastable", "minBroadcastable",
    "modBroadcastable", "multiplyBroadcastable", "powBroadcastable", "simpleRecurrent", "softmaxND", "splitND",
    "subtractBroadcastable", "uniDirectionalLSTM", "whereBroadcastable",
})  # fmt: skip
