"""What an evaluator computes in. Values are held in float32 always; an Arithmetic says how results are rounded.

fp32    what the graph and its weights mean: nothing is rounded beyond float32
typed   each operation computes in float32, its result is rounded to the type that the program declares
half    pessimistic: the steps inside an operation are rounded to float16 too, and sums are kept in float16
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MODES = ("fp32", "typed", "half")
HALF_MAX = 65504.0  # the largest finite float16
HALF_SMALLEST_NORMAL = 2.0**-14
HALF_STEP = 2.0**-24  # between subnormal float16 numbers
HALF_CHUNK = 64  # terms that half adds in float32 before it rounds the running sum

_BLOCK = 1 << 14  # elements rounded at a time, so that every step finds them in the cache
_OVERFLOWS = 65520.0  # halfway between the largest float16 and the next power: from here on infinity
_EXPONENT = np.uint32(0x7F800000)
_SIGN = np.uint32(0x80000000)
_ALIGN = np.float32(1.5 * 2**13)


def round_to_half(x: np.ndarray) -> np.ndarray:
    """float32 values rounded to the nearest float16, ties to even, overflowing to infinity; still held in float32.

    Equal to x.astype(float16).astype(float32), bit for bit, in half of the time: adding and taking away
    1.5 * 2**(e + 13), where 2**e is the value's power (at least float16's smallest), leaves float16's bits.
    """
    flat = np.ascontiguousarray(x, dtype=np.float32).reshape(-1)
    result = np.empty_like(flat)
    scratch = np.empty(min(_BLOCK, flat.size), np.float32)
    for start in range(0, flat.size, _BLOCK):
        part = flat[start : start + _BLOCK]
        _round_block(part, result[start : start + _BLOCK], scratch[: part.size])
    return result.reshape(x.shape)


def _round_block(x: np.ndarray, result: np.ndarray, magic: np.ndarray) -> None:
    if not (x.max() < _OVERFLOWS and x.min() > -_OVERFLOWS):  # also for NaN
        with np.errstate(over="ignore", invalid="ignore"):
            result[:] = x.astype(np.float16)
        return
    np.bitwise_and(x.view(np.uint32), _EXPONENT, out=magic.view(np.uint32))
    np.maximum(magic, np.float32(HALF_SMALLEST_NORMAL), out=magic)
    np.multiply(magic, _ALIGN, out=magic)
    np.add(x, magic, out=result)
    np.subtract(result, magic, out=result)
    np.bitwise_and(x.view(np.uint32), _SIGN, out=magic.view(np.uint32))
    np.bitwise_or(result.view(np.uint32), magic.view(np.uint32), out=result.view(np.uint32))  # -0 stays


@dataclass(frozen=True)
class Arithmetic:
    """The steps that an operation is made of. half rounds each of them; otherwise they are float32's."""

    half: bool = False

    def step(self, x: np.ndarray) -> np.ndarray:
        """A value between two steps of an operation."""
        return round_to_half(x) if self.half else x

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Shapes: (..., n, k), (..., k, m) -> (..., n, m)."""
        if not self.half:
            return np.matmul(a, b)
        total = np.float32(0)
        for start in range(0, a.shape[-1], HALF_CHUNK):
            part = slice(start, start + HALF_CHUNK)
            total = round_to_half(total + np.matmul(a[..., part], b[..., part, :]))
        return total

    def sum(self, x: np.ndarray, axes: Sequence[int], *, keep_dims: bool = True) -> np.ndarray:
        """The sum along axes."""
        axes = tuple(axis % x.ndim for axis in axes)
        if not self.half:
            return x.sum(axis=axes, keepdims=keep_dims, dtype=x.dtype)
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        terms = x.transpose(*kept, *axes).reshape(*(x.shape[axis] for axis in kept), -1)
        total = np.zeros(terms.shape[:-1], np.float32)
        for start in range(0, terms.shape[-1], HALF_CHUNK):
            total = round_to_half(total + terms[..., start : start + HALF_CHUNK].sum(axis=-1))
        return np.expand_dims(total, axes) if keep_dims else total

    def mean(self, x: np.ndarray, axes: Sequence[int], *, keep_dims: bool = True) -> np.ndarray:
        """The mean along axes."""
        count = int(np.prod([x.shape[axis] for axis in axes]))
        return self.step(self.sum(x, axes, keep_dims=keep_dims) / np.float32(count))


FLOAT32 = Arithmetic()
HALF = Arithmetic(half=True)
