"""Pools against torch, on shapes and attributes drawn at random."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from tests.runtimes.coreml.oracle import AVG_POOL, MAX_POOL, check, covers, normal, quick, run, seeds


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
