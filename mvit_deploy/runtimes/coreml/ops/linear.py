"""Convolutions and matrix products of MIL. Source: coremltools' conv.py, linear.py, transformers.py."""

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.arithmetic import Arithmetic
from mvit_deploy.runtimes.coreml.errors import UnknownFormError


def conv(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=1, *, math: Arithmetic):
    """Shapes: x (N, C, *spatial), weight (O, C/groups, *kernel) -> (N, O, *spatial')."""
    kernel, spatial = weight.shape[2:], x.shape[2:]
    strides, dilations = _each(strides, kernel), _each(dilations, kernel)
    return kernels.conv(
        x,
        weight,
        bias,
        strides=strides,
        pads=padding(pad_type, pad, spatial, kernel, strides, dilations),
        dilations=dilations,
        groups=int(groups),
        matmul=math.matmul if math.half else np.matmul,
    )


def conv_transpose(
    x,
    weight,
    bias=None,
    pad=None,
    output_shape=None,
    pad_type="valid",
    strides=None,
    dilations=None,
    groups=1,
    *,
    math: Arithmetic,
):
    """Shapes: x (N, C, *spatial), weight (C, O/groups, *kernel) -> (N, O, *spatial')."""
    kernel = weight.shape[2:]
    strides, dilations = _each(strides, kernel), _each(dilations, kernel)
    if pad_type not in ("valid", "custom"):
        raise UnknownFormError(f"conv_transpose with pad_type {pad_type!r}")
    pads = pairs(pad, kernel) if pad_type == "custom" else [(0, 0)] * len(kernel)
    wanted = None if output_shape is None else [int(side) for side in output_shape[2:]]
    _check_origin(x.shape[2:], wanted, kernel, strides, dilations, pads)
    return kernels.conv_transpose(
        x,
        weight,
        bias,
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=int(groups),
        output_spatial=wanted,
        matmul=math.matmul,
    )


def _check_origin(spatial, wanted, kernel, strides, dilations, pads):
    """output_shape says which of the sizes that a conv takes to x's is meant; for others nothing says what it cuts."""
    for i, side in enumerate(wanted or ()):
        reach = side + sum(pads[i]) - (kernel[i] - 1) * dilations[i] - 1
        if reach // strides[i] + 1 != spatial[i]:
            raise UnknownFormError(f"conv_transpose of {list(spatial)} with output_shape {wanted} (spatial axes)")


def linear(x, weight, bias=None, *, math: Arithmetic):
    """x @ weight.T + bias. Shapes: x (..., C), weight (O, C), bias (O,) -> (..., O)."""
    kernels.check_size((*x.shape[:-1], weight.shape[0]))
    product = math.matmul(np.atleast_2d(x), weight.T).reshape(*x.shape[:-1], weight.shape[0])
    if bias is None:
        return product
    if bias.shape not in ((), weight.shape[:1]):
        raise DamagedFileError(f"a bias of shape {bias.shape} for {weight.shape[0]} outputs")
    return product + bias


def matmul(x, y, transpose_x=False, transpose_y=False, *, math: Arithmetic):
    """Matrix product of the last two axes, the others broadcast. One axis alone is a row (x) or a column (y)."""
    if transpose_x and x.ndim > 1:
        x = np.swapaxes(x, -1, -2)
    if transpose_y and y.ndim > 1:
        y = np.swapaxes(y, -1, -2)
    rows, columns = (x[None] if x.ndim == 1 else x), (y[:, None] if y.ndim == 1 else y)
    batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    kernels.check_size((*batch, rows.shape[-2], columns.shape[-1]))
    if math.half and batch:
        rows = np.broadcast_to(rows, (*batch, *rows.shape[-2:]))
        columns = np.broadcast_to(columns, (*batch, *columns.shape[-2:]))
    result = math.matmul(rows, columns)
    drop = ([-2] if x.ndim == 1 else []) + ([-1] if y.ndim == 1 else [])
    return result.squeeze(tuple(drop)) if drop else result


def einsum(values, equation):
    """The product of matrices on axes -1 and -3 that MIL documents, and its other spellings."""
    if len(values) != 2 or equation.replace(" ", "").count("->") != 1:
        raise UnknownFormError(f"einsum {equation!r} of {len(values)} tensors")
    terms, result = equation.replace(" ", "").split("->")
    sides = dict(zip(terms.replace(",", ""), [*values[0].shape, *values[1].shape], strict=True))
    kernels.check_size([sides[letter] for letter in result])
    return np.einsum(equation, *values, optimize=True).astype(np.float32)


def scaled_dot_product_attention(query, key, value, attn_mask=None, *, math: Arithmetic):
    """softmax(query @ key.T / sqrt(E) + mask) @ value. A mask of booleans says which elements take part.

    Shapes: query (..., L, E), key (..., S, E), value (..., S, EV) -> (..., L, EV).
    """
    scores = math.matmul(query, np.swapaxes(key, -1, -2)) / np.float32(np.sqrt(query.shape[-1]))
    if attn_mask is not None and attn_mask.dtype == bool:
        scores = np.where(attn_mask, scores, np.float32(-np.inf))
    elif attn_mask is not None:
        scores = scores + attn_mask
    powers = math.step(np.exp(math.step(scores - scores.max(axis=-1, keepdims=True))))
    return math.matmul(math.step(powers / math.sum(powers, (-1,))), value)


def padding(pad_type, pad, spatial, kernel, strides, dilations):
    """(before, after) for each spatial axis from MIL's pad_type and pad."""
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        return pairs(pad, kernel)
    if pad_type in ("same", "same_lower"):
        sides = zip(spatial, kernel, strides, dilations, strict=True)
        return [kernels.same_padding(*side, lower=pad_type == "same_lower") for side in sides]
    raise UnknownFormError(f"pad_type {pad_type!r}")


def pairs(pad, kernel):
    """[before, after, before, after, …] as pairs, one for each axis."""
    if pad is None or len(pad) != 2 * len(kernel):
        raise DamagedFileError(f"pad {None if pad is None else list(pad)} for {len(kernel)} axes")
    return [(int(pad[2 * axis]), int(pad[2 * axis + 1])) for axis in range(len(kernel))]


def _each(values, kernel):
    """One value for each spatial axis, 1 by default."""
    return [1] * len(kernel) if values is None else [int(value) for value in values]
