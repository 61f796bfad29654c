"""Rounding to half precision against torch, on shapes and attributes drawn at random."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_deploy.runtimes.coreml.arithmetic import round_to_half
from tests.runtimes.coreml.oracle import (
    normal,
)


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
