"""Census of Core ML files, from what the program or the network says.

Core ML chooses its kernels when it compiles the file on the device, which cannot be seen here. Its documentation knows
integer arithmetic in one pattern only, on A17 Pro, M4 and newer: both factors come directly out of a dequantize (or
are constants of 8 bits), and the product goes directly, or through an activation, into a quantize. That alone counts
as int8; everything else computes in float.
Source: coremltools' guide, opt-quantization-api, and its pass insert_suffix_quantize_dequantize_pair.
"""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.census import FLOAT, INT8, WEIGHT_ONLY, Census, MacOperation, StoredWeight, coreml_network
from mvit_deploy.runtimes.coreml.blob import NUMPY_TYPES, SUB_BYTE_BITS
from mvit_deploy.runtimes.coreml.package import network_of, read_specification, weights_folder
from mvit_deploy.runtimes.coreml.program import FLOAT_TYPES, UNKNOWN_SIDE, Argument, Operation, Program, read_program

# Parameters that hold the two factors of each MAC operation.
_FACTORS = {
    "conv": ("x", "weight"),
    "conv_transpose": ("x", "weight"),
    "linear": ("x", "weight"),
    "matmul": ("x", "y"),
    "einsum": ("values", "values"),
    "scaled_dot_product_attention": ("query", "key"),
}
# They hold products too, which is not counted here: a census without them would be wrong.
_UNCOUNTED = {"lstm", "gru", "rnn", "conv_quantized", "while_loop", "cond"}
_CONVERSIONS = ("quantize", "dequantize")
_ACTIVATIONS = {"leaky_relu", "tanh", "scaled_tanh", "sigmoid", "hard_sigmoid", "relu", "relu6"}
_STORED_IN = {  # the parameter that holds the values of compressed constants
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "constexpr_cast": "source_val",
    "constexpr_lut_to_dense": "indices",
    "constexpr_sparse_to_dense": "nonzero_data",
    "constexpr_lut_to_sparse": "indices_nonzero_data",
    "constexpr_sparse_blockwise_shift_scale": "nonzero_data",
    "dequantize": "input",
}
_LINEAR = {"constexpr_affine_dequantize", "constexpr_blockwise_shift_scale", "constexpr_sparse_blockwise_shift_scale",
           "dequantize"}  # fmt: skip
_NO_WEIGHTS = {"scale", "zero_point", "offset", "lut", "mask", "indices_mask", "data_mask"}
_FAMILIES = dict.fromkeys(FLOAT_TYPES, FLOAT) | {"int8": INT8, "uint8": INT8}


def census(path: Path) -> Census:
    """Count an .mlpackage or .mlmodel. Raises: DamagedFileError; CannotRunHere."""
    spec = network_of(read_specification(path))
    if spec.WhichOneof("Type") != "mlProgram":
        return coreml_network.census(spec)
    return _counted(_Graph(read_program(spec, weights_folder(path))))


def weights(spec: Any, folder: Path) -> tuple[StoredWeight, ...]:
    """The constants of a network that are weights, from the file alone; folder: what a program calls @model_path.

    Raises: DamagedFileError; CannotRunHere for weights that are made in a way that is not counted.
    """
    if spec.WhichOneof("Type") != "mlProgram":
        return coreml_network.weights(spec)
    return tuple(_Graph(read_program(spec, folder)).weights())


def _counted(graph: "_Graph") -> Census:
    operations = graph.program.operations
    uncounted = sorted({operation.type for operation in operations} & _UNCOUNTED)
    if uncounted:
        raise CannotRunHere(f"the multiply-accumulates of {', '.join(uncounted)} are not counted")
    others = {FLOAT: Counter(), INT8: Counter()}
    for operation in operations:
        family = _FAMILIES.get(operation.outputs[0][1].dtype)
        if family and operation.type not in _FACTORS and operation.type not in {*_STORED_IN, *_CONVERSIONS}:
            others[family][operation.type] += 1
    return Census(
        basis="operations of the program, by Core ML's documented int8 pattern",
        operations=tuple(_operation(operation, graph) for operation in operations if operation.type in _FACTORS),
        weights=tuple(graph.weights()),
        float_operators=others[FLOAT],
        int8_operators=others[INT8],
        conversions=sum(o.type in _CONVERSIONS and not graph.is_constant(o.inputs["input"][0]) for o in operations),
    )


class _Graph:
    """A program with who makes and who reads each value."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.producers = {name: o for o in program.operations for name, _ in o.outputs}
        self.readers: dict[str, list[str]] = {name: ["return"] for name in program.outputs}
        for operation in program.operations:
            for argument in _arguments(operation):
                self.readers.setdefault(argument.name, []).append(operation.name)
        self._types = {name: constant.type for name, constant in program.constants.items()} | dict(program.inputs)
        self._types |= {name: kind for operation in program.operations for name, kind in operation.outputs}
        self._constants = set(program.constants)  # and what unpacks them
        for operation in program.operations:
            if all(map(self.is_constant, _arguments(operation))):
                self._constants |= {name for name, _ in operation.outputs}

    def shape(self, argument: Argument) -> tuple[int, ...]:
        kind = argument.constant.type if argument.name is None else self._types[argument.name]
        if kind.shape is None or UNKNOWN_SIDE in kind.shape:
            raise CannotRunHere(f"the multiply-accumulates of {kind} are not counted: its size is open")
        return kind.shape

    def producer(self, argument: Argument) -> Operation | None:
        return self.producers.get(argument.name)

    def is_constant(self, argument: Argument) -> bool:
        """Whether a value is known before the program runs, compressed or not."""
        return argument.name is None or argument.name in self._constants

    def stored(self, argument: Argument, label: str) -> StoredWeight:
        """A constant as the file stores it, whatever unpacks it. label: its name where it has none."""
        made_by = self.producer(argument)
        if made_by is None:
            return _plain(argument, self.program, label)
        if made_by.type not in _STORED_IN:
            raise CannotRunHere(f"line {made_by.line}: the weights that {made_by.type} makes are not counted")
        inner = self.stored(made_by.inputs[_STORED_IN[made_by.type]][0], label)
        is_integer = inner.is_integer and made_by.type in _LINEAR
        if made_by.type == "constexpr_lut_to_dense" and "shape" in made_by.inputs:  # iOS 16: indices packed into bytes
            palette = math.prod(self.shape(made_by.inputs["lut"][0]))
            elements = math.prod(made_by.outputs[0][1].shape)
            return StoredWeight(inner.name, elements, (palette - 1).bit_length(), is_integer)
        return StoredWeight(inner.name, inner.elements, inner.bits, is_integer)

    def weights(self) -> Iterator[StoredWeight]:
        """Every constant that is a weight, each once."""
        seen = set()
        for operation in self.program.operations:
            if operation.name in self._constants:
                continue  # it only unpacks a constant, which is counted where that is used
            for key, arguments in operation.inputs.items():
                for argument in arguments if key not in _NO_WEIGHTS else ():
                    if argument.name in seen or not self._is_weight(argument):
                        continue
                    weight = self.stored(argument, f"{operation.name}.{key}")
                    seen |= {argument.name} - {None}
                    if weight.elements > 1:
                        yield weight

    def _is_weight(self, argument: Argument) -> bool:
        """Constants of floats, and of 8-bit integers: those of 32 bits are shapes, axes and paddings."""
        kind = argument.constant.type if argument.name is None else self._types[argument.name]
        is_tensor = kind.shape is not None and kind.dtype in _FAMILIES
        return is_tensor and self.is_constant(argument)


def _arguments(operation: Operation) -> list[Argument]:
    return [argument for arguments in operation.inputs.values() for argument in arguments]


def _plain(argument: Argument, program: Program, label: str) -> StoredWeight:
    kind = (argument.constant or program.constants[argument.name]).type
    if kind.dtype not in SUB_BYTE_BITS and kind.dtype not in NUMPY_TYPES:
        raise DamagedFileError(f"weights of type {kind}")
    bits = SUB_BYTE_BITS.get(kind.dtype) or 8 * np.dtype(NUMPY_TYPES[kind.dtype]).itemsize
    return StoredWeight(argument.name or label, math.prod(kind.shape), bits, kind.dtype not in FLOAT_TYPES)


def _operation(operation: Operation, graph: _Graph) -> MacOperation:
    factors = _factors(operation)
    constant = next((factor for factor in reversed(factors) if graph.is_constant(factor)), None)
    weight = None if constant is None else graph.stored(constant, operation.name)
    return MacOperation(
        name=operation.name,
        type=operation.type,
        kind=_kind(operation, factors, weight, graph),
        macs=_count(operation, graph),
        weight_bytes=weight.bytes if weight else 0,
        weight_bits=weight.bits if weight else 0,
    )


def _factors(operation: Operation) -> list[Argument]:
    """The two values that an operation multiplies."""
    first, second = _FACTORS[operation.type]
    given = list(operation.inputs[first])
    return given if second == first else [*given, *operation.inputs[second]]


def _kind(operation: Operation, factors: list[Argument], weight: StoredWeight | None, graph: _Graph) -> str:
    has_int8_factors = all(_is_int8(factor, graph) for factor in factors)
    if (
        has_int8_factors
        and operation.type in ("conv", "linear", "matmul", "einsum")
        and _is_quantized(operation, graph)
    ):
        return INT8
    return WEIGHT_ONLY if weight and weight.bits <= 8 else FLOAT


def _is_int8(factor: Argument, graph: _Graph) -> bool:
    if graph.is_constant(factor):
        return graph.stored(factor, "").is_int8
    made_by = graph.producer(factor)
    return made_by is not None and made_by.type == "dequantize"


def _is_quantized(operation: Operation, graph: _Graph) -> bool:
    """Whether nobody reads the float result but a quantize, perhaps behind one activation."""
    readers = [graph.producers.get(name) for name in graph.readers.get(operation.name, ())]
    types = {reader.type if reader else "return" for reader in readers}
    if types == {"quantize"}:
        return True
    is_activated = len(readers) == 1 and types <= _ACTIVATIONS and operation.type not in _ACTIVATIONS
    return is_activated and _is_quantized(readers[0], graph)


def _count(operation: Operation, graph: _Graph) -> int:
    """Multiply-accumulates of one run, from the declared shapes."""
    shapes = [graph.shape(factor) for factor in _factors(operation)]
    first, second = shapes[0], shapes[-1]
    outputs = math.prod(graph.shape(Argument(operation.name)))
    if operation.type in ("conv", "linear"):  # weights (O, I/groups, *kernel) or (O, I)
        return outputs * math.prod(second[1:])
    if operation.type == "conv_transpose":  # weights (I, O/groups, *kernel)
        return math.prod(first) * math.prod(second[1:])
    if operation.type == "einsum":
        terms = (
            operation.inputs["equation"][0].constant or graph.program.constants[operation.inputs["equation"][0].name]
        )
        letters = terms.value.replace(" ", "").split("->")[0].replace(",", "")
        return math.prod(dict(zip(letters, [*first, *second], strict=True)).values())
    if operation.type == "scaled_dot_product_attention":  # (..., L, E) x (..., S, E), then (..., L, S) x (..., S, EV)
        return math.prod(first) * second[-2] + outputs * second[-2]
    return outputs * first[-2 if _value(operation, "transpose_x", graph) else -1]


def _value(operation: Operation, key: str, graph: _Graph) -> object:
    """A constant argument; None where it is left out."""
    if key not in operation.inputs:
        return None
    argument = operation.inputs[key][0]
    return (argument.constant or graph.program.constants[argument.name]).value
