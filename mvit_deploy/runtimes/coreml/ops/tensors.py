"""Operations of MIL that move, select or make values. Source: coremltools' tensor_transformation.py,
tensor_operation.py, scatter_gather.py, classify.py."""

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.blob import NUMPY_TYPES
from mvit_deploy.runtimes.coreml.errors import UnknownFormError


def cast(x, dtype):
    """Floats lose their fraction on the way to integers; whatever is not 0 is true."""
    if dtype == "string" or dtype not in NUMPY_TYPES:
        raise UnknownFormError(f"cast to {dtype!r}")
    return x.astype(np.float32 if dtype.startswith("fp") else NUMPY_TYPES[dtype])


def shape(x):
    return np.array(x.shape, dtype=np.int32)


def reshape(x, shape):
    """A side of 0 is copied from x, counted from the last axis, and 1 where x has none; one of -1 takes what is left.

    Up to iOS 16 a 0 needs a shape of x's rank, for which this is the side of the same place.
    """
    sides = [int(side) for side in shape]
    given = [1] * max(0, len(sides) - x.ndim) + list(x.shape[max(0, x.ndim - len(sides)) :])
    return x.reshape([kept if side == 0 else side for kept, side in zip(given, sides, strict=True)])


def reshape_like(x, ref_tensors, begins, ends, end_masks):
    """The sides begin:end of each reference tensor, one after the other, are the new shape."""
    sides = [
        side
        for tensor, begin, end, masked in zip(ref_tensors, begins, ends, end_masks, strict=True)
        for side in tensor.shape[int(begin) : None if masked else int(end)]
    ]
    return x.reshape(sides)


def transpose(x, perm):
    return np.ascontiguousarray(x.transpose([int(axis) for axis in perm]))


def expand_dims(x, axes):
    return np.expand_dims(x, tuple(int(axis) for axis in axes))


def squeeze(x, axes=None):
    """As PyTorch's: sides other than 1 stay."""
    return np.squeeze(x, axis=None if axes is None else tuple(int(axis) for axis in axes if x.shape[int(axis)] == 1))


def flatten2d(x, axis=1):
    axis = int(axis) + (x.ndim if axis < 0 else 0)
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


def reverse(x, axes=None):
    return np.flip(x, axis=None if axes is None else tuple(int(axis) for axis in axes))


def slice_by_index(x, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    """x[begin:end:stride]; a mask ignores begin or end, or takes the one element at begin and drops the axis."""
    index = []
    for axis in range(x.ndim):
        if squeeze_mask is not None and squeeze_mask[axis]:
            index.append(0 if begin_mask is not None and begin_mask[axis] else int(begin[axis]))
            continue
        first = None if begin_mask is not None and begin_mask[axis] else int(begin[axis])
        last = None if end_mask is not None and end_mask[axis] else int(end[axis])
        index.append(slice(first, last, None if stride is None else int(stride[axis])))
    return x[tuple(index)]


def slice_by_size(x, begin, size):
    """x[begin:begin + size]; a size of -1 takes all the rest."""
    starts = [int(b) + (side if b < 0 else 0) for b, side in zip(begin, x.shape, strict=True)]
    return x[tuple(slice(b, None if s == -1 else b + int(s)) for b, s in zip(starts, size, strict=True))]


def split(x, axis, num_splits=None, split_sizes=None):
    if split_sizes is None:
        return np.split(x, int(num_splits), axis=int(axis))
    sizes = [int(size) for size in split_sizes]
    if sum(sizes) != x.shape[int(axis)] or min(sizes) < 0:
        raise DamagedFileError(f"split of {x.shape} into {sizes}")
    return np.split(x, np.cumsum(sizes)[:-1], axis=int(axis))


def concat(values, axis, interleave=False):
    if not interleave:
        return np.concatenate([np.atleast_1d(value) for value in values], axis=int(axis))
    axis = int(axis) + (values[0].ndim if axis < 0 else 0)
    sides = list(values[0].shape)
    sides[axis] *= len(values)
    return np.stack(values, axis=axis + 1).reshape(sides)


def stack(values, axis):
    return np.stack(values, axis=int(axis))


def tile(x, reps):
    kernels.check_size([side * int(count) for side, count in zip(x.shape, reps, strict=True)])
    return np.tile(x, [int(count) for count in reps])


def pad(x, pad, mode="constant", constant_val=np.float32(0)):
    """pad: before and after for each of the last axes."""
    count = len(pad) // 2
    pairs = [(int(pad[2 * axis]), int(pad[2 * axis + 1])) for axis in range(count)]
    known = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if mode not in known:
        raise UnknownFormError(f"pad with mode {mode!r}")
    limits = {"reflect": -1, "replicate": 0}
    for side, pair in zip(x.shape[x.ndim - count :], pairs, strict=True):
        if mode in limits and max(pair) > side + limits[mode]:
            raise DamagedFileError(f"pad by {pair} in mode {mode} of a side of {side}")
    return kernels.pad(x, pairs, mode=known[mode], value=float(constant_val))


def fill(shape, value=np.float32(0)):
    kernels.check_size(shape)
    return np.full([int(side) for side in shape], value)


def fill_like(ref_tensor, value=np.float32(0)):
    return np.full(ref_tensor.shape, value)


def range_1d(end, start, step):
    kernels.check_size([max(0, int((end - start) / step))])
    return np.arange(start, end, step, dtype=np.asarray(start).dtype)


def one_hot(indices, one_hot_vector_size, axis=-1, on_value=np.int32(1), off_value=np.int32(0)):
    size = int(one_hot_vector_size)
    kernels.check_size((*indices.shape, size))
    rows = np.where(np.arange(size) == indices[..., None], on_value, off_value)
    return np.moveaxis(rows, -1, int(axis))


def band_part(x, lower=-1, upper=-1):
    """Zeros outside a band around the diagonal of the last two axes; a negative width keeps the whole triangle."""
    row, column = np.indices(x.shape[-2:])
    inside = ((lower < 0) | (row - column <= lower)) & ((upper < 0) | (column - row <= upper))
    return np.where(inside, x, np.zeros_like(x))


def cumsum(x, axis=0, exclusive=False, reverse=False):
    x = np.flip(x, int(axis)) if reverse else x
    total = np.cumsum(x, axis=int(axis), dtype=x.dtype)
    if exclusive:
        first = np.zeros_like(np.take(x, [0], axis=int(axis)))
        total = np.concatenate([first, np.take(total, range(x.shape[int(axis)] - 1), axis=int(axis))], axis=int(axis))
    return np.flip(total, int(axis)) if reverse else total


def non_zero(x):
    return np.argwhere(x).astype(np.int32)


def gather(x, indices, axis=0, batch_dims=0, validate_indices=None):
    """x's slices along an axis, at indices; the first batch_dims axes of both go together."""
    _check_indices(indices, validate_indices)
    axis, batch = int(axis) % x.ndim, int(batch_dims)
    kernels.check_size((*x.shape[:axis], *np.shape(indices)[batch:], *x.shape[axis + 1 :]))
    if batch == 0:
        return np.take(x, indices, axis=axis)
    lead = x.shape[:batch]
    rows = [np.take(x[index], indices[index], axis=axis - batch) for index in np.ndindex(*lead)]
    return np.stack(rows).reshape(*lead, *rows[0].shape)


def gather_along_axis(x, indices, axis=0, validate_indices=None):
    _check_indices(indices, validate_indices)
    return np.take_along_axis(x, indices.astype(np.int64), axis=int(axis))


def gather_nd(x, indices, batch_dims=0, validate_indices=None):
    """x[indices[..., 0], indices[..., 1], …]"""
    _check_indices(indices, validate_indices)
    if int(batch_dims):
        raise UnknownFormError("gather_nd with batch_dims")
    return x[tuple(np.moveaxis(indices, -1, 0))]


def argsort(x, axis=-1, ascending=False):
    """The order of the values; equal ones keep theirs."""
    return _order(x, int(axis), bool(ascending)).astype(np.int32)


def topk(x, k=1, axis=-1, ascending=False, sort=True, return_indices=True, output_indices_dtype="int32"):
    """The k largest (smallest) values, sorted, and where they were; the first of equal ones wins."""
    axis = int(axis)
    count = x.shape[axis] if int(k) == -1 else int(k)
    if not 0 <= count <= x.shape[axis]:
        raise DamagedFileError(f"the best {count} of {x.shape[axis]}")
    order = np.take(_order(x, axis, bool(ascending)), range(count), axis=axis)
    values = np.take_along_axis(x, order, axis=axis)
    return [values, order.astype(output_indices_dtype)] if return_indices else values


def classify(probabilities, classes):
    """The label of the largest value, and each label's value. They are not normalised."""
    if len(classes) != probabilities.size:
        raise DamagedFileError(f"{len(classes)} labels for {probabilities.size} probabilities")
    values = probabilities.ravel()
    return [classes[int(values.argmax())], dict(zip(classes, values.tolist(), strict=True))]


def _check_indices(indices: np.ndarray, validate_indices: np.ndarray | None) -> None:
    """Negative indices count from the end up to iOS 16. From iOS 17 on, whose files always hold validate_indices, they
    are both allowed and out of bounds."""
    if validate_indices is not None and np.min(indices, initial=0) < 0:
        raise UnknownFormError("negative indices of an iOS 17 gather")


def _order(x: np.ndarray, axis: int, ascending: bool) -> np.ndarray:
    if ascending:
        return np.argsort(x, axis=axis, kind="stable")
    last = x.shape[axis] - 1
    return np.flip(last - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
