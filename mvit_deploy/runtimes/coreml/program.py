"""An ML Program as frozen values: what the protobuf and weight.bin say, without its encoding.

Source: MIL.proto of coremltools. Constants (operations of type const) are values here, not operations; the other
operations keep their line, the place in the block, for messages.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.blob import NUMPY_TYPES, SUB_BYTE_BITS, Blob, decode
from mvit_deploy.runtimes.coreml.kernels import check_size

FLOAT_TYPES = ("fp16", "fp32", "fp64")
_TYPE_NAMES = {
    1: "bool", 2: "string", 10: "fp16", 11: "fp32", 12: "fp64", 13: "bf16", 21: "int8", 22: "int16", 23: "int32",
    24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4", 36: "uint2",
    37: "uint1", 38: "uint6", 39: "uint3", 40: "fp8e4m3fn", 41: "fp8e5m2",
}  # fmt: skip
UNKNOWN_SIDE = -1


@dataclass(frozen=True)
class TensorType:
    """A declared type: MIL's name of the element type and the shape, -1 for a side that the program leaves open.

    shape None: not a tensor (a list, a dictionary, a string).
    """

    dtype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        if self.shape is None:
            return self.dtype
        return f"{self.dtype}[{', '.join('?' if side < 0 else str(side) for side in self.shape)}]"


@dataclass(frozen=True)
class Constant:
    """A value that the file holds. Floats are float32 arrays, whatever their type; strings and lists are Python's."""

    type: TensorType
    value: object


@dataclass(frozen=True)
class Argument:
    """What is bound to a parameter: a name, or a value written in place."""

    name: str | None
    constant: Constant | None = None

    def __str__(self) -> str:
        return f"%{self.name}" if self.name is not None else _short(self.constant)


@dataclass(frozen=True)
class Operation:
    """One line of a program. inputs: the arguments of each parameter, more than one where it takes a list."""

    line: int
    type: str
    inputs: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[tuple[str, TensorType], ...]

    @property
    def name(self) -> str:
        return self.outputs[0][0]

    def __str__(self) -> str:
        results = ", ".join(f"%{name}: {kind}" for name, kind in self.outputs)
        given = ", ".join(f"{key}={_listed(arguments)}" for key, arguments in sorted(self.inputs.items()))
        return f"{results} = {self.type}({given})"


@dataclass(frozen=True)
class Program:
    """The function main of an ML Program, as its only block says it."""

    opset: str
    inputs: Mapping[str, TensorType]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    constants: Mapping[str, Constant] = field(repr=False)

    def __str__(self) -> str:
        given = ", ".join(f"%{name}: {kind}" for name, kind in self.inputs.items())
        lines = [f"{op.line:4}  {op}" for op in self.operations]
        return "\n".join([f"main({given}) {self.opset}", *lines, f"return {', '.join(f'%{o}' for o in self.outputs)}"])


def read_program(spec: object, weights: Path) -> Program:
    """The program of a Model protobuf; weights is the folder that it calls @model_path.

    Raises: DamagedFileError for whatever does not make sense.
    """
    functions = spec.mlProgram.functions
    if "main" not in functions:
        raise DamagedFileError("the program has no function main")
    function = functions["main"]
    if function.opset not in function.block_specializations:
        raise DamagedFileError(f"the program has no block for its opset {function.opset!r}")
    block = function.block_specializations[function.opset]
    reader = _Reader(weights)
    constants, operations = {}, []
    inputs = {given.name: _input_type(given) for given in function.inputs}
    _check_described(spec, inputs)
    known = set(inputs)
    for line, proto in enumerate(block.operations, start=1):
        try:
            _check_names(proto, known)
            if proto.type == "const":
                constants[proto.outputs[0].name] = reader.value(_attribute(proto, "val"))
            else:
                operations.append(_operation(line, proto, reader))
        except DamagedFileError as error:
            raise DamagedFileError(f"line {line} ({proto.type}): {error}") from error
        known |= {output.name for output in proto.outputs}
    missing = [name for name in block.outputs if name not in known]
    if missing or not block.outputs:
        raise DamagedFileError(f"the program returns {missing or 'nothing'}, which no operation gives")
    return Program(function.opset, inputs, tuple(block.outputs), tuple(operations), constants)


def _input_type(given: object) -> TensorType:
    kind = read_type(given.type)
    if kind.shape is None or kind.dtype not in NUMPY_TYPES:
        raise DamagedFileError(f"the input {given.name!r} is of type {kind}, which nothing can be given for")
    return kind


def _check_described(spec: object, inputs: Mapping[str, TensorType]) -> None:
    """Callers prepare the inputs by the description. It is empty where a file has several functions."""
    described = {feature.name: feature.type for feature in spec.description.input}
    if described and set(described) != set(inputs):
        raise DamagedFileError(f"the file describes the inputs {sorted(described)}, the program takes {sorted(inputs)}")
    for name, feature in described.items():
        image, kind = feature.imageType, inputs[name]
        if feature.WhichOneof("Type") != "imageType":
            continue
        shape = (1, 1 if image.colorSpace in GRAY else 3, image.height, image.width)
        if not fits(shape, kind.shape):
            raise DamagedFileError(f"the image {name!r} is described as {shape}, the program takes {kind}")


GRAY = (10, 40)  # ImageFeatureType.ColorSpace, of 8 and of 16 bits


def fits(shape: tuple[int, ...], declared: tuple[int, ...] | None) -> bool:
    """Whether a shape is one that is declared, where a side may be left open."""
    return (
        declared is not None
        and len(shape) == len(declared)
        and all(said in (UNKNOWN_SIDE, side) for side, said in zip(shape, declared, strict=True))
    )


def _check_names(proto: object, known: set[str]) -> None:
    if not proto.outputs:
        raise DamagedFileError("it has no output")
    for key, argument in proto.inputs.items():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name" and binding.name not in known:
                raise DamagedFileError(f"its argument {key} is {binding.name!r}, which no line before it gives")
    taken = [output.name for output in proto.outputs if output.name in known]
    if taken:
        raise DamagedFileError(f"its output {taken[0]!r} already exists")


def _attribute(proto: object, name: str) -> object:
    if name not in proto.attributes:
        raise DamagedFileError(f"it has no attribute {name}")
    return proto.attributes[name]


def _operation(line: int, proto: object, reader: "_Reader") -> Operation:
    if len(proto.blocks):
        raise DamagedFileError("operations with blocks of their own (control flow) are not evaluated")
    inputs = {
        key: tuple(reader.argument(binding) for binding in argument.arguments)
        for key, argument in sorted(proto.inputs.items())
    }
    for key in sorted(proto.attributes):  # compression up to iOS 17 keeps its parameters here
        if key != "name":
            inputs[key] = (Argument(None, reader.value(proto.attributes[key])),)
    outputs = tuple((output.name, read_type(output.type)) for output in proto.outputs)
    return Operation(line, proto.type, inputs, outputs)


def read_type(proto: object) -> TensorType:
    """A declared type. Raises: DamagedFileError for a tensor type without meaning."""
    kind = proto.WhichOneof("type")
    if kind != "tensorType":
        return TensorType((kind or "nothing").removesuffix("Type"), None)
    tensor = proto.tensorType
    if tensor.dataType not in _TYPE_NAMES or tensor.rank != len(tensor.dimensions):
        raise DamagedFileError(f"a tensor type with element type {tensor.dataType} and rank {tensor.rank}")
    sides = tuple(
        side.constant.size if side.WhichOneof("dimension") == "constant" else UNKNOWN_SIDE for side in tensor.dimensions
    )
    check_size([side for side in sides if side != UNKNOWN_SIDE])
    return TensorType(_TYPE_NAMES[tensor.dataType], sides)


class _Reader:
    """Values from the protobuf or from weight.bin, which is opened once."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._blobs: dict[str, Blob] = {}

    def argument(self, binding: object) -> Argument:
        if binding.WhichOneof("binding") == "name":
            return Argument(binding.name)
        return Argument(None, self.value(binding.value))

    def value(self, proto: object) -> Constant:
        kind = read_type(proto.type)
        place = proto.WhichOneof("value")
        if place == "blobFileValue":
            return Constant(kind, self._blob(proto.blobFileValue, kind))
        if place != "immediateValue":
            raise DamagedFileError("a constant without a value")
        immediate = proto.immediateValue
        inner = immediate.WhichOneof("value")
        if inner == "list":
            return Constant(kind, [self.value(item).value for item in immediate.list.values])
        if inner != "tensor" or kind.shape is None:
            raise DamagedFileError(f"a constant that is a {inner}")
        return Constant(kind, _immediate(immediate.tensor, kind))

    def _blob(self, place: object, kind: TensorType) -> np.ndarray:
        name = place.fileName.rpartition("/")[2]
        if kind.shape is None or (kind.dtype not in NUMPY_TYPES and kind.dtype not in SUB_BYTE_BITS):
            raise DamagedFileError(f"a constant of type {kind} in {name}")
        if place.fileName != f"@model_path/weights/{name}":
            raise DamagedFileError(f"a constant in {place.fileName!r}, which is outside the package's weights")
        if name not in self._blobs:
            self._blobs[name] = Blob(self._weights / "weights" / name)
        return _held(self._blobs[name].read(place.offset, kind.dtype, kind.shape), kind.dtype)


def _immediate(tensor: object, kind: TensorType) -> object:
    stored = tensor.WhichOneof("value")
    if stored is None:
        raise DamagedFileError("a constant without a value")
    values = getattr(tensor, stored).values
    if stored == "strings":
        if kind.dtype != "string" or (kind.shape == () and len(values) != 1):
            raise DamagedFileError(f"{len(values)} strings for {kind}")
        return values[0] if kind.shape == () else list(values)
    if kind.dtype == "string":
        raise DamagedFileError(f"{stored} for {kind}")
    if stored == "bytes":
        return _held(decode(values, kind.dtype, kind.shape), kind.dtype)
    given = np.array(values)
    array = given.astype(_array_type(kind.dtype))
    if array.dtype.kind in "iub" and not np.array_equal(array, given):
        raise DamagedFileError(f"{stored} for {kind}")
    if array.size != math.prod(kind.shape):
        raise DamagedFileError(f"{array.size} values for {kind}")
    return _held(array.reshape(kind.shape), kind.dtype)


def _array_type(dtype: str) -> np.dtype:
    if dtype not in NUMPY_TYPES:
        raise DamagedFileError(f"a constant of type {dtype}")
    return np.dtype(NUMPY_TYPES[dtype])


def _held(array: np.ndarray, dtype: str) -> np.ndarray:
    return array.astype(np.float32) if dtype in FLOAT_TYPES else array


def _short(constant: Constant) -> str:
    value = constant.value
    if isinstance(value, np.ndarray):
        return str(value.tolist()) if value.size <= 8 else f"<{constant.type}>"
    return repr(value) if len(repr(value)) < 60 else f"<{len(value)} values>"


def _listed(arguments: tuple[Argument, ...]) -> str:
    return str(arguments[0]) if len(arguments) == 1 else f"({', '.join(map(str, arguments))})"


def operations_by_name(program: Program) -> Iterator[tuple[str, Operation]]:
    """Each value that an operation gives, with that operation, in the program's order."""
    for operation in program.operations:
        for name, _ in operation.outputs:
            yield name, operation
