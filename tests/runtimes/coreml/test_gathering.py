"""Ordering, gathering, slicing, joining and padding against torch, on shapes and attributes drawn at random."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from tests.runtimes.coreml.oracle import check, covers, interleaved, normal, quick, run, seeds, sides, torch_order


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
