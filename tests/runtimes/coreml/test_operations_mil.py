"""Each operation of ML Programs against coremltools: its numpy value_inference, its defaults, its parameters, the files
that it writes."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

import exporters.coreml  # noqa: F401  # first: it keeps coremltools from importing TensorFlow
from mvit_deploy.runtimes.coreml import ops
from mvit_deploy.runtimes.coreml import program as mil
from mvit_deploy.runtimes.coreml.arithmetic import FLOAT32, round_to_half
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.ops import EXACT, SUPPORTED
from tests.runtimes.coreml import test_compression
from tests.runtimes.coreml.oracle import COVERED as COVERED_BY_TORCH
from tests.runtimes.coreml.test_compression import read_back

import coremltools as ct  # isort: skip
from coremltools.converters.mil import Builder as mb  # isort: skip
from coremltools.converters.mil.mil import Function, Program, Var, mil_list, types  # isort: skip
from coremltools.converters.mil.mil.operation import Operation  # isort: skip
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry  # isort: skip

OPSETS = (ct.target.iOS15, ct.target.iOS16, ct.target.iOS17, ct.target.iOS18)
SEEDS = range(4)
AGAINST_TORCH = (
    "convolutions", "products", "normalizations", "pools", "resizing", "elementwise", "gathering", "shapes", "rounding",
)  # fmt: skip
F, I, B = np.float32, np.int32, np.bool_
Arguments = dict[str, object]


class Draw:
    """Random shapes, attributes and tensors."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def flag(self) -> bool:
        return bool(self.rng.integers(2))

    def pick(self, *options: object) -> object:
        return options[self.integer(0, len(options) - 1)]

    def shape(self, low: int = 1, high: int = 4) -> list[int]:
        return [self.integer(1, 5) for _ in range(self.integer(low, high))]

    def floats(self, *shape: int, low: float = -3, high: float = 3) -> np.ndarray:
        return self.rng.uniform(low, high, shape).astype(F)

    def integers(self, *shape: int, low: int = -9, high: int = 9) -> np.ndarray:
        return self.rng.integers(low, high, shape, endpoint=True).astype(I)

    def flags(self, *shape: int) -> np.ndarray:
        return self.rng.integers(2, size=shape).astype(B)

    def axis(self, rank: int) -> int:
        return self.integer(-rank, rank - 1)

    def axes(self, rank: int) -> list[int]:
        chosen = sorted(self.rng.choice(rank, self.integer(1, rank), replace=False).tolist())
        return [axis - rank if self.flag() else axis for axis in chosen]

    def pair(self, low: float = -3, high: float = 3) -> tuple[np.ndarray, np.ndarray]:
        """Two tensors that broadcast."""
        shape = self.shape()
        sides = [[side if self.rng.integers(3) else 1 for side in shape] for _ in range(2)]
        return self.floats(*sides[0], low=low, high=high), self.floats(
            *sides[1][self.integer(0, 1) :], low=low, high=high
        )


Case = Callable[[Draw], Arguments]


def one(low: float = -3, high: float = 3, **parameters: object) -> Case:
    return lambda d: {"x": d.floats(*d.shape(), low=low, high=high), **parameters}


def small(**parameters: object) -> Case:
    return lambda d: {"x": d.floats(1, 2, 3), **parameters}


def whole(case: Case) -> Case:
    """The same with integers."""
    return lambda d: {
        key: v.astype(I) if isinstance(v, np.ndarray) and v.dtype == F else v for key, v in case(d).items()
    }


def two(low: float = -3, high: float = 3) -> Case:
    return lambda d: dict(zip("xy", d.pair(low, high), strict=True))


def logical(d: Draw) -> Arguments:
    return {key: value > 0 for key, value in two()(d).items()}


def channels(*names: str, low: float = -3, shape: Sequence[int] = (2, 3, 4, 2)) -> Case:
    return lambda d: {"x": d.floats(*shape), **{name: d.floats(shape[1], low=low) for name in names}}


def along_axes(d: Draw, low: float = -3) -> Arguments:
    shape = d.shape()
    return {"x": d.floats(*shape, low=low), "axes": d.axes(len(shape)), "keep_dims": d.flag()}


def along_axis(d: Draw) -> Arguments:
    shape = d.shape()
    return {"x": d.floats(*shape), "axis": d.axis(len(shape))}


def convolution(d: Draw) -> Arguments:
    return {"x": d.floats(1, 4, 6, 5), "weight": d.floats(6, 2, 3, 2), "groups": I(2), "strides": [2, 1]}


def transposed_convolution(d: Draw) -> Arguments:
    return {"x": d.floats(1, 4, 3, 5), "weight": d.floats(4, 3, 3, 2), "groups": I(2), "strides": [2, 1]}


def pool(d: Draw) -> Arguments:
    form = {"kernel_sizes": [3, 2], "strides": [2, 1], "pad_type": "custom", "pad": [1, 1, 0, 1]}
    return {"x": d.floats(1, 2, 6, 5), **form}


def product(d: Draw) -> Arguments:
    n, k, m, batch = (d.integer(1, 4) for _ in range(4))
    across, down = d.flag(), d.flag()
    x = d.floats(batch, *((k, n) if across else (n, k)))
    y = d.floats(*d.pick([], [1], [batch]), *((m, k) if down else (k, m)))
    return {"x": x, "y": y, "transpose_x": across, "transpose_y": down}


def attention(d: Draw) -> Arguments:
    batch, length, keys, width = (d.integer(1, 4) for _ in range(4))
    mask = d.floats(length, keys)
    given = {"query": d.floats(batch, length, width), "key": d.floats(batch, keys, width)}
    return {**given, "value": d.floats(batch, keys, 3), "attn_mask": mask}


def masked_attention(d: Draw) -> Arguments:
    given = attention(d)
    mask = given["attn_mask"] > 0
    mask[:, 0] = True
    return {**given, "attn_mask": mask}


def normalised(d: Draw) -> Arguments:
    shape = d.shape(2, 4)
    axes = d.axes(len(shape))
    sides = [shape[axis] for axis in axes]
    return {
        "x": d.floats(*shape),
        "axes": axes,
        "gamma": d.floats(*sides),
        "beta": d.floats(*sides),
        "epsilon": F(1e-3),
    }


def einsum(equation: str) -> Case:
    def case(d: Draw) -> Arguments:
        c, h, w, u = (d.integer(1, 4) for _ in range(4))
        lead, other = ([2], [d.pick(1, 2)]) if equation.index(",") == 4 else ([], [])
        return {"values": (d.floats(*lead, c, h, w), d.floats(*other, w, d.pick(1, h), u)), "equation": equation}

    return case


def gather(d: Draw) -> Arguments:
    shape = d.shape()
    axis = d.axis(len(shape))
    return {"x": d.floats(*shape), "indices": d.integers(*d.shape(0, 2), low=0, high=shape[axis] - 1), "axis": axis}


def gather_batch(d: Draw) -> Arguments:
    batch = d.integer(1, 2)
    lead, side = [d.integer(1, 3) for _ in range(batch)], d.integer(1, 4)
    indices = d.integers(*lead, *d.shape(0, 2), low=0, high=side - 1)
    return {"x": d.floats(*lead, 2, side), "indices": indices, "axis": batch + 1, "batch_dims": batch}


def gather_along_axis(d: Draw) -> Arguments:
    shape = d.shape()
    axis = d.axis(len(shape))
    sides = list(shape)
    sides[axis] = d.integer(1, 4)
    return {"x": d.floats(*shape), "indices": d.integers(*sides, low=0, high=shape[axis] - 1), "axis": axis}


def slice_by_index(d: Draw) -> Arguments:
    """Slices with elements: coremltools' shapes and values differ where there are none."""
    shape = [d.integer(2, 5) for _ in range(d.integer(1, 4))]
    first, last = ([d.integer(0, side - 1) for side in shape] for _ in range(2))
    stride = [d.pick(1, 2) if a <= b else d.pick(-1, -2) for a, b in zip(first, last, strict=True)]
    masks = {name: [d.integer(0, 3) == 0 for _ in shape] for name in ("begin_mask", "end_mask", "squeeze_mask")}
    masks["squeeze_mask"][0] = False
    begin = [a - side if d.flag() else a for a, side in zip(first, shape, strict=True)]
    end = []
    for axis, (b, step) in enumerate(zip(last, stride, strict=True)):
        after = b + (1 if step > 0 else -1)
        masks["end_mask"][axis] |= after < 0
        end.append(max(after, 0))
    return {"x": d.floats(*shape), "begin": begin, "end": end, "stride": stride, **masks}


def slice_by_size(d: Draw) -> Arguments:
    shape = d.shape()
    begin = [d.integer(0, side - 1) for side in shape]
    size = [d.pick(-1, d.integer(1, side - b)) for side, b in zip(shape, begin, strict=True)]
    return {"x": d.floats(*shape), "begin": begin, "size": size}


def concat(d: Draw) -> Arguments:
    shape = d.shape()
    axis, values = d.axis(len(shape)), []
    for _ in range(d.integer(1, 4)):
        sides = list(shape)
        sides[axis] = d.integer(1, 3)
        values.append(d.floats(*sides))
    return {"values": tuple(values), "axis": axis}


def pad(d: Draw) -> Arguments:
    shape = [d.integer(2, 5) for _ in range(3)]
    return {
        "x": d.floats(*shape),
        "pad": [d.integer(0, side - 1) for side in shape[1:] for _ in "be"],
        "mode": d.pick("constant", "reflect", "replicate"),
        "constant_val": F(1.5),
    }


def split(d: Draw) -> Arguments:
    sizes = [d.integer(1, 3) for _ in range(d.integer(2, 4))]
    return {"x": d.floats(2, sum(sizes)), "split_sizes": sizes, "axis": d.pick(1, -1)}


def reshape(d: Draw) -> Arguments:
    return {"x": d.floats(2, 3, 4), "shape": d.pick([0, -1, 2], [4, 6], [1, 0, -1, 0], [-1], [0, 0, 0], [-1, 0])}


def quantized(d: Draw) -> Arguments:
    scale, zero = d.floats(3, low=0.02, high=0.1), d.integers(3, low=-20, high=20).astype(np.int8)
    return {
        "input": d.floats(2, 3, 4),
        "scale": scale,
        "zero_point": zero,
        "axis": d.pick(1, -2),
        "output_dtype": "int8",
    }


def dequantized(d: Draw) -> Arguments:
    given = quantized(d)
    del given["output_dtype"]
    return {**given, "input": d.integers(2, 3, 4, low=-128, high=127).astype(np.int8)}


ELEMENTWISE = [
    "ceil",
    "cos",
    "cosh",
    "erf",
    "exp",
    "exp2",
    "floor",
    "round",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "atan",
]
ACTIVATIONS = ["relu", "relu6", "sigmoid", "silu", "softplus", "softsign"]
REDUCTIONS = ["reduce_mean", "reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp"]
WHOLE_REDUCTIONS = ["reduce_sum", "reduce_sum_square", "reduce_l1_norm", "reduce_max", "reduce_min", "reduce_prod"]
COMPARISONS = ["equal", "not_equal", "greater", "greater_equal", "less", "less_equal"]

CASES: dict[str, tuple[Case, ...]] = {
    **dict.fromkeys(ELEMENTWISE, (one(0.1, 3), one(0.1, 3))),
    **dict.fromkeys(ACTIVATIONS, (one(),)),
    **dict.fromkeys(["abs", "sign", "square", "identity"], (one(), whole(one(-9, 9)))),
    **dict.fromkeys(["acos", "asin", "atanh"], (one(-0.99, 0.99),)),
    **dict.fromkeys(["log", "inverse", "rsqrt"], (one(0.01, 3), one(0.01, 3, epsilon=F(0.01)))),
    **dict.fromkeys(["elu", "leaky_relu", "thresholded_relu"], (one(alpha=F(0.3)),)),
    "threshold": (one(alpha=F(0.3)), whole(one(-9, 9, alpha=I(2)))),
    "clip": (one(alpha=F(-0.5), beta=F(1.25)),),
    **dict.fromkeys(["clamped_relu", "linear_activation", "scaled_tanh"], (one(alpha=F(0.3), beta=F(1.5)),)),
    "sigmoid_hard": (one(alpha=F(0.3), beta=F(0.4)),),
    "gelu": (one(), one(mode="TANH_APPROXIMATION"), one(mode="SIGMOID_APPROXIMATION")),
    "prelu": (channels("alpha"),),
    "softplus_parametric": (channels("alpha", "beta"), channels("alpha", "beta", shape=(1, 2, 3))),
    "softmax": (along_axis, one()),
    **dict.fromkeys(["add", "sub", "mul", "maximum", "minimum"], (two(), whole(two(-9, 9)))),
    "real_div": (two(0.5, 3),),
    **dict.fromkeys(["floor_div", "mod"],
                    (lambda d: {"x": d.floats(3, 4), "y": d.pick(-1, 1) * d.floats(4, low=0.5)},
                     lambda d: {"x": d.integers(3, 4), "y": I(d.pick(-1, 1)) * d.integers(4, low=1)})),
    "pow": (two(0.1, 3),),
    **dict.fromkeys(COMPARISONS, (lambda d: {"x": d.integers(3, 4, low=0, high=2), "y": d.integers(4, low=0, high=2)},
                                  two())),
    **dict.fromkeys(["logical_and", "logical_or", "logical_xor"], (logical,)),
    "logical_not": (lambda d: {"x": d.flags(2, 3)},),
    "select": (lambda d: {"cond": d.flags(3, 1), "a": d.floats(3, 4), "b": d.floats(1, 4)},
               lambda d: {"cond": d.flags(4), "a": d.integers(3, 4), "b": d.integers(3, 1)}),
    **dict.fromkeys(REDUCTIONS, (lambda d: along_axes(d, low=0.1), one(0.1, 3))),
    **dict.fromkeys(WHOLE_REDUCTIONS, (along_axes, one(), whole(along_axes))),
    **dict.fromkeys(["reduce_argmax", "reduce_argmin"],
                    (lambda d: {**along_axis(d), "keep_dims": d.flag()}, one(), one(output_dtype="uint16"),
                     whole(one(-9, 9)))),
    "layer_norm": (normalised, lambda d: {"x": d.floats(2, 3, 4), "axes": d.axes(3)}),
    "instance_norm": (channels("gamma", "beta"), channels()),
    "batch_norm": (channels("mean", "variance", "gamma", "beta", low=0.1), channels("mean", "variance", low=0.1)),
    "l2_norm": (lambda d: {"x": d.floats(*d.shape(3, 5))}, lambda d: {"x": d.floats(2, 3, 4), "epsilon": F(0.1)}),
    "local_response_norm": (lambda d: {"x": d.floats(1, 5, 3), "size": I(3)},),
    "conv": (convolution,),
    "conv_transpose": (transposed_convolution,),
    "linear": (lambda d: {"x": d.floats(2, 3), "weight": d.floats(4, 3), "bias": d.floats(4)},
               lambda d: {"x": d.floats(2, 5, 3), "weight": d.floats(4, 3)}),
    "matmul": (product, lambda d: {"x": d.floats(3), "y": d.floats(3, 4)}, whole(product)),
    "einsum": (einsum("nchw,nwhu->nchu"), einsum("chw,whr->chr"), einsum("abcd,adce->abce")),
    "scaled_dot_product_attention": (attention, masked_attention),
    "max_pool": (pool,),
    "avg_pool": (pool, lambda d: {**pool(d), "exclude_padding_from_average": True}),
    "upsample_nearest_neighbor": (small(scale_factor_height=I(2), scale_factor_width=I(3)),),
    "resize_nearest_neighbor": (small(target_size_height=I(4), target_size_width=I(3)),),
    "upsample_bilinear": (small(scale_factor_height=F(2.5), scale_factor_width=F(1.5)),),
    "resize_bilinear": (small(target_size_height=I(5), target_size_width=I(4)),),
    "resize": (lambda d: {"x": d.floats(1, 2, 3), "shape": np.array([5, 0], I), "resized_dims": np.uint32(2)},),
    "crop": (lambda d: {"x": d.floats(1, 2, 4, 5), "crop_height": [1, 1], "crop_width": [0, 2]},),
    "pixel_shuffle": (lambda d: {"x": d.floats(1, 8, 2, 3), "upscale_factor": I(2)},),
    "pixel_unshuffle": (lambda d: {"x": d.floats(1, 2, 4, 6), "downscale_factor": np.uint32(2)},),
    "cast": (one(-90, 90, dtype="int32"), one(-90, 90, dtype="int8"), one(0, 200, dtype="uint8"), one(dtype="bool"),
             one(-90, 90, dtype="int16"), one(0, 200, dtype="uint16"),
             one(-90, 90, dtype="fp16"), whole(one(-90, 90, dtype="fp32")), whole(one(-1, 2, dtype="bool"))),
    "shape": (one(),),
    "reshape": (reshape,),
    "reshape_like": (lambda d: {"x": d.floats(2, 12), "ref_tensors": (d.floats(2, 3), d.floats(5, 4)),
                                "begins": (I(0), I(1)), "ends": (I(2), I(0)), "end_masks": (B(False), B(True))},),
    "transpose": (lambda d: {"x": d.floats(2, 3, 4, 5), "perm": d.pick([0, 2, 1, 3], [-1, 0, -3, 2], [3, 1, 0, 2])},),
    "expand_dims": (lambda d: {"x": d.floats(2, 3), "axes": d.pick([0], [-1], [1, 3], [-4, -1], [0, 1, 2])},),
    "squeeze": (lambda d: {"x": d.floats(1, 3, 1, 2), "axes": d.pick([0], [-2], [0, 2])},
                lambda d: {"x": d.floats(1, 2, 1)}),
    "flatten2d": (lambda d: {"x": d.floats(2, 3, 4), "axis": d.pick(1, -1, 2)}, lambda d: {"x": d.floats(2, 3)}),
    "reverse": (lambda d: {"x": d.floats(2, 3, 4), "axes": d.axes(3)}, one()),
    "slice_by_index": (slice_by_index, slice_by_index, slice_by_index, whole(slice_by_index)),
    "slice_by_size": (slice_by_size,),
    "split": (split, lambda d: {"x": d.floats(6, 2), "num_splits": I(d.pick(2, 3)), "axis": I(0)}),
    "concat": (concat, lambda d: {"values": (I(2), I(3)), "axis": 0}),
    "stack": (lambda d: {"values": (d.floats(2, 3), d.floats(2, 3)), "axis": d.pick(0, 1, 2, -1, -3)},),
    "tile": (lambda d: {"x": d.floats(2, 3), "reps": [d.integer(1, 3), d.integer(1, 3)]},),
    "pad": (pad, lambda d: {"x": d.floats(2, 3), "pad": [1, 0, 0, 2]}),
    "fill": (lambda d: {"shape": d.shape(), "value": d.pick(F(1.5), I(2), B(True))}, lambda d: {"shape": d.shape()}),
    "fill_like": (lambda d: {"ref_tensor": d.floats(2, 3), "value": d.pick(F(1.5), I(2), B(True))},
                  lambda d: {"ref_tensor": d.floats(2)}),
    "range_1d": (lambda d: {"start": I(d.integer(-5, 5)), "end": I(20), "step": I(d.integer(1, 4))},
                 lambda d: {"start": F(0.5), "end": F(3), "step": F(0.25)}),
    "one_hot": (lambda d: {"indices": d.integers(3, low=0, high=3), "one_hot_vector_size": I(4), "on_value": F(2),
                           "off_value": F(-1)},
                lambda d: {"indices": d.integers(3, low=0, high=3), "one_hot_vector_size": I(4)}),
    "band_part": (lambda d: {"x": d.floats(2, 4, 5), "lower": I(d.integer(-1, 3)), "upper": I(d.integer(-1, 3))},
                  lambda d: {"x": d.floats(3, 3)}),
    "cumsum": (lambda d: {"x": d.floats(3, 4), "axis": d.pick(0, 1, -1), "reverse": d.flag()}, one()),
    "non_zero": (lambda d: {"x": d.integers(3, 4, low=0, high=1)},),
    "gather": (gather, gather_batch, whole(gather),
               lambda d: {"x": d.floats(3, 2), "indices": d.integers(2, low=0, high=2)}),
    "gather_along_axis": (gather_along_axis,),
    "gather_nd": (lambda d: {"x": d.floats(2, 3, 4), "indices": d.integers(5, 2, low=0, high=1)},),
    "argsort": (lambda d: {**along_axis(d), "ascending": d.flag()}, one()),
    "topk": (lambda d: {"x": d.floats(3, 5), "k": I(d.integer(1, 5)), "axis": d.pick(1, -1), "ascending": d.flag()},
             lambda d: {"x": d.floats(4, 2), "return_indices": False}, one(output_indices_dtype="uint16"), one()),
    "classify": (lambda d: {"probabilities": d.floats(3), "classes": ["a", "b", "c"]},),
    "quantize": (quantized,
                 lambda d: {"input": d.floats(2, 3), "scale": F(0.02), "output_dtype": d.pick("int8", "uint8")}),
    "dequantize": (dequantized,
                   lambda d: {"input": d.integers(3, low=0, high=255).astype(np.uint8), "scale": F(0.02)}),
}  # fmt: skip

TUPLES = {"values", "ref_tensors", "begins", "ends", "end_masks"}
# Of these the builder has no numpy result, for all forms or for the drawn one.
WITHOUT_VALUE = {
    name
    for name in CASES
    if not any(
        "value_inference" in vars(base) or "materialized_val_inference" in vars(base)
        for variant in SSAOpRegistry.core_ops[name].values()
        for base in variant.__mro__[: variant.__mro__.index(Operation)]
    )
}


def ours(name: str, arguments: Mapping[str, object]) -> list[object]:
    function = SUPPORTED[name]
    options = {"math": FLOAT32} if "math" in inspect.signature(function).parameters else {}
    plain = {key: list(value) if key in TUPLES else value for key, value in arguments.items()}
    with np.errstate(all="ignore"):
        result = function(**plain, **options)
    return result if isinstance(result, list) else [result]


def build(name: str, arguments: Mapping[str, object], opset: ct.target = ct.target.iOS18) -> Operation:
    """coremltools' operation on constants, which it evaluates as it is built."""
    with Function({}, opset_version=opset), np.errstate(all="ignore"):
        given = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in arguments.items()}
        if name == "classify":
            given["classes"] = mb.const(val=mil_list(given["classes"]))
        result = getattr(mb, name)(**given)
    return (result[0] if isinstance(result, tuple | list) else result).op


def draws(name: str, seeds: Sequence[int] = SEEDS) -> list[Arguments]:
    return [case(Draw(1000 * place + seed)) for place, case in enumerate(CASES[name]) for seed in seeds]


@pytest.mark.parametrize("name", sorted(set(CASES) - WITHOUT_VALUE))
def test_operation_gives_what_coremltools_computes(name: str) -> None:
    for arguments in draws(name):
        operation = build(name, arguments)
        expected = [output.val for output in operation.outputs]
        if operation.op_type.startswith("dequantize"):
            expected = [operation.materialized_val_inference()]

        found = ours(name, arguments)

        assert len(found) == len(expected)
        for ours_, theirs, output in zip(found, expected, operation.outputs, strict=True):
            assert theirs is not None
            same(ours_, theirs, output.dtype)


def same(found: object, expected: object, dtype: type) -> None:
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype.kind == np.dtype(types.nptype_from_builtin(dtype)).kind
    if found.dtype.kind == "f":
        tolerance = 2e-3 if dtype == types.fp16 else 2e-5
        np.testing.assert_allclose(found, expected.astype(F), rtol=tolerance, atol=2e-6)
    else:
        np.testing.assert_array_equal(found, expected)


WINDOWED = ("conv", "conv_transpose", "max_pool", "avg_pool")
# What a default that stands for something else stands for.
MEANINGS: dict[tuple[str, str], Callable[[object], bool]] = {
    **{(name, key): lambda v: bool(np.all(np.asarray(v) == 1))
       for name in WINDOWED for key in ("strides", "dilations")},
    **{(name, "pad"): lambda v: not np.any(v) for name in WINDOWED},
    ("linear", "bias"): lambda v: not np.any(v),
    ("layer_norm", "axes"): lambda v: list(v) == list(range(len(v))),
    **{(name, "validate_indices"): lambda v: v is False for name in ("gather", "gather_along_axis", "gather_nd")},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("opset", OPSETS, ids=lambda opset: opset.name)
def test_defaults_are_those_of_coremltools(name: str, opset: ct.target) -> None:
    """Programs leave them out only if others than coremltools write them."""
    variant = SSAOpRegistry.core_ops[name].get(opset)
    if variant is None:
        pytest.skip("the operation is younger")
    known = variant.input_spec.input_types
    arguments = {key: v for key, v in CASES[name][-1](Draw(0)).items() if key in known}
    if name == "reshape":
        arguments["shape"] = [4, 6]
    with Function({}, opset_version=opset):
        defaults = dict(build(name, arguments, opset).default_inputs().items())

    for key, parameter in inspect.signature(SUPPORTED[name]).parameters.items():
        if key == "math" or key not in known:
            continue
        if parameter.default is inspect.Parameter.empty:
            assert not known[key].optional
            continue
        theirs = defaults.get(key)
        if (name, key) in MEANINGS and parameter.default is None:
            assert MEANINGS[name, key](theirs)
        elif theirs is None or parameter.default is None:
            assert parameter.default is None or key in ("output_dtype", "output_indices_dtype")
            assert theirs is None
        else:
            assert np.asarray(theirs, np.asarray(parameter.default).dtype) == parameter.default


@pytest.mark.parametrize("name", sorted(SUPPORTED))
def test_every_parameter_is_one_of_coremltools(name: str) -> None:
    known = {key for variant in SSAOpRegistry.core_ops[name].values() for key in variant.input_spec.input_types}

    assert set(inspect.signature(SUPPORTED[name]).parameters) - {"math"} <= known


def test_every_operation_is_checked() -> None:
    """Against coremltools' values here or, where it has none, against torch or its decompression."""
    for name in AGAINST_TORCH:
        importlib.import_module(f"tests.runtimes.coreml.test_{name}")  # fills COVERED_BY_TORCH

    elsewhere = COVERED_BY_TORCH | test_compression.COVERED

    assert set(SUPPORTED) <= set(CASES) | elsewhere
    assert elsewhere >= WITHOUT_VALUE


@pytest.mark.parametrize("name", sorted(EXACT & set(CASES)))
def test_operations_said_to_be_exact_give_no_new_values(name: str) -> None:
    """What they take has been rounded: rounding again would change nothing."""
    for arguments in draws(name):
        rounded = {key: rounded_tree(value) for key, value in arguments.items()}
        for result in ours(name, rounded):
            if np.asarray(result).dtype == F:
                np.testing.assert_array_equal(round_to_half(np.asarray(result)), result)


def rounded_tree(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(rounded_tree(each) for each in value)
    is_float = isinstance(value, np.ndarray | np.generic) and value.dtype == F
    return round_to_half(np.asarray(value)).astype(F)[()] if is_float else value


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("floats", [types.fp32, types.fp16], ids=["fp32", "fp16"])
@pytest.mark.parametrize("age", [0, -1], ids=["oldest", "newest"])
def test_operation_in_a_file_has_the_type_and_value_of_the_function(
    name: str, floats: type, age: int, tmp_path: Path
) -> None:
    """Tensors come in as inputs of the program; coremltools declares the result's type and shape, which are held to."""
    opset = [opset for opset in OPSETS if opset in SSAOpRegistry.core_ops[name]][age]
    for arguments in draws(name, seeds=[7]):
        if not exists(name, arguments, opset):
            continue
        rounded = {key: rounded_tree(value) for key, value in arguments.items()} if floats == types.fp16 else arguments
        program, feeds = written(name, rounded, floats, tmp_path, opset)

        found = Evaluator(program, "typed").run(feeds)
        expected = ours(name, rounded)

        for output, value in zip(program.outputs, expected, strict=True):
            if name == "classify":
                assert found[output] == value
                continue
            array = np.asarray(value)
            rounds = array.dtype == F and declared(program, output).dtype == "fp16"
            np.testing.assert_allclose(found[output], round_to_half(array) if rounds else array, rtol=1e-5, atol=1e-6)


def evaluated(build: Callable[..., Var], opset: ct.target, folder: Path, **given: np.ndarray) -> np.ndarray:
    """The result of a program that coremltools writes; given are its inputs."""
    kinds = {key: types.numpy_type_to_builtin_type(value.dtype) for key, value in given.items()}
    inputs = {key: mb.placeholder(value.shape, kinds[key]) for key, value in given.items()}
    with Function(inputs, opset_version=opset) as function:
        function.set_outputs([build(**function.inputs)])
    program = Program()
    program.add_function("main", function)
    evaluator = Evaluator(read_back(program, opset, folder), "typed")
    return evaluator.run(given)[evaluator.program.outputs[0]]


def test_attention_takes_a_mask_of_another_float_type(tmp_path: Path) -> None:
    """M of the mask is fp16 or fp32 whatever T is (iOS18/transformers.py)."""
    query, mask = Draw(0).floats(1, 2, 3), Draw(1).floats(2, 2).astype(np.float16)

    found = evaluated(
        lambda x, m: mb.scaled_dot_product_attention(query=x, key=x, value=x, attn_mask=m),
        ct.target.iOS18, tmp_path, x=query, m=mask,
    )  # fmt: skip

    [expected] = ours("scaled_dot_product_attention", {"query": query, "key": query, "value": query, "attn_mask": mask})
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_convolution_takes_computed_weights_of_another_float_type(tmp_path: Path) -> None:
    """From iOS 17 on weight and bias may have a different dtype than the input (iOS17/conv.py)."""
    x, weight = Draw(0).floats(1, 2, 5), Draw(1).floats(3, 2, 2).astype(np.float16)

    found = evaluated(lambda x, w: mb.conv(x=x, weight=w), ct.target.iOS17, tmp_path, x=x, w=weight)

    np.testing.assert_allclose(found, ours("conv", {"x": x, "weight": weight.astype(F)})[0], rtol=1e-5)


def test_matmul_gives_the_type_of_its_operand_that_is_not_constant(tmp_path: Path) -> None:
    """iOS17/linear.py"""
    constant_, y = Draw(0).floats(2, 3), round_to_half(Draw(1).floats(3, 4)).astype(np.float16)

    found = evaluated(lambda y: mb.matmul(x=constant_, y=y), ct.target.iOS17, tmp_path, y=y)

    np.testing.assert_allclose(found, round_to_half(constant_ @ y.astype(F)), rtol=1e-5)


def test_first_opset_of_every_operation_is_coremltools() -> None:
    numbers = dict(zip(OPSETS, ops.OPSETS, strict=True))

    for name in SUPPORTED:
        first = next(opset for opset in OPSETS if any(old <= opset for old in SSAOpRegistry.core_ops[name]))
        assert ops.SINCE.get(name, ops.OPSETS[0]) == numbers[first], name


def exists(name: str, arguments: Arguments, opset: ct.target) -> bool:
    """Whether an opset has this form of an operation already."""
    wide = opset >= ct.target.iOS17
    new_type = name == "cast" and str(arguments["dtype"]).endswith(("int8", "int16"))
    new_shape = name == "reshape" and 0 in arguments["shape"] and len(arguments["shape"]) != 3
    known = SSAOpRegistry.core_ops[name][opset].input_spec.input_types
    return set(arguments) <= set(known) and (wide or not (new_type or new_shape))


def declared(program: mil.Program, name: str) -> mil.TensorType:
    return next(kind for operation in program.operations for output, kind in operation.outputs if output == name)


def written(
    name: str, arguments: Arguments, floats: type, folder: Path, opset: ct.target
) -> tuple[mil.Program, dict[str, np.ndarray]]:
    """The operation in a program as coremltools writes it, read back, and what to feed it with."""
    known = SSAOpRegistry.core_ops[name][opset].input_spec.input_types
    inputs, feeds = {}, {}

    def placeholder(key: str, value: np.ndarray) -> None:
        dtype = types.numpy_type_to_builtin_type(constant(value, floats, known.get(key)).dtype)
        inputs[key], feeds[key] = mb.placeholder(value.shape, dtype), value

    for key, value in arguments.items():
        if key in ("values", "ref_tensors") and np.ndim(value[0]):
            for place, each in enumerate(value):
                placeholder(f"{key}_{place}", each)
        elif (
            isinstance(value, np.ndarray)
            and value.ndim
            and not getattr(known[key], "const", False)
            and key not in SIZES
        ):
            placeholder(key, value)
    with Function(inputs, opset_version=opset) as function, np.errstate(all="ignore"):
        given = {key: constant(value, floats, known[key]) for key, value in arguments.items()}
        if name == "classify":
            given["classes"] = mb.const(val=mil_list(given["classes"]))
        given |= {key: function.inputs[key] for key in inputs if key in arguments}
        for key in {key.rpartition("_")[0] for key in inputs} & {"values", "ref_tensors"}:
            given[key] = tuple(function.inputs[f"{key}_{place}"] for place in range(len(arguments[key])))
        result = getattr(mb, name)(**given)
        function.set_outputs(list(result) if isinstance(result, tuple | list) else [result])
    program = Program()
    program.add_function("main", function)
    return read_back(program, opset, folder), feeds


SIZES = {"shape", "begin", "end", "size", "reps", "pad", "one_hot_vector_size"}  # that decide the declared shape


def constant(value: object, floats: type, kind: object) -> object:
    """Floats of the program's type where the parameter follows it: not the factors of an upsampling."""
    is_float = isinstance(value, np.ndarray | np.generic) and value.dtype == F
    follows = kind is None or types.fp16 in (getattr(kind, "type_domain", None) or ())
    return value.astype(np.float16) if is_float and floats == types.fp16 and follows else value
