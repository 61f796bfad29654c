"""Resizing and rearranging of maps against torch, on shapes and attributes drawn at random."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.ops.spatial import grid
from tests.runtimes.coreml.oracle import check, covers, normal, quick, run, seeds, sides

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
