"""Shapes and values made against torch, on shapes and attributes drawn at random."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.runtimes.coreml.oracle import (
    check,
    covers,
    normal,
    quick,
    run,
    seeds,
    sides,
)


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
