"""Each layer of Core ML's classic format against PyTorch, the figures of its documentation and hand arithmetic."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.errors import UnknownOperationError
from mvit_deploy.runtimes.coreml.network import Network
from tests.runtimes.networks import Add, NeuralNetworkBuilder, built, close, computed, deconvolution, draw

SMALL = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
side = st.integers(1, 7)

# Layers on maps


@SMALL
@given(st.data())
def test_convolution(data: st.DataObject) -> None:
    groups, per_group, out = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    kernel, strides, dilations = (data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(3))
    top, bottom, left, right = data.draw(st.tuples(*[st.integers(0, 2)] * 4))
    x = draw(data.draw(st.integers(1, 2)), groups * per_group, 8, 9)
    weight, bias = draw(groups * out, per_group, *kernel, seed=1), draw(groups * out, seed=2)
    has_bias = data.draw(st.booleans())

    found = computed(
        lambda b: b.add_convolution(
            "c", per_group, groups * out, *kernel, *strides, "valid", groups, weight.transpose(2, 3, 1, 0), bias,
            has_bias, input_name="x", output_name="y", dilation_factors=list(dilations),
            padding_top=top, padding_bottom=bottom, padding_left=left, padding_right=right,
        ),
        x=x,
    )  # fmt: skip

    padded = F.pad(torch.tensor(x), (left, right, top, bottom))
    offset = torch.tensor(bias) if has_bias else None
    close(found, F.conv2d(padded, torch.tensor(weight), offset, strides, 0, dilations, groups))


@pytest.mark.parametrize("heavy", ["BOTTOM_RIGHT_HEAVY", "TOP_LEFT_HEAVY"])
def test_same_padding_puts_the_odd_sample_where_the_mode_says(heavy: str) -> None:
    x, weight = draw(1, 2, 6, 9), draw(3, 2, 3, 4)

    found = computed(
        lambda b: b.add_convolution(
            "c", 2, 3, 3, 4, 2, 2, "same", 1, weight.transpose(2, 3, 1, 0), None, False,
            input_name="x", output_name="y", same_padding_asymmetry_mode=heavy,
        ),
        x=x,
    )  # fmt: skip

    # H: (3-1)*2 + 3 - 6 = 1 in all; W: (5-1)*2 + 4 - 9 = 3 in all
    left, right, top, bottom = (1, 2, 0, 1) if heavy == "BOTTOM_RIGHT_HEAVY" else (2, 1, 1, 0)
    close(found, F.conv2d(F.pad(torch.tensor(x), (left, right, top, bottom)), torch.tensor(weight), stride=2))


@SMALL
@given(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(2, 4), st.integers(1, 3), st.integers(0, 1))
def test_deconvolution(groups: int, channels: int, out: int, kernel: int, stride: int, pad: int) -> None:
    x, weight = draw(1, groups * channels, 4, 5), draw(groups * channels, out, kernel, kernel, seed=1)

    borders = dict.fromkeys(("padding_top", "padding_bottom", "padding_left", "padding_right"), pad)
    found = computed(deconvolution(weight, groups, stride, **borders), x=x)

    close(found, F.conv_transpose2d(torch.tensor(x), torch.tensor(weight), stride=stride, padding=pad, groups=groups))


def test_a_deconvolution_crops_evenly_to_an_asked_shape() -> None:
    x, weight = draw(1, 2, 4, 5), draw(2, 3, 4, 4)

    expected = F.conv_transpose2d(torch.tensor(x), torch.tensor(weight), stride=2, padding=1)

    close(computed(deconvolution(weight, 1, 2, output_shape=(8, 10)), x=x), expected)
    close(computed(deconvolution(weight, 1, 2, border_mode="same"), x=x), expected)


def test_a_deconvolution_is_refused_where_the_crop_is_not_documented() -> None:
    for kernel, options in ((3, {"output_shape": (8, 10)}), (4, {"output_shape": (8, 10), "padding_top": 2})):
        with pytest.raises(UnknownOperationError, match="isDeconvolution"):
            computed(deconvolution(draw(2, 3, kernel, kernel), 1, 2, **options), x=draw(1, 2, 4, 5))


def pool(kind: str, padding: str, kernel: int, stride: int, pad: int = 0, **options: object) -> Add:
    borders = dict.fromkeys(("padding_top", "padding_bottom", "padding_left", "padding_right"), pad)
    return lambda b: b.add_pooling("p", kernel, kernel, stride, stride, kind, padding, "x", "y", **borders, **options)


@SMALL
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 1), st.booleans())
def test_pooling(kernel: int, stride: int, pad: int, exclude: bool) -> None:
    x = draw(2, 3, 8, 9)
    found_max = computed(pool("MAX", "VALID", kernel, stride, pad), x=x)
    found_mean = computed(pool("AVERAGE", "VALID", kernel, stride, pad, exclude_pad_area=exclude), x=x)

    close(found_max, F.max_pool2d(torch.tensor(x), kernel, stride, pad))
    close(found_mean, F.avg_pool2d(torch.tensor(x), kernel, stride, pad, count_include_pad=not exclude))


@SMALL
@given(st.integers(2, 4), st.integers(1, 3), st.integers(0, 1), st.integers(5, 12))
def test_pooling_that_includes_the_last_pixel_is_torchs_ceil_mode(
    kernel: int, stride: int, pad: int, rows: int
) -> None:
    assume(stride <= kernel)
    x = draw(1, 2, rows, 9)
    expected_max = F.max_pool2d(torch.tensor(x), kernel, stride, pad, ceil_mode=True)
    expected_mean = F.avg_pool2d(torch.tensor(x), kernel, stride, pad, ceil_mode=True, count_include_pad=False)

    close(computed(pool("MAX", "INCLUDE_LAST_PIXEL", kernel, stride, pad), x=x), expected_max)
    close(computed(pool("AVERAGE", "INCLUDE_LAST_PIXEL", kernel, stride, pad), x=x), expected_mean)


def test_global_pooling_and_same_padding() -> None:
    x = draw(2, 3, 5, 6)
    for heavy, pads in (("BOTTOM_RIGHT_HEAVY", (0, 1)), ("TOP_LEFT_HEAVY", (1, 0))):
        found = computed(pool("MAX", "SAME", 2, 1, same_padding_asymmetry_mode=heavy), x=x)
        close(found, F.max_pool2d(F.pad(torch.tensor(x), pads * 2, value=-math.inf), 2, 1))

    close(computed(pool("AVERAGE", "VALID", 0, 0, is_global=True), x=x), x.mean((2, 3), keepdims=True))
    close(computed(pool("MAX", "VALID", 0, 0, is_global=True), x=x), x.max((2, 3), keepdims=True))


@SMALL
@given(side, side, st.integers(1, 3), st.integers(1, 3))
def test_upsampling(rows: int, columns: int, up: int, across: int) -> None:
    x, sizes = draw(2, 3, rows, columns), (rows * up, columns * across)

    def upsample(**options: str) -> Add:
        return lambda b: b.add_upsample("u", up, across, "x", "y", **options)

    close(computed(upsample(), x=x), F.interpolate(torch.tensor(x), sizes, mode="nearest"))
    for corners in (True, False):
        found = computed(upsample(mode="BILINEAR", linear_upsample_mode=f"ALIGN_CORNERS_{corners}"), x=x)
        close(found, F.interpolate(torch.tensor(x), sizes, mode="bilinear", align_corners=corners))


@pytest.mark.parametrize("corners", [True, False])
def test_fractional_upsampling(corners: bool) -> None:
    x, mode = draw(1, 2, 6, 9), f"ALIGN_CORNERS_{corners}".upper()
    found = computed(lambda b: b.add_upsample("u", 7 / 6, 4 / 3, "x", "y", "BILINEAR", mode), x=x)

    close(found, F.interpolate(torch.tensor(x), (7, 12), mode="bilinear", align_corners=corners))
    with pytest.raises(UnknownOperationError, match=r"a side of 6\.6 "):
        computed(lambda b: b.add_upsample("u", 1.1, 1.0, "x", "y", "BILINEAR", mode), x=x)


def test_the_sampling_grids_are_the_documented_ones() -> None:
    """A ramp shows the positions: 5 samples to 4, and to 1."""
    ramp = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    grids = {
        "STRICT_ALIGN_ENDPOINTS_MODE": ([0, 4 / 3, 8 / 3, 4], 0),
        "ALIGN_ENDPOINTS_MODE": ([0, 4 / 3, 8 / 3, 4], 2),
        "UPSAMPLE_MODE": ([0, 1.25, 2.5, 3.75], 0),
        "ROI_ALIGN_MODE": ([0.5, 1.5, 2.5, 3.5], 2),
    }
    for mode, (four, one) in grids.items():
        found = computed(lambda b, mode=mode: b.add_resize_bilinear("r", "x", "y", 4, 1, mode), x=ramp)
        close(found.ravel(), np.array(four))
        found = computed(lambda b, mode=mode: b.add_resize_bilinear("r", "x", "y", 1, 1, mode), x=ramp)
        close(found.ravel(), np.array([one]))
    found = computed(lambda b: b.add_upsample("u", 2, 1, "x", "y", "BILINEAR", "DEFAULT"), x=ramp)
    close(found.ravel(), np.minimum(np.arange(10) * (4 - (-1) - 5 / 10) / 9, 4))  # spacing (5 - 5/10) / (10 - 1)


# Elementwise layers

C = draw(3, seed=9)
ACTIVATIONS = {
    "RELU": (None, F.relu),
    "LEAKYRELU": ([0.2], lambda x: F.leaky_relu(x, 0.2)),
    "THRESHOLDEDRELU": (0.5, lambda x: x * (x >= 0.5)),
    "PRELU": (C, lambda x: F.prelu(x, torch.tensor(C))),
    "TANH": (None, torch.tanh),
    "SCALED_TANH": ([1.7, 0.6], lambda x: 1.7 * torch.tanh(0.6 * x)),
    "SIGMOID": (None, torch.sigmoid),
    "SIGMOID_HARD": ([1 / 6, 0.5], F.hardsigmoid),
    "ELU": (0.7, lambda x: F.elu(x, 0.7)),
    "SOFTSIGN": (None, F.softsign),
    "SOFTPLUS": (None, lambda x: F.softplus(x, threshold=1000)),
    "PARAMETRICSOFTPLUS": (
        [C, C[::-1].copy()],
        lambda x: (
            torch.tensor(C)[:, None, None] * torch.log1p(torch.exp(torch.tensor(C[::-1].copy())[:, None, None] * x))
        ),
    ),
    "LINEAR": ([2.0, -1.0], lambda x: 2 * x - 1),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activation(kind: str) -> None:
    params, expected = ACTIVATIONS[kind]
    x = np.linspace(-9, 9, 2 * 3 * 5 * 6, dtype=np.float32).reshape(2, 3, 5, 6)

    close(computed(lambda b: b.add_activation("a", kind, "x", "y", params), x=x), expected(torch.tensor(x)))


UNARY = {
    "sqrt": torch.sqrt,
    "rsqrt": lambda x: 1 / torch.sqrt(x + 0.25),
    "inverse": lambda x: 1 / (x + 0.25),
    "power": lambda x: x**1.5,
    "exp": torch.exp,
    "abs": torch.abs,
    "threshold": lambda x: torch.clamp(x, min=1.5),
}


@pytest.mark.parametrize("kind", UNARY)
def test_unary_scales_and_shifts_first(kind: str) -> None:
    x = np.linspace(0.1, 3, 24, dtype=np.float32).reshape(4, 6)
    options = {"alpha": 1.5, "shift": 0.5, "scale": 2.0, "epsilon": 0.25}

    found = computed(lambda b: b.add_unary("u", "x", "y", kind, **options), x=x)

    close(found, UNARY[kind](2 * torch.tensor(x) + 0.5))


def test_log_is_known_only_without_an_epsilon_that_matters() -> None:
    x = np.linspace(0.1, 3, 6, dtype=np.float32)
    close(computed(lambda b: b.add_unary("u", "x", "y", "log"), x=x), np.log(x))
    with pytest.raises(UnknownOperationError, match="LOG"):
        computed(lambda b: b.add_unary("u", "x", "y", "log", epsilon=1e-3), x=x)


def test_inverse_adds_its_default_epsilon() -> None:
    """The hazard that makes torch.reciprocal(1e-3) wrong by 9 % in a converted file."""
    found = computed(lambda b: b.add_unary("u", "x", "y", "inverse"), x=np.array([1e-3], np.float32))

    close(found, np.array([1 / 1.1e-3]))


BROADCASTABLE = {
    "add": torch.add, "subtract": torch.sub, "multiply": torch.mul, "divide": torch.div,
    "max": torch.maximum, "min": torch.minimum, "pow": torch.pow,
}  # fmt: skip


@pytest.mark.parametrize("kind", BROADCASTABLE)
def test_broadcastable(kind: str) -> None:
    a, b = np.abs(draw(2, 1, 4, 1)) + 0.5, draw(3, 1, 5, seed=1)

    found = computed(lambda n: getattr(n, f"add_{kind}_broadcastable")("e", ["a", "b"], "y"), a=a, b=b)

    close(found, BROADCASTABLE[kind](torch.tensor(a), torch.tensor(b)))


def test_elementwise_layers_of_many_inputs_or_of_one_and_a_constant() -> None:
    a, b, c = draw(1, 2, 3, 4), draw(1, 2, 1, 1, seed=1), draw(1, seed=2)
    expected = {"ADD": a + b + c, "MULTIPLY": a * b * c, "AVE": (a + b + c) / 3}
    expected |= {"MAX": np.maximum(np.maximum(a, b), c), "MIN": np.minimum(np.minimum(a, b), c)}
    for mode, result in expected.items():
        found = computed(lambda n, m=mode: n.add_elementwise("e", ["a", "b", "c"], "y", m), a=a, b=b, c=c)
        close(found, result)
    close(computed(lambda n: n.add_elementwise("e", ["a"], "y", "ADD", 0.5), a=a), a + np.float32(0.5))
    close(computed(lambda n: n.add_elementwise("e", ["a"], "y", "MULTIPLY", 0.5), a=a), a / 2)
    with pytest.raises(UnknownOperationError, match="add with inputs of shapes"):  # ranks differ: it is not said how
        computed(lambda n: n.add_elementwise("e", ["a", "b"], "y", "ADD"), a=a, b=draw(3, 4))


def test_other_functions() -> None:
    x = draw(3, 40) * 3
    t = torch.tensor(x)
    cases = [
        (lambda b: b.add_clip("c", "x", "y", -0.5, 0.75), t.clamp(-0.5, 0.75)),
        (lambda b: b.add_clamped_relu("c", "x", "y", 0.1, 1.5), F.leaky_relu(t, 0.1).clamp(max=1.5)),
        (lambda b: b.add_gelu("g", "x", "y"), F.gelu(t)),
        (lambda b: b.add_gelu("g", "x", "y", "TANH_APPROXIMATION"), F.gelu(t, approximate="tanh")),
        (lambda b: b.add_gelu("g", "x", "y", "SIGMOID_APPROXIMATION"), t * torch.sigmoid(1.702 * t)),
        (lambda b: b.add_erf("e", "x", "y"), torch.erf(t)),
        (lambda b: b.add_tanh("e", "x", "y"), torch.tanh(t)),
        (lambda b: b.add_exp2("e", "x", "y"), torch.exp2(t)),
        (lambda b: b.add_floor("e", "x", "y"), torch.floor(t)),
        (lambda b: b.add_asinh("e", "x", "y"), torch.asinh(t)),
        (lambda b: b.add_copy("c", "x", "y"), t),
        (lambda b: b.add_greater_than("g", ["x"], "y", alpha=0.5), (t > 0.5).float()),
        (lambda b: b.add_less_than("g", ["x", "x"], "y", use_less_than_equal=True), torch.ones_like(t)),
    ]
    for add, expected in cases:
        close(computed(add, x=x), expected)


# Layers that move, select and reduce

X = draw(2, 3, 4, 5)
T = torch.tensor(X)
MOVES: dict[str, tuple[Add, torch.Tensor]] = {
    "reshapeStatic": (lambda b: b.add_reshape_static("l", "x", "y", [6, -1]), T.reshape(6, 20)),
    "rankPreservingReshape": (
        lambda b: b.add_rank_preserving_reshape("l", "x", "y", [6, 1, 0, -1]),
        T.reshape(6, 1, 4, 5),
    ),
    "flatten": (lambda b: b.add_flatten("l", 0, "x", "y"), T.reshape(2, 60, 1, 1)),
    "flatten last": (lambda b: b.add_flatten("l", 1, "x", "y"), T.permute(0, 2, 3, 1).reshape(2, 60, 1, 1)),
    "flattenTo2D": (lambda b: b.add_flatten_to_2d("l", "x", "y", 2), T.reshape(6, 20)),
    "flattenTo2D -1": (lambda b: b.add_flatten_to_2d("l", "x", "y", -1), T.reshape(24, 5)),
    "transpose": (lambda b: b.add_transpose("l", [3, 1, 2, 0], "x", "y"), T.permute(3, 1, 2, 0)),
    "expandDims": (lambda b: b.add_expand_dims("l", "x", "y", [-1]), T[..., None]),
    "concat": (lambda b: b.add_elementwise("l", ["x", "x"], "y", "CONCAT"), torch.cat([T, T], 1)),
    "concatND": (lambda b: b.add_concat_nd("l", ["x", "x"], "y", -1), torch.cat([T, T], -1)),
    "stack": (lambda b: b.add_stack("l", ["x", "x"], "y", 1), torch.stack([T, T], 1)),
    "slice": (lambda b: b.add_slice("l", "x", "y", "height", 1, -1, 2), T[:, :, 1:-1:2]),
    "slice end": (lambda b: b.add_slice("l", "x", "y", "width", 2, 5), T[..., 2:5]),
    "tile": (lambda b: b.add_tile("l", "x", "y", [1, 2, 1, 3]), T.tile(1, 2, 1, 3)),
    "broadcastToStatic": (
        lambda b: b.add_broadcast_to_static("l", "x", "y", [2, 2, 3, 4, 5]),
        T.expand(2, 2, 3, 4, 5),
    ),
    "constantPad": (
        lambda b: b.add_constant_pad("l", ["x"], "y", 1.5, pad_amounts=[0, 1, 2, 0, 0, 0, 1, 1]),
        F.pad(T, (1, 1, 0, 0, 2, 0, 0, 1), value=1.5),
    ),
    "crop": (lambda b: b.add_crop("l", 1, 2, 0, 1, [0, 0], ["x"], "y"), T[:, :, 0:3, 1:3]),
    "argMax": (lambda b: b.add_argmax("l", "x", "y", -2), T.argmax(-2, keepdim=True).float()),
    "argMin": (lambda b: b.add_argmin("l", "x", "y", 1, keepdims=False), T.argmin(1).float()),
    "softmax": (lambda b: b.add_softmax("l", "x", "y"), T.softmax(1)),
    "softmaxND": (lambda b: b.add_softmax_nd("l", "x", "y", -1), T.softmax(-1)),
}


@pytest.mark.parametrize("name", MOVES)
def test_layers_that_move(name: str) -> None:
    add, expected = MOVES[name]

    close(computed(add, x=X), expected)


def test_slice_static_masks_squeezes_and_steps_back() -> None:
    def sliced(squeeze: list[bool]) -> Add:
        return lambda b: b.add_slice_static(
            "l", "x", "y", [0, 1, -1, 3], [9, 3, -9, 9], [1, 2, -2, 1],
            [True, False, False, False], [True, False, False, True], squeeze,
        )  # fmt: skip

    close(computed(sliced([False] * 4), x=X), X[:, 1:3:2, -1:-9:-2, 3:])
    close(computed(sliced([False, True, False, True]), x=X), X[:, 1, -1:-9:-2, 3])


def test_squeeze_leaves_one_axis() -> None:
    x = draw(1, 1, 3, 1)
    close(computed(lambda b: b.add_squeeze("l", "x", "y", [0, -1]), x=x), x[0, ..., 0])
    close(computed(lambda b: b.add_squeeze("l", "x", "y", squeeze_all=True), x=x), x.ravel())
    close(computed(lambda b: b.add_squeeze("l", "x", "y", [0]), x=x[0, 0, 0]), x[0, 0, 0])


def test_permute_keeps_the_batch_axis() -> None:
    """The examples in the documentation of PermuteLayerParams; the axes are sequence, batch, channel, height, width."""
    x = draw(2, 3, 4, 5, 6)
    for order, expected in (([0, 3, 1, 2], (2, 3, 6, 4, 5)), ([3, 1, 2, 0], (6, 3, 4, 5, 2))):
        assert computed(lambda b, o=order: b.add_permute("l", o, "x", "y"), x=x).shape == expected
    close(computed(lambda b: b.add_permute("l", [0, 3, 2, 1], "x", "y"), x=x), x.transpose(0, 1, 4, 3, 2))


def test_splits() -> None:
    def split(b: NeuralNetworkBuilder) -> None:
        b.add_split_nd("s", "x", ["p", "q"], 3, split_sizes=[1, 4])
        b.add_split_nd("t", "q", ["r", "y"], -1, num_splits=2)

    network = Network(built(split, ["p", "y"], x=X.shape))
    found = network.run({"x": X}, taps=["r"])

    assert list(found) == ["p", "y", "r"]
    close(found["p"], X[..., :1])
    close(found["r"], X[..., 1:3])
    close(found["y"], X[..., 3:])


def test_gather_and_crop_take_a_second_input() -> None:
    rows, like = np.array([[1, -1], [0, 0]], np.float32), draw(2, 3, 2, 3)
    close(computed(lambda b: b.add_gather("l", ["x", "i"], "y", 2), x=X, i=rows), X[:, :, rows.astype(int)])
    close(computed(lambda b: b.add_crop("l", 0, 0, 0, 0, [1, 2], ["x", "z"], "y"), x=X, z=like), X[:, :, 1:3, 2:5])
    with pytest.raises(DamagedFileError, match=r"layer 1, 'l' \(gather\)"):
        computed(lambda b: b.add_gather("l", ["x", "i"], "y", 2), x=X, i=rows + 4)


def test_top_k() -> None:
    for smallest in (False, True):
        spec = built(lambda b, s=smallest: b.add_topk("l", ["x"], ["v", "i"], 2, -2, s), ["v", "i"], x=X.shape)
        found = Network(spec).run({"x": X})
        values, indices = T.topk(2, -2, largest=not smallest)
        close(found["v"], values)
        close(found["i"], indices.float())


@pytest.mark.parametrize("kind", ["constant", "reflection", "replication"])
def test_padding_as_in_its_documentation(kind: str) -> None:
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4)
    first_rows = {
        "constant": [[0] * 6, [0] * 6, [0, 0, 1, 2, 3, 4]],
        "reflection": [[11, 10, 9, 10, 11, 12], [7, 6, 5, 6, 7, 8], [3, 2, 1, 2, 3, 4]],
        "replication": [[1, 1, 1, 2, 3, 4]] * 3,
    }

    found = computed(lambda b: b.add_padding("p", 2, 0, 2, 0, 0, "x", "y", kind), x=x)

    assert found[0, :3].tolist() == first_rows[kind]


REDUCTIONS: dict[str, Callable[[torch.Tensor, list[int], bool], torch.Tensor]] = {
    "sum": lambda x, axes, keep: x.sum(axes, keep),
    "mean": lambda x, axes, keep: x.mean(axes, keep),
    "max": lambda x, axes, keep: x.amax(axes, keep),
    "min": lambda x, axes, keep: x.amin(axes, keep),
    "l1": lambda x, axes, keep: x.abs().sum(axes, keep),
    "l2": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "sumsquare": lambda x, axes, keep: x.square().sum(axes, keep),
    "logsum": lambda x, axes, keep: x.sum(axes, keep).log(),
    "logsumexp": lambda x, axes, keep: x.logsumexp(axes, keep),
}


@pytest.mark.parametrize("kind", REDUCTIONS)
def test_reductions(kind: str) -> None:
    x = np.abs(X)
    for axes, keep in (([1], True), ([-1, 0], False), ([-1, -2], True), ([0, 1, 2, 3], False)):
        found = computed(lambda b, a=axes, k=keep: getattr(b, f"add_reduce_{kind}")("r", "x", "y", a, k), x=x)
        expected = REDUCTIONS[kind](torch.tensor(x), axes, keep)
        close(found, expected.reshape(expected.shape or (1,)))
    found = computed(lambda b: getattr(b, f"add_reduce_{kind}")("r", "x", "y", None, False), x=x)
    close(found, REDUCTIONS[kind](torch.tensor(x), [0, 1, 2, 3], False).reshape(1))


def test_the_old_reduce() -> None:
    x = np.abs(X)
    for axis, axes in (("CHW", (1, 2, 3)), ("HW", (2, 3)), ("C", 1), ("H", 2), ("W", 3)):
        found = computed(lambda b, a=axis: b.add_reduce("r", "x", "y", a, "avg"), x=x)
        close(found, x.mean(axes, keepdims=True))
        found = computed(lambda b, a=axis: b.add_reduce("r", "x", "y", a, "logsum", 1e-3), x=x)
        close(found, np.log(x + 1e-3).sum(axes, keepdims=True))
    found = computed(lambda b: b.add_reduce("r", "x", "y", "C", "argmax"), x=x)
    close(found, x.argmax(1)[:, None].astype(np.float32))


# Products and normalization


@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 4, 6), (2, 3, 2, 1), (2, 2, 1, 2, 3)])
def test_inner_product_of_every_rank(shape: tuple[int, ...]) -> None:
    x, weight, bias = draw(*shape), draw(5, 6, seed=1), draw(5, seed=2)
    found = computed(lambda b: b.add_inner_product("l", weight, bias, 6, 5, True, "x", "y"), x=x)

    rows = x if x.ndim <= 3 else x.reshape(*shape[:-3], 6)
    expected = F.linear(torch.tensor(rows), torch.tensor(weight), torch.tensor(bias))
    close(found, expected if x.ndim <= 3 else expected[..., None, None])


def test_batched_matmul() -> None:
    a, b, bias = draw(2, 1, 4, 3), draw(5, 3, 6), draw(6)
    close(computed(lambda n: n.add_batched_mat_mul("m", ["a", "b"], "y"), a=a, b=b), a @ b)
    swapped = {"a": a.swapaxes(-1, -2), "b": b.swapaxes(-1, -2)}
    close(computed(lambda n: n.add_batched_mat_mul("m", ["a", "b"], "y", True, True), **swapped), a @ b)
    close(computed(lambda n: n.add_batched_mat_mul("m", ["a", "b"], "y"), a=a[0, 0, 0], b=b), a[0, 0, :1] @ b)
    close(
        computed(lambda n: n.add_batched_mat_mul("m", ["a"], "y", False, False, 3, 6, b[0], bias), a=a), a @ b[0] + bias
    )


def test_batchnorm_with_stored_and_with_computed_statistics() -> None:
    gamma, beta, mean, variance = draw(3), draw(3, seed=1), draw(3, seed=2), np.abs(draw(3, seed=3))
    stored = F.batch_norm(T, *map(torch.tensor, (mean, variance, gamma, beta)), eps=1e-3)
    instance = F.instance_norm(T, weight=torch.tensor(gamma), bias=torch.tensor(beta), eps=1e-3)

    def norm(**options: object) -> Add:
        return lambda b: b.add_batchnorm("n", 3, gamma, beta, input_name="x", output_name="y", epsilon=1e-3, **options)

    close(computed(norm(mean=mean, variance=variance), x=X), stored)
    close(computed(norm(compute_mean_var=True, instance_normalization=True), x=X), instance)


def test_normalizations() -> None:
    gamma, beta = draw(4, 5), draw(4, 5, seed=1)
    weight, bias = torch.tensor(gamma), torch.tensor(beta)
    over_map, over_all = F.layer_norm(T, (4, 5), eps=1e-3), F.layer_norm(T, (3, 4, 5), eps=1e-3)
    cases = [
        (lambda b: b.add_mvn("n", "x", "y", False, True, 1e-3), over_map),
        (lambda b: b.add_mvn("n", "x", "y", True, True, 1e-3), over_all),
        (lambda b: b.add_mvn("n", "x", "y", True, False), T - T.mean((1, 2, 3), keepdim=True)),
        (lambda b: b.add_layer_normalization("n", "x", "y", (4, 5), gamma, beta, 1e-3), over_map * weight + bias),
        (
            lambda b: b.add_l2_normalize("n", "x", "y", 1e-3),
            T / (T.square().sum((1, 2, 3), keepdim=True) + 1e-3).sqrt(),
        ),
    ]
    for add, expected in cases:
        close(computed(add, x=X), expected)


@pytest.mark.parametrize("shape", [(1,), (3,), (1, 4, 5), (3, 4, 5)])
def test_scale_and_bias_of_every_shape(shape: tuple[int, ...]) -> None:
    gain, offset = draw(*shape, seed=1), draw(*shape, seed=2)
    full = (*shape, 1, 1) if len(shape) == 1 else shape
    found = computed(lambda b: b.add_scale("s", gain, offset, True, "x", "y", list(shape), list(shape)), x=X)
    close(found, X * gain.reshape(full) + offset.reshape(full))
    close(computed(lambda b: b.add_bias("s", offset, "x", "y", list(shape)), x=X), X + offset.reshape(full))


def test_constants() -> None:
    def add(b: NeuralNetworkBuilder) -> None:
        b.add_load_constant_nd("k", "k", X[:1], [1, 3, 4, 5])
        b.add_add_broadcastable("a", ["x", "k"], "y")

    close(computed(add, x=X), X + X[:1])
    spec = built(lambda b: b.add_load_constant("k", "y", X[0].ravel(), [3, 4, 5]), ["y"], x=(1,))
    close(Network(spec).run({"x": draw(1)})["y"], X[None, :1])
