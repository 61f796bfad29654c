"""What each operation of MIL computes: functions with MIL's own names and parameters, so that they read as its
documentation does. SUPPORTED is all of them.

Values come and go as numpy arrays: floats in float32 whatever their declared type, integers and booleans as they are,
strings as str. A parameter math, where an operation has it, is the arithmetic of its inner steps. An operation raises
UnknownFormError for a form whose meaning is not documented, and DamagedFileError for one that makes no sense.
"""

from collections.abc import Callable

from mvit_deploy.runtimes.coreml.ops import (
    activation,
    compression,
    elementwise,
    linear,
    normalization,
    reduction,
    spatial,
    tensors,
)

_NOT_OPERATIONS = {"padding", "pairs", "grid"}

SUPPORTED: dict[str, Callable[..., object]] = {
    name: function
    for module in (elementwise, activation, reduction, normalization, linear, spatial, tensors, compression)
    for name, function in vars(module).items()
    if getattr(function, "__module__", None) == module.__name__
    and callable(function)
    and not name.startswith("_")
    and name not in _NOT_OPERATIONS
}

OPSETS = ("CoreML5", "CoreML6", "CoreML7", "CoreML8")  # iOS 15, 16, 17, 18
MAX_RANK = 5
SINCE: dict[str, str] = {  # the first opset with an operation, where that is not CoreML5
    **dict.fromkeys(
        ("constexpr_affine_dequantize", "constexpr_cast", "constexpr_lut_to_dense", "constexpr_sparse_to_dense",
         "fill_like", "pixel_unshuffle", "reshape_like"),
        "CoreML6",
    ),
    **dict.fromkeys(("dequantize", "quantize", "resize"), "CoreML7"),
    **dict.fromkeys(
        ("constexpr_blockwise_shift_scale", "constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale",
         "scaled_dot_product_attention"),
        "CoreML8",
    ),
}  # fmt: skip

# Operations that only move or choose values: what they give has been rounded before.
EXACT = frozenset((
    "identity", "relu", "relu6", "maximum", "minimum", "select", "abs", "clip", "max_pool", "reduce_max", "reduce_min",
    "reshape", "reshape_like", "transpose", "expand_dims", "squeeze", "flatten2d", "reverse", "slice_by_index",
    "slice_by_size", "split", "concat", "stack", "tile", "gather", "gather_along_axis", "gather_nd", "topk",
    "pixel_shuffle", "pixel_unshuffle", "crop", "upsample_nearest_neighbor", "resize_nearest_neighbor",
))  # fmt: skip

# The element type of the results: that of the first parameter, unless it stands here. A name after = is the parameter
# whose type it is (of several the computed one), one after : the parameter that names it, all else the type itself;
# one for each result.
_COMPARISONS = (
    "equal", "not_equal", "greater", "greater_equal", "less", "less_equal",
    "logical_and", "logical_or", "logical_xor", "logical_not",
)  # fmt: skip
RESULT_TYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_COMPARISONS, ("bool",)),
    **dict.fromkeys(["shape", "non_zero", "argsort"], ("int32",)),
    **dict.fromkeys(["reduce_argmax", "reduce_argmin"], (":output_dtype",)),
    "topk": ("=x", ":output_indices_dtype"),
    "cast": (":dtype",),
    "matmul": ("=x y",),
    "select": ("=a",),
    "fill": ("=value",),
    "fill_like": ("=value",),
    "range_1d": ("=start",),
    "one_hot": ("=on_value",),
    "quantize": (":output_dtype",),
    "dequantize": ("=scale",),
    "constexpr_affine_dequantize": ("=scale",),
    "constexpr_blockwise_shift_scale": ("=scale",),
    "constexpr_cast": (":output_dtype",),
    "constexpr_lut_to_dense": ("=lut",),
    "constexpr_sparse_to_dense": ("=nonzero_data",),
    "constexpr_lut_to_sparse": ("uint1", "=lut"),
    "constexpr_sparse_blockwise_shift_scale": ("uint1", "=scale"),
}
