"""Layers of the classic format that move or select elements. Source: NeuralNetwork.proto.

Each function takes the Layer and its inputs and returns the output, or a tuple of outputs. Where the documentation
says channel, height and width of any rank, those are the axes -3, -2 and -1.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.errors import UnknownFormError
from mvit_deploy.runtimes.coreml.kernels import check_size, pad
from mvit_deploy.runtimes.coreml.network_weights import Layer, need_rank, pair

_PAD_MODES = {"constant": "constant", "reflection": "reflect", "replication": "edge"}
_SLICE_AXES = {"CHANNEL_AXIS": -3, "HEIGHT_AXIS": -2, "WIDTH_AXIS": -1}
Function = Callable[..., np.ndarray | tuple[np.ndarray, ...]]


def reshape_static(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ReshapeStaticLayerParams: row-major into targetShape, in which -1 is worked out."""
    target = list(layer.params.targetShape)
    if 0 in target:
        raise UnknownFormError(f"targetShape {target}")
    return _reshape(x, target)


def rank_preserving_reshape(layer: Layer, x: np.ndarray) -> np.ndarray:
    """RankPreservingReshapeLayerParams: as reshapeStatic, and 0 keeps the input's side."""
    target = list(layer.params.targetShape)
    if len(target) != x.ndim:
        raise DamagedFileError(f"targetShape {target} for an input of shape {x.shape}")
    return _reshape(x, [old if new == 0 else new for old, new in zip(x.shape, target, strict=True)])


def _reshape(x: np.ndarray, target: Sequence[int]) -> np.ndarray:
    if not target or min(target) < -1:
        raise DamagedFileError(f"targetShape {list(target)}")
    return x.reshape(target)


def flatten(layer: Layer, x: np.ndarray) -> np.ndarray:
    """FlattenLayerParams. Shapes: (..., C, H, W) -> (..., C*H*W, 1, 1)."""
    need_rank(x, 3)
    if layer.mode("mode") == "CHANNEL_LAST":
        x = np.moveaxis(x, -3, -1)
    return x.reshape(*x.shape[:-3], -1, 1, 1)


def flatten_to_2d(layer: Layer, x: np.ndarray) -> np.ndarray:
    """FlattenTo2DLayerParams: the axes before `axis` become the first, the others the second."""
    axis = layer.params.axis
    if not -x.ndim <= axis <= x.ndim:
        raise DamagedFileError(f"axis {axis} of an input of shape {x.shape}")
    split = axis % x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))


def squeeze(layer: Layer, x: np.ndarray) -> np.ndarray:
    """SqueezeLayerParams. What would have no axis left has the shape (1,)."""
    result = x.squeeze() if layer.params.squeezeAll else x.squeeze(axis=tuple(layer.params.axes))
    return result.reshape(result.shape or (1,))


def expand_dims(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ExpandDimsLayerParams: axes of the output."""
    return np.expand_dims(x, tuple(layer.params.axes))


def transpose(layer: Layer, x: np.ndarray) -> np.ndarray:
    """TransposeLayerParams."""
    return np.ascontiguousarray(x.transpose(tuple(layer.params.axes)))


def permute(layer: Layer, x: np.ndarray) -> np.ndarray:
    """PermuteLayerParams: of [Seq, B, C, H, W] all but B, in the order that `axis` gives."""
    order = list(layer.params.axis) or [0, 1, 2, 3]
    if x.ndim != 5 or sorted(order) != [0, 1, 2, 3]:
        raise DamagedFileError(f"order {order} for an input of shape {x.shape}")
    first, *rest = [(0, 2, 3, 4)[axis] for axis in order]
    return np.ascontiguousarray(x.transpose(first, 1, *rest))


def concat(layer: Layer, *inputs: np.ndarray) -> np.ndarray:
    """ConcatLayerParams: along the channels, or along the sequence, axis -5."""
    return _concatenate(inputs, -5 if layer.params.sequenceConcat else -3)


def concat_nd(layer: Layer, *inputs: np.ndarray) -> np.ndarray:
    """ConcatNDLayerParams."""
    if layer.params.interleave:
        raise UnknownFormError("interleave")
    return _concatenate(inputs, layer.params.axis)


def _concatenate(inputs: Sequence[np.ndarray], axis: int) -> np.ndarray:
    check_size([sum(x.size for x in inputs)])
    return np.concatenate(inputs, axis=axis)


def stack(layer: Layer, *inputs: np.ndarray) -> np.ndarray:
    """StackLayerParams: a new axis."""
    check_size([sum(x.size for x in inputs)])
    return np.stack(inputs, axis=layer.params.axis)


def split(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """SplitLayerParams: equal parts of the channels."""
    need_rank(x, 3)
    return tuple(np.split(x, _parts(layer, layer.params.nOutputs), axis=-3))


def split_nd(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """SplitNDLayerParams: parts of splitSizes, or numSplits equal ones."""
    p, sizes = layer.params, list(layer.params.splitSizes)
    if not sizes:
        return tuple(np.split(x, _parts(layer, p.numSplits), axis=p.axis))
    if sum(sizes) != x.shape[p.axis] or len(sizes) != p.numSplits:
        raise DamagedFileError(f"{p.numSplits} parts of {sizes} of an input of shape {x.shape}, axis {p.axis}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=p.axis))


def _parts(layer: Layer, number: int) -> int:
    if number != layer.output_count:
        raise DamagedFileError(f"{number} parts for {layer.output_count} outputs")
    return number


def slice_(layer: Layer, x: np.ndarray) -> np.ndarray:
    """SliceLayerParams: [startIndex, endIndex) with a positive stride, along one of the last three axes."""
    p, axis = layer.params, _SLICE_AXES[layer.mode("axis")]
    need_rank(x, -axis)
    if p.stride < 1:
        raise DamagedFileError(f"stride {p.stride}")
    return x[(..., slice(p.startIndex, p.endIndex, p.stride), *[slice(None)] * (-axis - 1))]


def slice_static(layer: Layer, x: np.ndarray) -> np.ndarray:
    """SliceStaticLayerParams: numpy's slices; a mask leaves an end open, a squeezed axis is taken at its begin."""
    p = layer.params
    squeezed = list(p.squeezeMasks) or [False] * x.ndim  # files from before iOS 14 do not have them
    fields = (p.beginIds, p.endIds, p.strides, p.beginMasks, p.endMasks, squeezed)
    if any(len(field) != x.ndim for field in fields):
        raise DamagedFileError(f"begins, ends, strides or masks of another length than the shape {x.shape}")
    result = x[tuple(_index(*each) for each in zip(*fields, strict=True))]
    return result.reshape(result.shape or (1,))


def _index(begin: int, end: int, stride: int, open_begin: bool, open_end: bool, squeezed: bool) -> slice | int:
    if not squeezed:
        return slice(None if open_begin else begin, None if open_end else end, stride)
    if open_begin:
        raise UnknownFormError("a squeezed axis with an open begin")
    return begin


def tile(layer: Layer, x: np.ndarray, reps: np.ndarray | None = None) -> np.ndarray:
    """TileLayerParams: repeated reps[i] times along axis i."""
    if reps is not None:
        raise UnknownFormError("reps as an input")
    times = list(layer.params.reps)
    if len(times) != x.ndim:
        raise DamagedFileError(f"reps {times} for an input of shape {x.shape}")
    check_size([side * repeat for side, repeat in zip(x.shape, times, strict=True)])
    return np.tile(x, times)


def broadcast_to_static(layer: Layer, x: np.ndarray) -> np.ndarray:
    """BroadcastToStaticLayerParams."""
    check_size(layer.params.targetShape)
    return np.ascontiguousarray(np.broadcast_to(x, tuple(layer.params.targetShape)))


def gather(layer: Layer, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """GatherLayerParams: slices of x along an axis; indices may be negative."""
    axis = layer.params.axis
    check_size([x.size // x.shape[axis], indices.size])
    return np.take(x, indices.astype(np.int64), axis=axis)


def padding(layer: Layer, x: np.ndarray) -> np.ndarray:
    """PaddingLayerParams: around height and width, with a value, or mirrored or repeated at the border."""
    need_rank(x, 3)
    kind = layer.params.WhichOneof("PaddingType")
    if kind not in _PAD_MODES:
        raise UnknownFormError(f"padding type {kind}")
    amounts = borders(layer.params.paddingAmounts)
    if kind == "reflection" and any(max(a) >= side for a, side in zip(amounts, x.shape[-2:], strict=True)):
        raise UnknownFormError(f"reflection of {amounts} around an input of shape {x.shape}")
    return pad(x, amounts, mode=_PAD_MODES[kind], value=layer.params.constant.value)


def borders(amounts: object) -> list[tuple[int, int]]:
    """BorderAmounts as (start, end) for height and width. Raises: DamagedFileError."""
    edges = [(edge.startEdgeSize, edge.endEdgeSize) for edge in amounts.borderAmounts]
    if len(edges) != 2:
        raise DamagedFileError(f"{len(edges)} border amounts for height and width")
    return edges


def constant_pad(layer: Layer, x: np.ndarray, amounts: np.ndarray | None = None) -> np.ndarray:
    """ConstantPaddingLayerParams: (before, after) for every axis."""
    p = layer.params
    if amounts is not None or p.padToGivenOutputSizeMode:
        raise UnknownFormError("amounts as an input" if amounts is not None else "padToGivenOutputSizeMode")
    if len(p.padAmounts) != 2 * x.ndim:
        raise DamagedFileError(f"{len(p.padAmounts)} padding amounts for an input of shape {x.shape}")
    return pad(x, list(zip(p.padAmounts[::2], p.padAmounts[1::2], strict=True)), value=p.value)


def crop(layer: Layer, x: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """CropLayerParams: by cropAmounts; with a second input, to its height and width from `offset` on."""
    need_rank(x, 3)
    if like is None:
        begins, ends = zip(*borders(layer.params.cropAmounts), strict=True)
        stops = [side - end for side, end in zip(x.shape[-2:], ends, strict=True)]
    else:
        need_rank(like, 3)
        begins = pair(layer.params.offset, 0)
        stops = [begin + side for begin, side in zip(begins, like.shape[-2:], strict=True)]
    if any(not begin < stop <= side for begin, stop, side in zip(begins, stops, x.shape[-2:], strict=True)):
        raise DamagedFileError(f"an input of shape {x.shape} has no rows and columns {begins} to {tuple(stops)}")
    return x[..., begins[0] : stops[0], begins[1] : stops[1]]


SHAPES: dict[str, Function] = {
    "reshapeStatic": reshape_static,
    "rankPreservingReshape": rank_preserving_reshape,
    "flatten": flatten,
    "flattenTo2D": flatten_to_2d,
    "squeeze": squeeze,
    "expandDims": expand_dims,
    "transpose": transpose,
    "permute": permute,
    "concat": concat,
    "concatND": concat_nd,
    "stack": stack,
    "split": split,
    "splitND": split_nd,
    "slice": slice_,
    "sliceStatic": slice_static,
    "tile": tile,
    "broadcastToStatic": broadcast_to_static,
    "gather": gather,
    "padding": padding,
    "constantPad": constant_pad,
    "crop": crop,
}
