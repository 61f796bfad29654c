"""Each operation of ML Programs against torch, on shapes and attributes drawn at random."""

import inspect
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.arithmetic import FLOAT32, HALF, round_to_half
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.ops import SUPPORTED
from mvit_deploy.runtimes.coreml.ops.spatial import grid

COVERED: set[str] = set()  # the operations that this module checks
quick = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 7)


def covers(*names: str) -> Callable[[Callable], Callable]:
    """Say which operations a test checks."""
    assert set(names) <= set(SUPPORTED)

    def register(test: Callable) -> Callable:
        COVERED.update(names)
        return test

    return register


def run(operation: str, **given_: object) -> object:
    function = SUPPORTED[operation]
    if "math" in inspect.signature(function).parameters:
        given_.setdefault("math", FLOAT32)
    with np.errstate(all="ignore"):
        return function(**{key: value.numpy() if isinstance(value, Tensor) else value for key, value in given_.items()})


def check(found: object, expected: Tensor, *, relative: float = 2e-5, absolute: float = 2e-5) -> None:
    expected = expected.numpy()
    assert np.shape(found) == expected.shape
    assert found.dtype == expected.dtype or (found.ndim == 0 and found.dtype.kind == expected.dtype.kind)
    np.testing.assert_allclose(found, expected, rtol=relative, atol=absolute)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def interleaved(pads: Sequence[tuple[int, int]]) -> list[int]:
    """MIL's order: before and after of the first spatial axis, then of the next."""
    return [side for pair in pads for side in pair]


def torch_order(pads: Sequence[tuple[int, int]]) -> list[int]:
    """F.pad's order: the last axis comes first."""
    return [side for pair in reversed(pads) for side in pair]


CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@covers("conv")
@given(st.data(), seeds)
@settings(max_examples=40, deadline=None)
def test_conv_with_custom_padding_is_torchs_on_a_padded_map(data: st.DataObject, seed: int) -> None:
    """1 to 3 axes; dense, grouped and depthwise; strides, dilations, asymmetric padding."""
    rank = data.draw(st.integers(1, 3))
    groups, inner, outer = (data.draw(st.integers(1, 3)) for _ in range(3))
    if data.draw(st.booleans()):
        inner = 1  # depthwise with a multiplier
    kernel, strides, dilations = ([data.draw(st.integers(1, 3)) for _ in range(rank)] for _ in range(3))
    spatial = [data.draw(st.integers(1, 4)) + (k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    pads = [(data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in range(rank)]
    x = normal(seed, 2, groups * inner, *spatial)
    weight = normal(seed + 1, groups * outer, inner, *kernel)
    bias = normal(seed + 2, groups * outer) if data.draw(st.booleans()) else None

    expected = CONV[rank](F.pad(x, torch_order(pads)), weight, bias, strides, 0, dilations, groups)
    form = {"weight": weight, "bias": bias, "strides": strides, "dilations": dilations, "groups": groups}
    found = run("conv", x=x, pad_type="custom", pad=interleaved(pads), **form)

    check(found, expected)


@covers("conv")
@given(sides, sides, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), seeds)
@quick
def test_conv_same_is_torchs_same(h: int, w: int, kh: int, kw: int, dh: int, dw: int, seed: int) -> None:
    """coremltools turns torch's padding='same', which has stride 1, into pad_type same without a change."""
    x, weight = normal(seed, 1, 2, h, w), normal(seed + 1, 3, 2, kh, kw)

    expected = F.conv2d(x, weight, padding="same", dilation=(dh, dw))
    found = run("conv", x=x, weight=weight, pad_type="same", dilations=[dh, dw])

    check(found, expected)


@covers("conv")
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.booleans(), seeds)
@quick
def test_conv_same_pads_least_and_puts_an_odd_rest_behind_or_in_front(
    size: int, kernel: int, stride: int, lower: bool, seed: int
) -> None:
    """Output sides are ceil(size / stride); same_lower puts the odd rest in front (conv.py)."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    before = math.ceil(total / 2) if lower else total // 2
    x, weight = normal(seed, 1, 2, size), normal(seed + 1, 3, 2, kernel)

    expected = F.conv1d(F.pad(x, (before, total - before)), weight, stride=stride)
    found = run("conv", x=x, weight=weight, strides=[stride], pad_type="same_lower" if lower else "same")

    assert found.shape[2] == math.ceil(size / stride)
    check(found, expected)


@covers("conv")
def test_depthwise_convolution_is_right_when_channels_fill_several_blocks() -> None:
    x, weight = normal(0, 1, 48, 96, 96), normal(1, 96, 1, 3, 3)

    check(run("conv", x=x, weight=weight, groups=48), F.conv2d(x, weight, groups=48))


@covers("conv_transpose")
@given(st.data(), seeds)
@settings(max_examples=40, deadline=None)
def test_conv_transpose_is_torchs_cropped_by_the_padding(data: st.DataObject, seed: int) -> None:
    rank = data.draw(st.integers(1, 3))
    groups, inner, outer = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel, strides, dilations, spatial = ([data.draw(st.integers(1, 3)) for _ in range(rank)] for _ in range(4))
    x = normal(seed, 2, groups * inner, *spatial)
    weight = normal(seed + 1, groups * inner, outer, *kernel)
    bias = normal(seed + 2, groups * outer) if data.draw(st.booleans()) else None
    full = CONV_TRANSPOSE[rank](x, weight, bias, strides, 0, 0, groups, dilations)
    pads = [
        data.draw(st.sampled_from([(a, b) for a in range(3) for b in range(3) if a + b < s])) for s in full.shape[2:]
    ]
    crop = [slice(before, side - after) for side, (before, after) in zip(full.shape[2:], pads, strict=True)]
    form = {"weight": weight, "bias": bias, "strides": strides, "dilations": dilations, "groups": groups}

    check(run("conv_transpose", x=x, pad_type="custom", pad=interleaved(pads), **form), full[:, :, *crop])
    check(run("conv_transpose", x=x, **form), full)


@covers("conv_transpose")
@given(st.integers(1, 6), st.integers(1, 4), st.integers(2, 4), st.data(), seeds)
@quick
def test_conv_transpose_with_an_output_shape_is_the_gradient_of_the_conv_it_undoes(
    size: int, kernel: int, stride: int, data: st.DataObject, seed: int
) -> None:
    """conv maps several sizes to one, output_shape says which is meant (conv.py), as torch's output_padding does."""
    extra = data.draw(st.integers(0, stride - 1))
    before, after = (data.draw(st.integers(0, kernel - 1)) for _ in range(2))
    full = (size - 1) * stride + kernel
    side = full - before - after + extra
    assume(side > 0)
    x, weight = normal(seed, 1, 2, size), normal(seed + 1, 2, 3, kernel)

    expected = F.pad(F.conv_transpose1d(x, weight, stride=stride), (0, extra))[:, :, before : before + side]
    form = {"weight": weight, "strides": [stride], "pad_type": "custom", "pad": [before, after]}
    found = run("conv_transpose", x=x, output_shape=[1, 3, side], **form)

    check(found, expected)


@covers("conv_transpose")
@pytest.mark.parametrize("side", [8, 11])
def test_conv_transpose_to_a_size_that_no_conv_would_have_come_from_is_unknown(side: int) -> None:
    """Four samples, kernel 3, stride 2 come from 9 or 10 samples: where 8 or 11 begin is not documented."""
    x, weight = normal(0, 1, 1, 4), normal(1, 1, 1, 3)

    with pytest.raises(UnknownFormError, match="output_shape"):
        run("conv_transpose", x=x, weight=weight, strides=[2], output_shape=[1, 1, side])


@covers("conv_transpose")
def test_conv_transpose_with_same_padding_is_unknown() -> None:
    with pytest.raises(UnknownFormError):
        run("conv_transpose", x=normal(0, 1, 1, 4), weight=normal(1, 1, 1, 3), pad_type="same")


@covers("linear")
@given(st.lists(sides, min_size=1, max_size=3), sides, st.booleans(), seeds)
@quick
def test_linear_is_torchs(shape: list[int], outputs: int, biased: bool, seed: int) -> None:
    x, weight = normal(seed, *shape), normal(seed + 1, outputs, shape[-1])
    bias = normal(seed + 2, outputs) if biased else None

    check(run("linear", x=x, weight=weight, bias=bias), F.linear(x, weight, bias))


@covers("matmul")
@given(st.data(), sides, sides, sides, st.booleans(), st.booleans(), seeds)
@settings(max_examples=30, deadline=None)
def test_matmul_transposes_and_broadcasts_as_torch(
    data: st.DataObject, n: int, k: int, m: int, transpose_x: bool, transpose_y: bool, seed: int
) -> None:
    batch = data.draw(st.lists(st.integers(1, 3), max_size=2))
    lead_x, lead_y = ([data.draw(st.sampled_from([1, side])) for side in batch] for _ in range(2))
    lead_x = lead_x[data.draw(st.integers(0, len(batch))) :]
    x = normal(seed, *lead_x, *((k, n) if transpose_x else (n, k)))
    y = normal(seed + 1, *lead_y, *((m, k) if transpose_y else (k, m)))

    expected = (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)

    check(run("matmul", x=x, y=y, transpose_x=transpose_x, transpose_y=transpose_y), expected)


@covers("matmul")
@given(st.lists(sides, max_size=2), sides, sides, seeds)
@quick
def test_matmul_of_a_vector_is_torchs(batch: list[int], n: int, k: int, seed: int) -> None:
    """A transposition has no effect on one axis (linear.py)."""
    vector, matrix = normal(seed, k), normal(seed + 1, *batch, k, n)

    check(run("matmul", x=vector, y=vector), (vector @ vector))
    check(run("matmul", x=vector, y=matrix, transpose_x=True), vector @ matrix)
    check(run("matmul", x=matrix.mT, y=vector, transpose_y=True), matrix.mT @ vector)


@covers("matmul")
@given(sides, st.integers(1, 200), sides, seeds)
@quick
def test_half_matmul_is_near_torchs_whatever_the_broadcast(n: int, k: int, m: int, seed: int) -> None:
    x, y = normal(seed, 2, 1, n, k) / 8, normal(seed + 1, 3, k, m) / 8

    check(run("matmul", x=x, y=y, math=HALF), x @ y, relative=1e-2, absolute=1e-2)


@covers("einsum")
@pytest.mark.parametrize("equation", ["nchw,nwhu->nchu", "abcd,adce->abce", "chw,whr->chr"])
@given(sides, sides, sides, sides, st.booleans(), seeds)
@quick
def test_einsum_is_torchs_with_sides_of_one_broadcast(
    equation: str, c: int, h: int, w: int, u: int, shared: bool, seed: int
) -> None:
    batch = [2] if equation.index(",") == 4 else []
    x = normal(seed, *batch, c, h, w)
    y = normal(seed + 1, *([1] * len(batch) if shared else batch), w, 1 if shared else h, u)

    check(run("einsum", values=[x.numpy(), y.numpy()], equation=equation), torch.einsum(equation, x, y))


@covers("scaled_dot_product_attention")
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), sides, sides, sides, sides, st.data(), seeds)
@settings(max_examples=25, deadline=None)
def test_attention_is_torchs_with_and_without_masks(
    batch: list[int], queries: int, keys: int, width: int, value_width: int, data: st.DataObject, seed: int
) -> None:
    query, key = normal(seed, *batch, queries, width), normal(seed + 1, *batch, keys, width)
    value = normal(seed + 2, *batch, keys, value_width)
    mask_shape = data.draw(st.sampled_from([(queries, keys), (*batch, queries, keys), (1, keys), (*batch, 1, keys)]))
    floats = normal(seed + 3, *mask_shape)
    booleans = floats > 0
    booleans[..., 0] = True  # a row without any element has no softmax
    mask = data.draw(st.sampled_from([None, floats, booleans]))

    expected = F.scaled_dot_product_attention(query, key, value, mask)
    found = run("scaled_dot_product_attention", query=query, key=key, value=value, attn_mask=mask)

    check(found, expected)


@covers("scaled_dot_product_attention")
def test_attention_with_a_fully_masked_row_is_not_a_number() -> None:
    """The documented formula, softmax of nothing but -inf; newer torch writes 0 there."""
    x, mask = normal(0, 1, 2, 3), torch.tensor([[True, True], [False, False]])

    found = run("scaled_dot_product_attention", query=x, key=x, value=x, attn_mask=mask)

    assert np.isfinite(found[0, 0]).all()
    assert np.isnan(found[0, 1]).all()


@covers("layer_norm")
@given(st.lists(sides, min_size=1, max_size=4), st.data(), st.booleans(), seeds)
@settings(max_examples=25, deadline=None)
def test_layer_norm_over_any_axes_is_torchs_on_the_axes_moved_last(
    shape: list[int], data: st.DataObject, affine: bool, seed: int
) -> None:
    axes = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    x, sizes = normal(seed, *shape), [shape[axis] for axis in axes]
    gamma, beta = (normal(seed + 1, *sizes), normal(seed + 2, *sizes)) if affine else (None, None)
    last = list(range(len(shape) - len(axes), len(shape)))

    expected = F.layer_norm(x.movedim(axes, last), sizes, gamma, beta, 1e-3).movedim(last, axes)
    given_axes = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    found = run("layer_norm", x=x, axes=given_axes, gamma=gamma, beta=beta, epsilon=np.float32(1e-3))

    check(found, expected, relative=1e-4, absolute=1e-4)


@covers("layer_norm")
def test_layer_norm_without_axes_is_over_everything() -> None:
    x = normal(0, 3, 4)

    check(run("layer_norm", x=x), F.layer_norm(x, [3, 4]))


@covers("instance_norm", "batch_norm")
@given(st.lists(st.integers(2, 5), min_size=1, max_size=3), st.integers(1, 4), st.booleans(), seeds)
@quick
def test_instance_norm_and_batch_norm_are_torchs(spatial: list[int], channels: int, affine: bool, seed: int) -> None:
    x = normal(seed, 2, channels, *spatial)
    gamma, beta = (normal(seed + 1, channels), normal(seed + 2, channels)) if affine else (None, None)
    mean, variance = normal(seed + 3, channels), normal(seed + 4, channels).abs() + 0.1

    instance = run("instance_norm", x=x, gamma=gamma, beta=beta)
    batch = run("batch_norm", x=x, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=np.float32(1e-3))

    check(instance, F.instance_norm(x, weight=gamma, bias=beta, eps=1e-5), relative=1e-4, absolute=1e-4)
    check(batch, F.batch_norm(x, mean, variance, gamma, beta, eps=1e-3))


@covers("l2_norm")
@given(st.lists(sides, min_size=3, max_size=5), seeds)
@quick
def test_l2_norm_divides_by_the_length_of_the_last_three_axes(shape: list[int], seed: int) -> None:
    x = normal(seed, *shape)

    check(run("l2_norm", x=x), x / (x.square().sum(dim=(-3, -2, -1), keepdim=True) + 1e-6).sqrt())


@covers("local_response_norm")
@given(st.integers(1, 6), st.lists(sides, min_size=1, max_size=2), st.sampled_from([1, 3, 5]), seeds)
@quick
def test_local_response_norm_over_an_odd_number_of_channels_is_torchs(
    channels: int, spatial: list[int], size: int, seed: int
) -> None:
    x = normal(seed, 2, channels, *spatial)
    found = run("local_response_norm", x=x, size=size, alpha=np.float32(0.3), beta=np.float32(0.6), k=np.float32(1.5))

    check(found, F.local_response_norm(x, size, alpha=0.3, beta=0.6, k=1.5))


@covers("local_response_norm")
def test_local_response_norm_over_an_even_number_of_channels_is_unknown() -> None:
    """Which side has one more channel is not documented."""
    with pytest.raises(UnknownFormError):
        run("local_response_norm", x=normal(0, 1, 4, 2), size=2)


def pool_case(data: st.DataObject, highest: int = 3) -> tuple[list[int], list[int], list[int], list[int]]:
    """spatial, kernel, strides and symmetric pads that torch takes too: at most half of the kernel."""
    rank = data.draw(st.integers(1, highest))
    kernel, strides = ([data.draw(st.integers(1, 4)) for _ in range(rank)] for _ in range(2))
    pads = [data.draw(st.integers(0, size // 2)) for size in kernel]
    spatial = [data.draw(st.integers(1, 6)) + size for size in kernel]
    return spatial, kernel, strides, pads


@covers("max_pool", "avg_pool")
@given(st.data(), seeds)
@settings(max_examples=30, deadline=None)
def test_pools_are_torchs(data: st.DataObject, seed: int) -> None:
    spatial, kernel, strides, pads = pool_case(data)
    x, rank = normal(seed, 2, 3, *spatial), len(spatial)
    form = {"kernel_sizes": kernel, "strides": strides, "pad_type": "custom", "pad": [p for p in pads for _ in "be"]}

    check(run("max_pool", x=x, **form), MAX_POOL[rank](x, kernel, strides, pads))
    for exclude in (False, True):
        expected = AVG_POOL[rank](x, kernel, strides, pads, count_include_pad=not exclude)
        check(run("avg_pool", x=x, exclude_padding_from_average=exclude, **form), expected)


@covers("max_pool", "avg_pool")
@given(st.data(), seeds)
@settings(max_examples=40, deadline=None)
def test_pools_in_ceil_mode_are_torchs(data: st.DataObject, seed: int) -> None:
    """A window that torch leaves out because it would begin behind the map is unknown here: MIL keeps it if there is no
    padding (pool.py), and it has no samples."""
    spatial, kernel, strides, pads = pool_case(data, highest=2)
    x, rank = normal(seed, 2, 3, *spatial), len(spatial)
    form = {"kernel_sizes": kernel, "strides": strides, "pad_type": "custom", "pad": [p for p in pads for _ in "be"]}
    axes = list(zip(spatial, kernel, strides, pads, strict=True))
    empty = any(p == 0 and math.ceil((s - k) / t) * t >= s for s, k, t, p in axes)
    expected = MAX_POOL[rank](x, kernel, strides, pads, ceil_mode=True)

    if empty:
        with pytest.raises(UnknownFormError):
            run("max_pool", x=x, ceil_mode=True, **form)
        return
    check(run("max_pool", x=x, ceil_mode=True, **form), expected)
    average = AVG_POOL[rank](x, kernel, strides, pads, ceil_mode=True, count_include_pad=False)
    check(run("avg_pool", x=x, ceil_mode=True, exclude_padding_from_average=True, **form), average)


@covers("max_pool", "avg_pool")
@given(st.integers(3, 9), st.integers(2, 3), st.integers(0, 1), st.integers(0, 1), st.integers(1, 3), seeds)
@quick
def test_pools_with_asymmetric_padding_are_torchs_on_a_padded_map(
    size: int, kernel: int, before: int, after: int, stride: int, seed: int
) -> None:
    x = normal(seed, 1, 2, size)
    form = {"kernel_sizes": [kernel], "strides": [stride], "pad_type": "custom", "pad": [before, after]}

    largest = F.max_pool1d(F.pad(x, (before, after), value=-math.inf), kernel, stride)
    total = F.avg_pool1d(F.pad(x, (before, after)), kernel, stride)
    inside = F.avg_pool1d(F.pad(torch.ones_like(x), (before, after)), kernel, stride)

    check(run("max_pool", x=x, **form), largest)
    check(run("avg_pool", x=x, **form), total)
    check(run("avg_pool", x=x, exclude_padding_from_average=True, **form), total / inside)


@covers("avg_pool")
def test_avg_pool_that_counts_samples_beyond_the_padding_is_unknown() -> None:
    with pytest.raises(UnknownFormError):
        run("avg_pool", x=normal(0, 1, 1, 6), kernel_sizes=[3], strides=[2], pad_type="valid", ceil_mode=True)


@covers("max_pool", "avg_pool")
@pytest.mark.parametrize("pad", [[2, 0], [0, 2]])
def test_a_window_that_lies_in_the_padding_alone_is_unknown(pad: list[int]) -> None:
    x, form = normal(0, 1, 1, 4), {"kernel_sizes": [2], "pad_type": "custom", "pad": pad}

    with pytest.raises(UnknownFormError):
        run("max_pool", x=x, **form)
    with pytest.raises(UnknownFormError):
        run("avg_pool", x=x, exclude_padding_from_average=True, **form)
    assert run("avg_pool", x=x, **form)[0, 0, 0 if pad[0] else -1] == 0


@covers("max_pool")
def test_ceil_mode_with_asymmetric_padding_is_refused() -> None:
    """padding must be symmetric then (pool.py)."""
    with pytest.raises(DamagedFileError):
        run("max_pool", x=normal(0, 1, 1, 4), kernel_sizes=[2], pad_type="custom", pad=[1, 0], ceil_mode=True)


RESIZED = (st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), seeds)


@covers("resize_bilinear", "resize")
@pytest.mark.parametrize(("mode", "aligned"), [("UNALIGN_CORNERS", False), ("STRICT_ALIGN_CORNERS", True)])
@given(*RESIZED)
@settings(max_examples=25, deadline=None)
def test_resizing_by_corners_is_torchs_interpolate(
    mode: str, aligned: bool, h: int, w: int, rows: int, columns: int, seed: int
) -> None:
    x = normal(seed, 2, 3, h, w)
    expected = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=aligned)

    found = run("resize_bilinear", x=x, target_size_height=rows, target_size_width=columns, sampling_mode=mode)
    resized = run("resize", x=x, shape=np.array([1, rows, columns]), resized_dims=2, sampling_mode=mode)
    one_axis = run("resize", x=x, shape=np.array([columns]), resized_dims=1, sampling_mode=mode)

    check(found, expected, absolute=1e-4)
    check(resized, expected, absolute=1e-4)
    check(one_axis, F.interpolate(x, (h, columns), mode="bilinear", align_corners=aligned), absolute=1e-4)


@covers("resize")
def test_a_size_of_zero_keeps_the_side_that_it_stands_for() -> None:
    x = normal(0, 1, 2, 3, 4)

    assert run("resize", x=x, shape=np.array([6, 0, 8]), resized_dims=2).shape == (1, 2, 3, 8)


@covers("resize")
def test_resizing_to_the_nearest_or_of_integers_is_unknown() -> None:
    x = np.ones((1, 1, 2, 2), np.float32)

    with pytest.raises(UnknownFormError):
        run("resize", x=x, shape=np.array([4, 4]), resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR")
    with pytest.raises(UnknownFormError):
        run("resize", x=x.astype(np.int32), shape=np.array([4, 4]), resized_dims=2)


@covers("resize_bilinear")
@pytest.mark.parametrize(
    ("mode", "wanted", "expected"),
    [
        ("UNALIGN_CORNERS", 5, [0.0, 0.1, 0.5, 0.9, 1.0]),
        ("STRICT_ALIGN_CORNERS", 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("ALIGN_CORNERS", 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("DEFAULT", 5, [0.0, 0.4, 0.8, 1.0, 1.0]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("UNALIGN_CORNERS", 6, [0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0]),
        ("STRICT_ALIGN_CORNERS", 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("ALIGN_CORNERS", 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ("DEFAULT", 6, [0.0, 1 / 3, 2 / 3, 1.0, 1.0, 1.0]),
        ("OFFSET_CORNERS", 6, [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]),
        ("STRICT_ALIGN_CORNERS", 1, [0.0]),
        ("ALIGN_CORNERS", 1, [0.5]),
    ],
)
def test_two_samples_are_resized_as_the_documented_examples(mode: str, wanted: int, expected: list[float]) -> None:
    """image_resizing.py lists the grid points of the interval [0, 1]."""
    x = np.array([[[0.0, 1.0]]], np.float32)

    found = run("resize_bilinear", x=x, target_size_height=1, target_size_width=wanted, sampling_mode=mode)

    np.testing.assert_allclose(found[0, 0], expected, atol=1e-6)


@covers("resize_bilinear")
@given(st.integers(1, 40), st.integers(1, 80))
@settings(max_examples=100, deadline=None)
def test_sampling_grids_are_the_documented_formulas(size: int, wanted: int) -> None:
    index = np.arange(wanted)
    assert grid(size, wanted, "UNALIGN_CORNERS") == pytest.approx(index * (size / wanted) + 0.5 * size / wanted - 0.5)
    if wanted > 1:
        default = index * ((size - size / wanted) / (wanted - 1))
        delta = max(1, size - 1) / wanted
        assert grid(size, wanted, "DEFAULT") == pytest.approx(default)
        assert grid(size, wanted, "OFFSET_CORNERS") == pytest.approx(0.5 * delta + index * delta)
        assert grid(size, wanted, "ALIGN_CORNERS") == pytest.approx(index * ((size - 1) / (wanted - 1)))


@covers("upsample_bilinear")
@given(*RESIZED, st.booleans())
@settings(max_examples=40, deadline=None)
def test_upsampling_by_a_factor_is_torchs_interpolate(
    h: int, w: int, rows: int, columns: int, seed: int, aligned: bool
) -> None:
    """The factors as coremltools writes them for a torch size: a little more than rows / h, in float32."""
    x = normal(seed, 1, 2, h, w)
    height, width = factor(h, rows), factor(w, columns)

    expected = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=aligned)
    found = run("upsample_bilinear", x=x, scale_factor_height=height, scale_factor_width=width, align_corners=aligned)

    check(found, expected, absolute=1e-4)


def factor(size: int, wanted: int) -> np.float32:
    """The factor that coremltools' torch frontend writes (ops.py, _get_scales_from_output_size)."""
    return np.float32(wanted / size if wanted % size == 0 else (wanted + 1e-4) / size)


@covers("upsample_bilinear")
def test_upsampling_finds_the_size_of_every_factor_that_coremltools_writes() -> None:
    """floor(side * factor), factors in float32: all sides up to 64 to all sides up to 256."""
    for size in range(1, 65):
        x = np.zeros((1, size, 1), np.float32)
        for wanted in range(size, 257, 5):
            assert run("upsample_bilinear", x=x, scale_factor_height=factor(size, wanted)).shape == (1, wanted, 1)


@covers("upsample_bilinear")
def test_an_upsampled_size_that_hangs_on_the_last_bit_is_unknown() -> None:
    """33 * float32(37 / 33) is 37 in float32 and 36.9999993 in float64: which one is meant is not documented."""
    scale = next(
        np.float32(wanted / 33)
        for wanted in range(34, 66)
        if math.floor(33 * float(np.float32(wanted / 33))) != math.floor(np.float32(33) * np.float32(wanted / 33))
    )

    with pytest.raises(UnknownFormError):
        run("upsample_bilinear", x=np.zeros((1, 33, 1), np.float32), scale_factor_height=scale)


@covers("upsample_bilinear")
def test_upsampling_with_neither_corners_nor_half_pixels_is_the_default_grid() -> None:
    """tf.raw_ops.ResizeBilinear with both switches off (image_resizing.py)."""
    x = np.array([[[0.0, 1.0]]], np.float32)

    found = run("upsample_bilinear", x=x, scale_factor_width=2.5, align_corners=False, half_pixel_centers=False)

    np.testing.assert_allclose(found[0, 0], [0.0, 0.4, 0.8, 1.0, 1.0], atol=1e-6)
    with pytest.raises(UnknownFormError):
        run("upsample_bilinear", x=x, scale_factor_width=2, align_corners=True, half_pixel_centers=True)


@covers("upsample_nearest_neighbor", "resize_nearest_neighbor")
@given(sides, sides, st.integers(1, 4), st.integers(1, 4), seeds)
@quick
def test_nearest_neighbours_by_whole_factors_are_torchs(h: int, w: int, rows: int, columns: int, seed: int) -> None:
    x = normal(seed, 1, 2, h, w)
    expected = F.interpolate(x, (h * rows, w * columns), mode="nearest")

    check(run("upsample_nearest_neighbor", x=x, scale_factor_height=rows, scale_factor_width=float(columns)), expected)
    found = run("resize_nearest_neighbor", x=x, target_size_height=h * rows, target_size_width=w * columns)
    check(found, expected)


@covers("upsample_nearest_neighbor", "resize_nearest_neighbor")
def test_nearest_neighbours_by_other_factors_are_unknown() -> None:
    x = normal(0, 1, 1, 4, 4)

    with pytest.raises(UnknownFormError):
        run("upsample_nearest_neighbor", x=x, scale_factor_height=1.5)
    with pytest.raises(UnknownFormError):
        run("resize_nearest_neighbor", x=x, target_size_height=6, target_size_width=4)


@covers("pixel_shuffle", "pixel_unshuffle")
@given(sides, sides, sides, st.integers(1, 3), seeds)
@quick
def test_pixel_shuffles_are_torchs(channels: int, h: int, w: int, scale: int, seed: int) -> None:
    deep, wide = normal(seed, 2, channels * scale**2, h, w), normal(seed, 2, channels, h * scale, w * scale)

    check(run("pixel_shuffle", x=deep, upscale_factor=scale), F.pixel_shuffle(deep, scale))
    check(run("pixel_unshuffle", x=wide, downscale_factor=np.uint32(scale)), F.pixel_unshuffle(wide, scale))


@covers("crop")
@given(st.integers(4, 8), st.integers(4, 8), *[st.integers(0, 1)] * 4, seeds)
@quick
def test_crop_takes_from_both_ends_of_the_last_two_axes(
    h: int, w: int, t: int, b: int, l: int, r: int, seed: int
) -> None:
    x = normal(seed, 1, 2, h, w)

    check(run("crop", x=x, crop_height=[t, b], crop_width=[l, r]), x[:, :, t : h - b, l : w - r])


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, object]]] = {
    "silu": (F.silu, {}),
    "gelu": (F.gelu, {}),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), {"mode": "TANH_APPROXIMATION"}),
    "gelu sigmoid": (lambda x: x * torch.sigmoid(1.702 * x), {"mode": "SIGMOID_APPROXIMATION"}),
    "relu": (F.relu, {}),
    "relu6": (F.relu6, {}),
    "sigmoid": (torch.sigmoid, {}),
    "sigmoid_hard": (F.hardsigmoid, {"alpha": np.float32(1 / 6), "beta": np.float32(0.5)}),
    "softplus": (F.softplus, {}),
    "softsign": (F.softsign, {}),
    "elu": (lambda x: F.elu(x, 0.7), {"alpha": np.float32(0.7)}),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), {"alpha": np.float32(0.2)}),
    "thresholded_relu": (lambda x: torch.where(x >= 0.5, x, 0), {"alpha": np.float32(0.5)}),
    "clamped_relu": (
        lambda x: F.leaky_relu(x, 0.2).clamp(max=1.5),
        {"alpha": np.float32(0.2), "beta": np.float32(1.5)},
    ),
    "linear_activation": (lambda x: 2 * x + 3, {"alpha": np.float32(2), "beta": np.float32(3)}),
    "scaled_tanh": (lambda x: 1.7159 * torch.tanh(x * 2 / 3), {"alpha": np.float32(1.7159), "beta": np.float32(2 / 3)}),
    "threshold": (lambda x: x.clamp(min=0.3), {"alpha": np.float32(0.3)}),
    "clip": (lambda x: x.clamp(-0.5, 1), {"alpha": np.float32(-0.5), "beta": np.float32(1)}),
}


@covers(*(name.split()[0] for name in ACTIVATIONS))
@pytest.mark.parametrize("name", ACTIVATIONS)
@given(st.lists(sides, max_size=4), seeds)
@quick
def test_activation_is_torchs(name: str, shape: list[int], seed: int) -> None:
    expected, parameters = ACTIVATIONS[name]
    x = 4 * normal(seed, *shape)

    check(run(name.split(maxsplit=1)[0], x=x, **parameters), expected(x), relative=1e-5, absolute=2e-6)


@covers("silu", "sigmoid", "softplus", "gelu", "softmax")
@pytest.mark.parametrize("value", [-1e4, -100.0, -20.0, -0.0, 20.0, 100.0, 1e4])
def test_activations_do_not_overflow(value: float) -> None:
    x = torch.tensor([value, 0.0])

    for name in ("silu", "sigmoid", "softplus", "gelu"):
        check(run(name, x=x), ACTIVATIONS[name][0](x), absolute=1e-7)
    check(run("softmax", x=x), torch.softmax(x, -1))


@covers("prelu", "softplus_parametric")
@given(st.lists(sides, min_size=1, max_size=3), sides, seeds)
@quick
def test_activations_with_one_value_for_each_channel_are_torchs(spatial: list[int], channels: int, seed: int) -> None:
    x = normal(seed, 2, channels, *spatial)
    alpha, beta = normal(seed + 1, channels), normal(seed + 2, channels)
    wide = (-1, *[1] * len(spatial))

    check(run("prelu", x=x, alpha=alpha), F.prelu(x, alpha))
    expected = alpha.view(wide) * F.softplus(beta.view(wide) * x)
    check(run("softplus_parametric", x=x, alpha=alpha, beta=beta), expected)


@covers("softmax")
@given(st.lists(sides, min_size=1, max_size=4), st.data(), seeds)
@quick
def test_softmax_is_torchs_along_any_axis(shape: list[int], data: st.DataObject, seed: int) -> None:
    x, axis = 10 * normal(seed, *shape), data.draw(st.integers(-len(shape), len(shape) - 1))

    check(run("softmax", x=x, axis=axis), torch.softmax(x, axis))
    check(run("softmax", x=x, axis=axis, math=HALF), torch.softmax(x, axis), relative=1e-2, absolute=1e-3)


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs, "ceil": torch.ceil, "cos": torch.cos, "cosh": torch.cosh, "erf": torch.erf, "exp": torch.exp,
    "exp2": torch.exp2, "floor": torch.floor, "round": torch.round, "sign": torch.sign, "sin": torch.sin,
    "sinh": torch.sinh, "square": torch.square, "tanh": torch.tanh, "atan": torch.atan, "identity": torch.clone,
}  # fmt: skip
UNARY_OF_A_PART: dict[str, Callable[[Tensor], Tensor]] = {  # defined, or steady, only between 0 and 1
    "acos": torch.acos, "asin": torch.asin, "atanh": torch.atanh, "tan": torch.tan, "sqrt": torch.sqrt,
    "log": torch.log, "rsqrt": torch.rsqrt, "inverse": lambda x: 1 / (x + 1e-4),
}  # fmt: skip


@covers(*UNARY, *UNARY_OF_A_PART)
@pytest.mark.parametrize("name", [*UNARY, *UNARY_OF_A_PART])
@given(st.lists(sides, max_size=4), seeds)
@settings(max_examples=8, deadline=None)
def test_function_of_each_element_is_torchs(name: str, shape: list[int], seed: int) -> None:
    x = 3 * normal(seed, *shape)
    x = torch.sigmoid(x).clamp(0.01, 0.99) if name in UNARY_OF_A_PART else x

    check(run(name, x=x), (UNARY | UNARY_OF_A_PART)[name](x), relative=1e-5, absolute=1e-6)


@covers("round")
def test_round_takes_halves_to_the_even_integer() -> None:
    """0.5 is rounded to 0 (elementwise_unary.py)."""
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)

    assert run("round", x=x).tolist() == [-2, -2, 0, 0, 2, 2]


@covers("erf")
def test_erf_is_right_to_two_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-6, 6, 20001), np.logspace(-30, 0, 2000)]).astype(np.float32)
    exact = torch.erf(torch.from_numpy(x).double()).numpy()

    assert np.abs((run("erf", x=x) - exact) / np.spacing(np.abs(exact).astype(np.float32))).max() <= 2


BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "floor_div": torch.floor_divide,
    "mod": torch.remainder, "maximum": torch.maximum, "minimum": torch.minimum, "equal": torch.eq,
    "not_equal": torch.ne, "greater": torch.gt, "greater_equal": torch.ge, "less": torch.lt, "less_equal": torch.le,
    "pow": torch.pow, "logical_and": torch.logical_and, "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
}  # fmt: skip


@covers(*BINARY, "logical_not", "select")
@pytest.mark.parametrize("name", BINARY)
@given(st.lists(st.integers(1, 4), max_size=4), st.data(), seeds)
@settings(max_examples=10, deadline=None)
def test_function_of_two_elements_broadcasts_as_torch(
    name: str, shape: list[int], data: st.DataObject, seed: int
) -> None:
    left, right = ([data.draw(st.sampled_from([1, side])) for side in shape] for _ in range(2))
    right = right[data.draw(st.integers(0, len(shape))) :]
    x, y = normal(seed, *left).round(decimals=1), normal(seed + 1, *right).round(decimals=1)
    if name.startswith("logical"):
        x, y = x > 0, y > 0
    elif name in ("mod", "real_div", "floor_div"):
        y = torch.where(y == 0, 0.7, y)
    elif name == "pow":
        x = x.abs() + 0.1

    check(run(name, x=x, y=y), BINARY[name](x, y), relative=1e-5, absolute=1e-5)
    condition = x > y if x.dtype != torch.bool else x
    check(run("select", cond=condition, a=x, b=y), torch.where(condition, x, y))
    check(run("logical_not", x=condition), ~condition)


@covers("floor_div", "mod", "add", "sub", "mul", "maximum", "equal")
@given(st.integers(-50, 50), st.integers(-7, 7).filter(bool))
@quick
def test_integers_divide_towards_negative_infinity(x: int, y: int) -> None:
    a, b = np.array([x], np.int32), np.array([y], np.int32)

    assert run("floor_div", x=a, y=b).tolist() == [x // y]
    assert run("mod", x=a, y=b).tolist() == [x % y]
    for name in ("add", "sub", "mul", "maximum", "floor_div", "mod"):
        assert run(name, x=a, y=b).dtype == np.int32
    with pytest.raises(UnknownFormError):
        run("real_div", x=a, y=b)


REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "reduce_sum": lambda x, axes, keep: x.sum(axes, keep),
    "reduce_mean": lambda x, axes, keep: x.mean(axes, keep),
    "reduce_max": lambda x, axes, keep: x.amax(axes, keep),
    "reduce_min": lambda x, axes, keep: x.amin(axes, keep),
    "reduce_sum_square": lambda x, axes, keep: x.square().sum(axes, keep),
    "reduce_l1_norm": lambda x, axes, keep: x.abs().sum(axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(),
    "reduce_log_sum": lambda x, axes, keep: x.abs().sum(axes, keep).log(),
    "reduce_log_sum_exp": lambda x, axes, keep: x.logsumexp(axes, keep),
}


@covers(*REDUCTIONS, "reduce_prod")
@pytest.mark.parametrize("name", REDUCTIONS)
@given(st.lists(sides, min_size=1, max_size=4), st.data(), st.booleans(), seeds)
@settings(max_examples=12, deadline=None)
def test_reduction_is_torchs(name: str, shape: list[int], data: st.DataObject, keep: bool, seed: int) -> None:
    axes = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    given_axes = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    x = normal(seed, *shape)

    given_x = x.abs() if name == "reduce_log_sum" else x
    expected = REDUCTIONS[name](x, axes, keep)

    check(run(name, x=given_x, axes=np.array(given_axes), keep_dims=keep), expected)
    everything = REDUCTIONS[name](x, list(range(len(shape))), False)
    np.testing.assert_allclose(run(name, x=given_x), everything, rtol=2e-5, atol=2e-5)
    check(run("reduce_prod", x=x, axes=np.array(given_axes[:1]), keep_dims=keep), x.prod(axes[0], keep))
    if name != "reduce_log_sum":  # sums of both signs lose everything in half
        half = HALF if "math" in inspect.signature(SUPPORTED[name]).parameters else FLOAT32
        options = {"math": half} if half is HALF else {}
        check(run(name, x=given_x, axes=given_axes, keep_dims=keep, **options), expected, relative=2e-2, absolute=0.2)


@covers("reduce_mean", "reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp", "exp2")
@pytest.mark.parametrize("name", ["reduce_mean", "reduce_l2_norm", "reduce_log_sum", "reduce_log_sum_exp", "exp2"])
def test_fractions_of_integers_are_unknown(name: str) -> None:
    """The result is an integer too, how it is rounded is not documented."""
    with pytest.raises(UnknownFormError):
        run(name, x=np.array([1, 2], np.int32))


@covers("reduce_sum", "reduce_max", "reduce_prod", "reduce_sum_square", "reduce_l1_norm")
def test_reductions_of_integers_stay_integers() -> None:
    x = np.array([[1, -2], [3, 4]], np.int32)
    expected = {"sum": 6, "max": 4, "min": -2, "prod": -24, "sum_square": 30, "l1_norm": 10}

    found = {name: run(f"reduce_{name}", x=x) for name in expected}

    assert {name: int(value) for name, value in found.items()} == expected
    assert {np.asarray(value).dtype for value in found.values()} == {np.dtype(np.int32)}


@covers("reduce_argmax", "reduce_argmin", "argsort", "topk")
@given(st.lists(sides, min_size=1, max_size=4), st.data(), st.booleans(), st.booleans(), seeds)
@settings(max_examples=25, deadline=None)
def test_orders_are_torchs(shape: list[int], data: st.DataObject, keep: bool, ascending: bool, seed: int) -> None:
    """Whole numbers, so that there are equal ones: of those the first comes first."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = (2 * normal(seed, *shape)).round()
    count = data.draw(st.integers(1, shape[axis]))
    order = x.sort(dim=axis, descending=not ascending, stable=True)

    check(run("reduce_argmax", x=x, axis=axis, keep_dims=keep), x.argmax(axis, keep).int())
    check(run("reduce_argmin", x=x, axis=axis, keep_dims=keep), x.argmin(axis, keep).int())
    assert run("reduce_argmax", x=x, axis=axis, output_dtype="uint16").dtype == np.uint16
    check(run("argsort", x=x, axis=axis, ascending=ascending), order.indices.int())
    values, places = run("topk", x=x, k=count, axis=axis, ascending=ascending)
    check(values, order.values.narrow(axis, 0, count))
    check(places, order.indices.narrow(axis, 0, count).int())
    check(run("topk", x=x, k=-1, axis=axis, ascending=ascending, return_indices=False), order.values)


@covers("gather", "gather_along_axis", "gather_nd")
@given(st.lists(sides, min_size=1, max_size=4), st.data(), seeds)
@settings(max_examples=25, deadline=None)
def test_gathering_is_torchs_indexing(shape: list[int], data: st.DataObject, seed: int) -> None:
    x, axis = normal(seed, *shape), data.draw(st.integers(0, len(shape) - 1))
    generator = torch.Generator().manual_seed(seed)
    places = torch.randint(shape[axis], data.draw(st.lists(st.integers(1, 3), max_size=2)), generator=generator)
    along = list(shape)
    along[axis] = data.draw(sides)
    indices = torch.randint(shape[axis], along, generator=generator)
    depth = data.draw(st.integers(1, len(shape)))
    points = torch.stack([torch.randint(side, (2, 3), generator=generator) for side in shape[:depth]], dim=-1)

    check(run("gather", x=x, indices=places.int(), axis=axis), x[(slice(None),) * axis + (places,)])
    check(run("gather", x=x, indices=places.int(), axis=axis - len(shape)), x[(slice(None),) * axis + (places,)])
    check(run("gather_along_axis", x=x, indices=indices.int(), axis=axis), x.gather(axis, indices))
    check(run("gather_nd", x=x, indices=points.int()), x[points.unbind(-1)])


@covers("gather")
@given(st.integers(1, 3), st.integers(1, 4), sides, sides, st.integers(1, 2), seeds)
@quick
def test_gathering_with_batch_dims_goes_by_each_of_them(b: int, c: int, h: int, n: int, batch: int, seed: int) -> None:
    x = normal(seed, b, c, h)
    indices = torch.randint(h, (b, c, n) if batch == 2 else (b, n), generator=torch.Generator().manual_seed(seed))

    expected = x.gather(2, indices if batch == 2 else indices[:, None].expand(b, c, n))

    check(run("gather", x=x, indices=indices.int(), axis=2, batch_dims=batch), expected)


@covers("gather", "gather_along_axis", "gather_nd")
def test_negative_indices_count_from_the_end_up_to_ios16_and_are_unknown_from_ios17_on() -> None:
    """validate_indices stands only in iOS 17 files, whose documentation both takes and refuses negative indices."""
    x, last = np.arange(3, dtype=np.float32), np.array([-1], np.int32)

    for name in ("gather", "gather_along_axis", "gather_nd"):
        assert run(name, x=x, indices=last) == 2
        assert run(name, x=x, indices=last + 2, validate_indices=False) == 1
        with pytest.raises(UnknownFormError):
            run(name, x=x, indices=last, validate_indices=False)


@covers("gather_nd")
def test_gathering_points_with_batch_dims_is_unknown() -> None:
    with pytest.raises(UnknownFormError):
        run("gather_nd", x=np.zeros((2, 3), np.float32), indices=np.zeros((2, 1), np.int32), batch_dims=1)


@covers("slice_by_index")
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.data(), seeds)
@settings(max_examples=60, deadline=None)
def test_slices_by_index_are_numpys(shape: list[int], data: st.DataObject, seed: int) -> None:
    """Strides of both signs, positions that count from the end, every mask."""
    x, rank = normal(seed, *shape).numpy(), len(shape)
    begin = [data.draw(st.integers(-side, side - 1)) for side in shape]
    end = [data.draw(st.integers(-side, side)) for side in shape]
    stride = [data.draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in shape]
    masks = {key: [data.draw(st.booleans()) for _ in shape] for key in ("begin_mask", "end_mask")}
    squeezed = [data.draw(st.sampled_from([False, False, True])) for _ in shape]

    index: list[object] = []
    for axis in range(rank):
        first, last = (None if masks[f"{name}_mask"][axis] else v[axis] for name, v in (("begin", begin), ("end", end)))
        index.append((first or 0) if squeezed[axis] else slice(first, last, stride[axis]))
    expected = x[tuple(index)]

    found = run("slice_by_index", x=x, begin=begin, end=end, stride=stride, squeeze_mask=squeezed, **masks)

    np.testing.assert_array_equal(found, expected)
    assert np.shape(found) == np.shape(expected)


@covers("slice_by_size")
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.data(), seeds)
@quick
def test_slices_by_size_are_torchs_narrow(shape: list[int], data: st.DataObject, seed: int) -> None:
    x = normal(seed, *shape)
    begin = [data.draw(st.integers(0, side - 1)) for side in shape]
    size = [data.draw(st.integers(1, side - b)) for side, b in zip(shape, begin, strict=True)]
    expected = x
    for axis, (start, length) in enumerate(zip(begin, size, strict=True)):
        expected = expected.narrow(axis, start, length)
    rest = [-1 if b + s == side else s for b, s, side in zip(begin, size, shape, strict=True)]

    check(run("slice_by_size", x=x, begin=begin, size=size), expected)
    check(run("slice_by_size", x=x, begin=[b - s for b, s in zip(begin, shape, strict=True)], size=rest), expected)


@covers("concat", "stack", "split")
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data(), st.integers(1, 4), seeds)
@settings(max_examples=25, deadline=None)
def test_joining_and_splitting_are_torchs(shape: list[int], data: st.DataObject, count: int, seed: int) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = [normal(seed + i, *shape) for i in range(count)]
    values = [part.numpy() for part in parts]
    together = torch.cat(parts, axis)
    sizes = [shape[axis] * 2, *[shape[axis]] * (count - 2)] if count > 1 else [shape[axis]]

    check(run("concat", values=values, axis=axis), together)
    check(run("stack", values=values, axis=axis), torch.stack(parts, axis))
    interleaved_ = run("concat", values=values, axis=axis, interleave=True)
    for place, part in enumerate(parts):
        along = (slice(None),) * (axis % len(shape)) + (slice(place, None, count),)
        check(interleaved_[along], part)
    for found, part in zip(run("split", x=together, axis=axis, num_splits=count), parts, strict=True):
        check(found, part)
    for found, part in zip(
        run("split", x=together, axis=axis, split_sizes=sizes), together.split(sizes, axis), strict=True
    ):
        check(found, part)


@covers("concat")
def test_scalars_are_joined_to_a_vector() -> None:
    assert run("concat", values=[np.int32(2), np.int32(3)], axis=0).tolist() == [2, 3]


@covers("pad")
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
@given(st.data(), seeds)
@quick
def test_pad_is_torchs(mode: str, data: st.DataObject, seed: int) -> None:
    """torch takes one to three axes in the modes other than constant, and the last axis first."""
    count = data.draw(st.integers(1, 3))
    shape = [data.draw(st.integers(2, 5)) for _ in range(count)]
    pads = [(data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))) for side in shape]
    x = normal(seed, 1, 2, *shape)

    expected = F.pad(x, torch_order(pads), mode=mode, **({"value": 1.5} if mode == "constant" else {}))
    found = run("pad", x=x, pad=interleaved(pads), mode=mode, constant_val=np.float32(1.5))

    check(found, expected)


@covers("pad")
def test_pads_wider_than_the_documented_limit_are_refused() -> None:
    x = np.zeros((1, 3), np.float32)

    with pytest.raises(DamagedFileError):
        run("pad", x=x, pad=[3, 0], mode="reflect")
    with pytest.raises(DamagedFileError):
        run("pad", x=x, pad=[4, 0], mode="replicate")
    assert run("pad", x=x, pad=[2, 0], mode="reflect").shape == run("pad", x=x, pad=[0, 2], mode="reflect").shape


@covers("cumsum")
@given(st.lists(sides, min_size=1, max_size=3), st.data(), st.booleans(), st.booleans(), seeds)
@settings(max_examples=25, deadline=None)
def test_cumsum_is_torchs_on_a_shifted_or_reversed_axis(
    shape: list[int], data: st.DataObject, exclusive: bool, reverse: bool, seed: int
) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    x = normal(seed, *shape)
    terms = x.flip(axis) if reverse else x
    if exclusive:
        terms = torch.cat([torch.zeros_like(terms.narrow(axis, 0, 1)), terms.narrow(axis, 0, shape[axis] - 1)], axis)
    expected = terms.cumsum(axis)

    found = run("cumsum", x=x, axis=axis, exclusive=exclusive, reverse=reverse)

    check(found, expected.flip(axis) if reverse else expected)


@covers("cumsum")
def test_an_exclusive_cumsum_does_not_see_its_own_element() -> None:
    x = np.array([1.0, 1e20, np.inf], np.float32)

    np.testing.assert_allclose(run("cumsum", x=x, exclusive=True), [0.0, 1.0, 1e20])


@covers("one_hot")
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 6), st.data(), seeds)
@quick
def test_one_hot_is_torchs_with_the_axis_moved(shape: list[int], size: int, data: st.DataObject, seed: int) -> None:
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    indices = torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))

    expected = F.one_hot(indices, size).movedim(-1, axis).int()
    found = run("one_hot", indices=indices.int(), one_hot_vector_size=size, axis=axis)
    valued = run(
        "one_hot",
        indices=indices.int(),
        one_hot_vector_size=size,
        axis=axis,
        on_value=np.float32(2),
        off_value=np.float32(-1),
    )

    check(found, expected)
    check(valued, expected.float() * 3 - 1)


@covers("reshape")
def test_reshape_copies_a_zero_from_the_right_and_infers_minus_one() -> None:
    """(2, 50) to [1, 0, -1, 0] is (1, 1, 2, 50) (iOS17/tensor_transformation.py); with as many sides as x has it is the
    side of the same place, as before iOS 17."""
    x = normal(0, 2, 50).numpy()

    assert run("reshape", x=x, shape=[1, 0, -1, 0]).shape == (1, 1, 2, 50)
    assert run("reshape", x=x, shape=[0, -1]).shape == (2, 50)


@covers("reshape", "transpose", "expand_dims", "squeeze", "reverse", "tile", "flatten2d", "shape", "fill", "fill_like")
@given(st.lists(sides, min_size=1, max_size=4), st.data(), seeds)
@settings(max_examples=25, deadline=None)
def test_rearrangements_are_torchs(shape: list[int], data: st.DataObject, seed: int) -> None:
    x, rank = normal(seed, *shape), len(shape)
    order = data.draw(st.permutations(range(rank)))
    axes = sorted(data.draw(st.sets(st.integers(0, rank - 1), min_size=1)))
    counts = [data.draw(st.integers(1, 3)) for _ in shape]
    one = data.draw(st.integers(0, rank))
    cut = data.draw(st.integers(1, rank))

    check(run("reshape", x=x, shape=[-1, *shape[1:]]), x)
    check(run("transpose", x=x, perm=order), x.permute(*order))
    check(run("expand_dims", x=x, axes=[one]), x.unsqueeze(one))
    check(run("expand_dims", x=x, axes=[one - rank - 1]), x.unsqueeze(one - rank - 1))
    check(run("squeeze", x=x.unsqueeze(one), axes=[one]), x)
    check(run("squeeze", x=x), x.squeeze())
    check(run("reverse", x=x, axes=axes), x.flip(axes))
    check(run("reverse", x=x), x.flip(list(range(rank))))
    check(run("tile", x=x, reps=counts), x.repeat(*counts))
    check(run("flatten2d", x=x, axis=cut), x.reshape(math.prod(shape[:cut]), -1))
    assert run("shape", x=x).tolist() == shape
    check(run("fill", shape=shape, value=np.float32(2)), torch.full(shape, 2.0))
    check(run("fill_like", ref_tensor=x, value=np.int32(2)), torch.full(shape, 2, dtype=torch.int32))


@covers("squeeze")
def test_squeeze_leaves_axes_that_are_not_one() -> None:
    """As PyTorch: of (2, 3, 4) the axes [0, 1] leave (2, 3, 4) (iOS15/tensor_transformation.py)."""
    assert run("squeeze", x=np.zeros((2, 3, 4), np.float32), axes=[0, 1]).shape == (2, 3, 4)
    assert run("squeeze", x=np.zeros((1, 3, 1), np.float32), axes=[0, 1]).shape == (3, 1)


@covers("reshape_like")
def test_reshape_like_joins_parts_of_the_references_shapes() -> None:
    """The documented example: [0:2] of (2, 3, 4) and [1:] of (1, 5, 6) are (2, 3, 5, 6)."""
    x, references = np.zeros(180, np.float32), [np.zeros((2, 3, 4)), np.zeros((1, 5, 6))]

    found = run("reshape_like", x=x, ref_tensors=references, begins=[0, 1], ends=[2, 0], end_masks=[False, True])

    assert found.shape == (2, 3, 5, 6)


@covers("band_part")
@given(sides, sides, st.integers(-1, 4), st.integers(-1, 4), seeds)
@quick
def test_band_part_keeps_torchs_triangles(h: int, w: int, lower: int, upper: int, seed: int) -> None:
    x = normal(seed, 2, h, w)
    expected = x.clone() if upper < 0 else x.tril(upper)
    expected = expected if lower < 0 else expected.triu(-lower)

    check(run("band_part", x=x, lower=lower, upper=upper), expected)


@covers("range_1d", "non_zero")
@given(st.integers(-9, 9), st.integers(0, 20), st.integers(1, 4), seeds)
@quick
def test_ranges_and_places_are_torchs(start: int, length: int, step: int, seed: int) -> None:
    x = normal(seed, 3, 4).clamp(min=0)

    check(
        run("range_1d", start=np.int32(start), end=np.int32(start + length), step=np.int32(step)),
        torch.arange(start, start + length, step).int(),
    )
    check(run("non_zero", x=x), x.nonzero().int())


@covers("cast")
@given(seeds)
@quick
def test_cast_drops_the_fraction_and_takes_all_but_zero_for_true(seed: int) -> None:
    x = torch.cat([50 * normal(seed, 20), torch.zeros(2)])

    check(run("cast", x=x, dtype="int32"), x.int())
    check(run("cast", x=x, dtype="int16"), x.short())
    check(run("cast", x=x, dtype="int8"), x.to(torch.int8))
    check(run("cast", x=x.abs(), dtype="uint8"), x.abs().to(torch.uint8))
    check(run("cast", x=x, dtype="bool"), x.bool())
    check(run("cast", x=x.int(), dtype="fp32"), x.int().float())
    check(run("cast", x=x.bool(), dtype="fp16"), x.bool().float())


@covers("classify")
def test_classify_gives_the_label_of_the_largest_value_and_all_values() -> None:
    assert run("classify", probabilities=np.array([[0.25, 0.75]], np.float32), classes=["a", "b"]) == [
        "b",
        {"a": 0.25, "b": 0.75},
    ]


@given(st.lists(st.floats(width=32), min_size=1, max_size=100))
@settings(max_examples=150, deadline=None)
def test_rounding_to_half_is_numpys_bit_for_bit(values: list[float]) -> None:
    agree_on_halves(np.array(values, np.float32))


def test_rounding_to_half_is_numpys_around_every_half() -> None:
    """All finite halves, the midpoint to the next one, and the float32 on either side of that."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].astype(np.float32)
    with np.errstate(over="ignore"):
        up = np.nextafter(halves.astype(np.float16), np.float16(np.inf)).astype(np.float32)
    middle = np.where(np.isfinite(up), (halves.astype(np.float64) + up) / 2, 65520.0).astype(np.float32)

    for values in (halves, middle, np.nextafter(middle, np.float32(-np.inf)), np.nextafter(middle, np.float32(np.inf))):
        agree_on_halves(values)  # in which overflows decide how a whole block is rounded
        agree_on_halves(values[np.abs(values) < 65520])


def test_rounding_to_half_is_numpys_for_what_is_not_finite_or_far_below_half() -> None:
    values = [0.0, -0.0, np.inf, -np.inf, np.nan, 65519.996, 65520.0, -65520.0, 3e38, 1e-45, -1e-45, 2.0**-25, 3.0**-16]

    agree_on_halves(np.array(values, np.float32))
    for value in values:
        agree_on_halves(np.array([value], np.float32))


def test_rounding_to_half_is_numpys_over_several_blocks_and_any_strides() -> None:
    values = 100 * normal(0, 3, 200, 70).numpy()

    agree_on_halves(values)
    agree_on_halves(values.transpose(2, 0, 1)[::2, :, ::-1])
    agree_on_halves(values[0, 0, 0].reshape(()))


def agree_on_halves(values: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16).astype(np.float32)
    found = round_to_half(values)
    assert found.shape == expected.shape
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), ~numbers)
    np.testing.assert_array_equal(found[numbers].view(np.uint32), expected[numbers].view(np.uint32))
