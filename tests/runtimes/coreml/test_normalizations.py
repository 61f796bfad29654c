"""Normalizations against torch, on shapes and attributes drawn at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from tests.runtimes.coreml.oracle import check, covers, normal, quick, run, seeds, sides


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
