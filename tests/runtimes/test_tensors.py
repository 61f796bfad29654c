"""8-bit images to a file's input tensor, and integer outputs to numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_deploy.runtimes.tensors import dequantized, prepare, run_in_batches
from mvit_deploy.spec import Declared, InputSpec, Interface, OutputSpec

EVERY_LEVEL = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
NOTHING = Declared("RGB", (0.0, 1.0))
UINT8 = InputSpec("image", (1, 16, 16, 3), "uint8", "NHWC", (0.0, 1.0), "RGB", float(np.float32(1 / 255)), 0)
ENDS = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-(2**15), 2**15 - 1)}
scales = st.floats(1e-4, 1e2)
numbers = st.floats(-300, 300)


@given(st.sampled_from(sorted(ENDS)), scales, st.integers(-128, 255), numbers, numbers)
def test_an_integer_input_is_within_half_a_step_of_the_pixels(
    dtype: str, scale: float, zero_point: int, low: float, high: float
) -> None:
    """Of what a float input would be; of the ends of the type where that lies beyond them."""
    declared = InputSpec("image", (1, 16, 16, 3), dtype, "NHWC", (low, high), "RGB", scale, zero_point)

    levels = prepare(EVERY_LEVEL, declared)

    bottom, top = ((end - zero_point) * scale for end in ENDS[dtype])
    wanted = np.clip(low + EVERY_LEVEL.astype(np.float64) / 255 * (high - low), bottom, top)
    float32_rounding = 1e-6 * (abs(low) + abs(high))
    assert levels.dtype == dtype
    assert np.abs((levels.astype(np.int64) - zero_point) * scale - wanted).max() <= 0.5 * scale + float32_rounding


def test_uint8_pixels_of_a_range_of_one_are_passed_as_they_are() -> None:
    assert np.array_equal(prepare(EVERY_LEVEL, UINT8), EVERY_LEVEL)


def test_the_colours_of_integers_are_ordered_as_declared() -> None:
    pixels = np.arange(16 * 16 * 3, dtype=np.int64).reshape(1, 16, 16, 3).astype(np.uint8)
    bgr = InputSpec("image", (1, 16, 16, 3), "uint8", "NHWC", (0.0, 1.0), "BGR", UINT8.scale, 0)

    assert np.array_equal(prepare(pixels, bgr), pixels[..., ::-1])


def test_an_integer_output_is_its_scale_times_the_levels_above_the_zero_point() -> None:
    declared = OutputSpec("logits", (1, 3), "int8", "logits", "", 0.5, -100)

    found = dequantized(np.array([[-128, -100, 127]], np.int8), declared)

    assert found.dtype == np.float32
    assert found.tolist() == [[-14.0, 0.0, 113.5]]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_an_output_without_a_scale_stays_as_it_is(dtype: str) -> None:
    values = np.array([[1, 2]], dtype)

    assert dequantized(values, OutputSpec("logits", (1, 2), dtype, "logits")) is values


def test_outputs_of_all_images_are_joined_and_dequantized() -> None:
    declared = Interface(
        "tflite", "", (UINT8,), (OutputSpec("logits", (1, 1), "uint8", "logits", "", 2.0, 1),), NOTHING
    )
    pixels = np.stack([np.full((16, 16, 3), level, np.uint8) for level in (3, 0, 255)])

    found = run_in_batches(pixels, declared, lambda tensor: {"logits": tensor[:, 0, 0, :1]})

    assert found["logits"].tolist() == [[4.0], [-2.0], [508.0]]
