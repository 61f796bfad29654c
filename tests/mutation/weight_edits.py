"""Edits of weight.bin and of the places that a program reads there.

Each takes the package, the operation and a seeded generator, changes the package and says what it changed.
"""

from collections.abc import Callable

import numpy as np

from tests.mutation.package import Operation, Package, where

GAIN = 1.1
BIAS_STEP = 0.1
_SHIFTS_BYTES = 4, 8, 16, 32, 64, -4, -64


def _heads_rows(package: Package, operation: Operation) -> tuple[int, int]:
    """Heads and rows of one head, of the qkv linear before a reshape to (-1, N, 3 heads, head rows)."""
    reshape = next(o for o in package.operations("reshape") if package.bound(o, "x") == operation.outputs[0].name)
    *_, heads, rows = package.shape(reshape.outputs[0].name)
    return heads // 3, rows


def _weight(package: Package, operation: Operation) -> str:
    return package.bound(operation, "weight")


def _is_square(package: Package, operation: Operation) -> bool:
    """As many outputs as inputs, more than one."""
    outputs, inputs = package.shape(_weight(package, operation))[:2]
    return outputs == inputs > 1


def _has_bias(package: Package, operation: Operation) -> bool:
    return "bias" in operation.inputs


weighted = where(["conv", "linear"])
biased = where(["conv", "linear"], _has_bias)
squares = where(["conv", "linear"], _is_square)
qkv_linears = where(["linear"], lambda p, o: _weight(p, o).endswith("qkv_weight"))
kernels_3x3 = where(["conv"], lambda p, o: p.shape(_weight(p, o))[2:] == (3, 3))


def head_linears(package: Package) -> list[str]:
    """The last linear layer."""
    return [package.operations("linear")[-1].outputs[0].name]


def twins(package: Package) -> list[str]:
    """Operations with a weight that a later one's has the shape of."""
    shapes = [package.shape(_weight(package, package.operation(name))) for name in weighted(package)]
    return [name for place, name in enumerate(weighted(package)) if shapes[place] in shapes[place + 1 :]]


def same_sized(package: Package) -> list[str]:
    """Operations whose weight has as many elements as another's."""
    sizes = [np.prod(package.shape(_weight(package, package.operation(name)))) for name in weighted(package)]
    return [name for name, size in zip(weighted(package), sizes, strict=True) if sizes.count(size) > 1]


def drop_attention_scale(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """The rows of q times sqrt(head rows): the factor before the softmax is lost."""
    heads, rows = _heads_rows(package, operation)
    for key in ("weight", "bias"):
        values = package.get(operation, key).copy()
        values[: heads * rows] *= np.sqrt(rows)
        package.put(operation, key, values)
    return f"q times sqrt({rows})"


def head_major_rows(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """Rows ordered [q k v of head 1 | q k v of head 2 …], as other frameworks keep them."""
    heads, rows = _heads_rows(package, operation)
    for key in ("weight", "bias"):
        values = package.get(operation, key)
        package.put(operation, key, values.reshape(3, heads, rows, -1).swapaxes(0, 1).reshape(values.shape))
    return "rows (3, heads, c) -> (heads, 3, c)"


def transpose_weight(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    values = package.get(operation, "weight")
    package.put(operation, "weight", values.swapaxes(0, 1))
    return f"{_weight(package, operation)} {list(values.shape)} with inputs and outputs exchanged"


def negate_one(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    values = package.get(operation, "weight").copy()
    place = np.unravel_index(draw.integers(values.size), values.shape)
    values[place] *= -1
    package.put(operation, "weight", values)
    return f"{_weight(package, operation)}{list(map(int, place))} {-values[place]:.3g} negated"


def scale_channel(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    values = package.get(operation, "weight").copy()
    channel = int(draw.integers(len(values)))
    values[channel] *= GAIN
    package.put(operation, "weight", values)
    return f"{_weight(package, operation)}[{channel}] times {GAIN}"


def zero_bias(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    values = package.get(operation, "bias")
    package.put(operation, "bias", np.zeros_like(values))
    return f"{package.bound(operation, 'bias')} of {values.size} zeroed"


def change_one_bias(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    values = package.get(operation, "bias").copy()
    place = int(draw.integers(values.size))
    values[place] += BIAS_STEP
    package.put(operation, "bias", values)
    name = package.bound(operation, "bias")
    part = f" ({'qkv'[3 * place // values.size]})" if name.endswith("qkv_bias") else ""
    return f"{name}[{place}]{part} plus {BIAS_STEP}"


def swap_weights(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """Two tensors of one shape under each other's names; the later one is drawn."""
    names = weighted(package)
    later = names[names.index(operation.outputs[0].name) + 1 :]
    shape = package.shape(_weight(package, operation))
    alike = [name for name in later if package.shape(_weight(package, package.operation(name))) == shape]
    other = package.operation(alike[draw.integers(len(alike))])
    mine, theirs = package.get(operation, "weight"), package.get(other, "weight")
    package.put(operation, "weight", theirs)
    package.put(other, "weight", mine)
    return f"{_weight(package, operation)} <-> {_weight(package, other)}"


def read_elsewhere(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """The offset of another tensor with as many elements."""
    shape, mine = package.shape(_weight(package, operation)), package.entry(operation, "weight")
    others = [package.operation(name) for name in weighted(package)]
    alike = [
        o
        for o in others
        if np.prod(package.shape(_weight(package, o))) == np.prod(shape)
        and package.entry(o, "weight").offset != mine.offset
    ]
    other = alike[draw.integers(len(alike))]
    mine.offset = package.entry(other, "weight").offset
    return f"{_weight(package, operation)} is read where {_weight(package, other)} is"


def shift_data(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """The entry points a few bytes away from where its data begin."""
    key = str(draw.choice([key for key in ("weight", "bias") if key in operation.inputs]))
    entry = package.entry(operation, key)
    by_bytes = int(draw.choice(_SHIFTS_BYTES))
    package.move_data(entry.offset, by_bytes)
    return f"{package.bound(operation, key)} is read {by_bytes:+} bytes away"


def roll_classes(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    """Every class gets its neighbour's bias, weights, or both, as with a background class too many."""
    keys = [("bias",), ("weight",), ("weight", "bias")][draw.integers(3)]
    by = int(draw.choice([-2, -1, 1, 2]))
    for key in keys:
        package.put(operation, key, np.roll(package.get(operation, key), by, axis=0))
    return f"{' and '.join(keys)} of the classes rolled by {by:+}"


def _flipped(values: np.ndarray) -> np.ndarray:
    return values[:, :, ::-1, ::-1]


def _mirrored(values: np.ndarray) -> np.ndarray:
    return values[:, :, :, ::-1]


def _transposed(values: np.ndarray) -> np.ndarray:
    return values.swapaxes(2, 3)


_TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by 180 degrees": _flipped,
    "mirrored": _mirrored,
    "with height and width exchanged": _transposed,
}


def turn_kernel(package: Package, operation: Operation, draw: np.random.Generator) -> str:
    name = str(draw.choice(sorted(_TURNS)))
    package.put(operation, "weight", _TURNS[name](package.get(operation, "weight")))
    return f"{_weight(package, operation)} {name}"
