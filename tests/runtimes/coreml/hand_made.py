"""Programs of a few lines, made by hand: every field of the protobuf and of weight.bin is the test's to choose."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.package import pb
from mvit_deploy.runtimes.coreml.program import read_program

MIL_TYPES = {"bool": 1, "string": 2, "fp16": 10, "fp32": 11, "int8": 21, "int32": 23, "uint8": 31}
BLOB_CODES = {"fp16": 1, "fp32": 2, "uint8": 3}
IMMEDIATE = {"fp32": "floats", "int32": "ints", "bool": "bools"}
OPSET = "CoreML7"
Shape = tuple[int | None, ...]
FLOAT_EXTREMES = (0.0, -1.0, 1e9, 1e30, float("inf"), float("nan"))
X = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((4, 4, 3, 3)).astype(np.float32)


class Name(str):
    """A reference to a value, as an argument."""

    __slots__ = ()


@dataclass(frozen=True)
class At:
    """A constant in weight.bin, as an argument."""

    offset: int
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Line:
    """An operation: its arguments are names or constants, its outputs a name, an element type and a shape each."""

    type: str
    arguments: Mapping[str, object]
    outputs: tuple[tuple[str, str, Shape], ...]


def main_block(spec: "pb.Model") -> tuple[object, object]:
    function = spec.mlProgram.functions["main"]
    return function, function.block_specializations[function.opset]


def declare(proto: object, dtype: str, shape: Shape) -> None:
    tensor = proto.tensorType
    tensor.dataType, tensor.rank = MIL_TYPES[dtype], len(shape)
    for side in shape:
        dimension = tensor.dimensions.add()
        if side is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = side


def put(proto: object, value: object) -> None:
    """Write a constant."""
    if isinstance(value, At):
        declare(proto.type, value.dtype, value.shape)
        proto.blobFileValue.fileName = "@model_path/weights/weight.bin"
        proto.blobFileValue.offset = value.offset
        return
    array = np.asarray(value)
    dtype = {"f": "fp32", "i": "int32", "b": "bool", "u": "uint8", "U": "string"}[array.dtype.kind]
    declare(proto.type, dtype, array.shape)
    tensor = proto.immediateValue.tensor
    if dtype == "uint8":
        tensor.bytes.values = array.tobytes()
    else:
        field = getattr(tensor, IMMEDIATE.get(dtype, "strings"))
        field.SetInParent()
        field.values.extend(array.ravel().tolist())


def hand_made(*lines: Line) -> "pb.Model":
    """A program of these lines on x, fp32 (1, 4, 8, 8); it returns the last line's first output."""
    spec = pb.Model(specificationVersion=8)
    function = spec.mlProgram.functions["main"]
    function.opset = OPSET
    declare(function.inputs.add(name="x").type, "fp32", X.shape)
    block = function.block_specializations[OPSET]
    for line in lines:
        operation = block.operations.add(type=line.type)
        for key, value in line.arguments.items():
            if line.type == "const":
                put(operation.attributes[key], value)
                continue
            for each in value if isinstance(value, list) else [value]:
                binding = operation.inputs[key].arguments.add()
                if isinstance(each, Name):
                    binding.name = each
                else:
                    put(binding.value, each)
        for name, dtype, shape in line.outputs:
            declare(operation.outputs.add(name=name).type, dtype, shape)
    block.outputs.append(lines[-1].outputs[0][0])
    return spec


def evaluate(spec: "pb.Model", folder: Path, mode: str = "fp32") -> object:
    """The output, after the protobuf has been bytes."""
    again = pb.Model.FromString(spec.SerializeToString())
    return Evaluator(read_program(again, folder), mode).run({"x": X})


LINES = (
    Line("const", {"val": At(64, "fp32", (4, 4, 3, 3))}, (("weight", "fp32", (4, 4, 3, 3)),)),
    Line(
        "conv",
        {"x": Name("x"), "weight": Name("weight"), "strides": np.ones(2, np.int32), "pad_type": "same"},
        (("a", "fp32", (1, 4, 8, 8)),),
    ),
    Line("relu", {"x": Name("a")}, (("b", "fp32", (1, 4, 8, 8)),)),
    Line("tile", {"x": Name("b"), "reps": np.array([1, 1, 2, 1], np.int32)}, (("c", "fp32", (1, 4, 16, 8)),)),
    Line("add", {"x": Name("c"), "y": Name("c")}, (("y", "fp32", (1, 4, 16, 8)),)),
)


def weight_bin(*, kind: int = 2, size: int = 576, start: int = 128, padding: int = 0, sentinel: int = 0xDEADBEEF,
               version: int = 2) -> bytes:  # fmt: skip
    """weight.bin as its documentation says, with one entry; or with a fault."""
    header = struct.pack("<II56x", 1, version)
    return header + struct.pack("<IIQQQ32x", sentinel, kind, size, start, padding) + WEIGHT.tobytes()
