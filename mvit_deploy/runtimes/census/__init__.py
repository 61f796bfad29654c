"""What in a shipped file really is int8: one module per target, the same verb in each.

Counted is what the runtime executes, never how the file is decorated: a convolution between DequantizeLinear and
QuantizeLinear that the runtime computes in float is float.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mvit_deploy.runtimes import module_for

INT8, INT16, DYNAMIC, WEIGHT_ONLY, FLOAT = "int8", "int16", "dynamic", "weight-only", "float"
KINDS = (INT8, INT16, DYNAMIC, WEIGHT_ONLY, FLOAT)
RUNS_IN_FLOAT = (WEIGHT_ONLY, FLOAT)


@dataclass(frozen=True)
class MacOperation:
    """A convolution or matrix product of any sort, as the runtime executes it.

    name: the layer's where the file tells it, else that of the output. macs: multiply-accumulates for one image.
    weight_bytes and weight_bits: of the constant that it multiplies by, as the file stores it, without bias, scales and
    zero points; 0 where both operands are computed.
    kind: int8, int16: integer arithmetic on activations quantized by calibrated scales; dynamic: integer arithmetic
    on activations whose scale each run finds anew; weight-only: float arithmetic, weights stored as integers; float.
    """

    name: str
    type: str
    kind: str
    macs: int
    weight_bytes: int
    weight_bits: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; known: {', '.join(KINDS)}")

    @property
    def integer(self) -> bool:
        """Whether it is int8 by the headline's rule: calibrated 8-bit activations, 8-bit arithmetic."""
        return self.kind == INT8


@dataclass(frozen=True)
class StoredWeight:
    """A constant of the network as the file stores it: elements of some bits each.

    is_integer: whether a linear rule (a scale and perhaps a zero point) makes values of integers, biases included.
    """

    name: str
    elements: int
    bits: int
    is_integer: bool

    @property
    def bytes(self) -> int:
        return math.ceil(self.elements * self.bits / 8)

    @property
    def is_int8(self) -> bool:
        return self.is_integer and self.bits == 8


@dataclass(frozen=True)
class Census:
    """The count of one file.

    basis: what was counted, with version and processor where the answer hangs on them.
    weights: the constants of two elements or more that enter the network's arithmetic, biases and affines included,
    each once; scales, zero points, palettes, shapes and indices are none.
    …_operators: how many operators of each type, other than MAC operations and conversions, give float, int8 (signed
    or not) or int16 results. conversions: how many operators turn float into integers or back in every run.
    """

    basis: str
    operations: tuple[MacOperation, ...]
    weights: tuple[StoredWeight, ...]
    float_operators: Mapping[str, int] = field(default_factory=dict)
    int8_operators: Mapping[str, int] = field(default_factory=dict)
    int16_operators: Mapping[str, int] = field(default_factory=dict)
    conversions: int = 0

    def macs_of(self, *kinds: str) -> int:
        """Multiply-accumulates of the operations of some kinds, for one image."""
        return sum(operation.macs for operation in self.operations if operation.kind in kinds)

    @property
    def macs(self) -> int:
        return self.macs_of(*KINDS)

    @property
    def int8_macs(self) -> int:
        return self.macs_of(INT8)

    @property
    def int8_macs_fraction(self) -> float:
        return _share(self.int8_macs, self.macs)

    @property
    def weight_bytes(self) -> int:
        return sum(weight.bytes for weight in self.weights)

    @property
    def int8_weight_bytes(self) -> int:
        return sum(weight.bytes for weight in self.weights if weight.is_int8)

    @property
    def weight_fraction(self) -> float:
        """Share of the weights' elements (not bytes) that the file stores as 8-bit integers with a scale.

        It says how the file is stored, int8_macs_fraction how it is run: a weight-only file has 1.0 and 0.0.
        """
        int8 = sum(weight.elements for weight in self.weights if weight.is_int8)
        return _share(int8, sum(weight.elements for weight in self.weights))

    @property
    def kept_float(self) -> tuple[MacOperation, ...]:
        """The MAC operations that run in float, whatever their weights are stored in, in the file's order."""
        return tuple(operation for operation in self.operations if operation.kind in RUNS_IN_FLOAT)

    def to_json(self) -> dict[str, object]:
        """All counts, for a report. kept_float names each operation with its share of the file's MACs."""
        return {
            "basis": self.basis,
            "macs": self.macs,
            "int8_macs": self.int8_macs,
            "int8_macs_fraction": self.int8_macs_fraction,
            "int16_macs": self.macs_of(INT16),
            "dynamic_macs": self.macs_of(DYNAMIC),
            "weight_bytes": self.weight_bytes,
            "int8_weight_bytes": self.int8_weight_bytes,
            "weight_fraction": self.weight_fraction,
            "kept_float": [
                {"name": o.name, "kind": o.kind, "macs_fraction": _share(o.macs, self.macs)} for o in self.kept_float
            ],
            "float_operators": dict(self.float_operators),
            "int8_operators": dict(self.int8_operators),
            "int16_operators": dict(self.int16_operators),
            "conversions": self.conversions,
            "operations": [asdict(operation) | {"integer": operation.integer} for operation in self.operations],
        }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def census(path: Path) -> Census:
    """Count a shipped file.

    Raises: UsageError for an unknown suffix; MissingLibraryError; DamagedFileError; CannotRunHere for a file with
    operators that nobody here knows how to count, since a count without them would be wrong.
    """
    return module_for(path, "mvit_deploy.runtimes.census", doing="counting").census(path)
