"""A saved .mlpackage opened for editing: operations, constants bound to them, bytes of weight.bin."""

import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mvit_deploy.runtimes.coreml.package import pb, read_specification, specification_path

Operation = pb.MIL__pb2.Operation

_ENTRY = struct.Struct("<IIQQQ")  # sentinel, type, bytes, offset of the data, padding bits
_FLOAT32, _INT32, _BOOL = 11, 23, 1  # MIL.proto DataType
_ELEMENTS = {10: "<f2", _FLOAT32: "<f4", 21: "i1", 31: "u1"}
_STAGE = re.compile(r"backbone_(stem|layer_[1-5]|conv_exp)_|(head)_")


class Package:
    """A package in memory until save. Changes keep it well formed: every shape is the declared one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = read_specification(path)
        (function,) = self.spec.mlProgram.functions.values()
        self.block = function.block_specializations[function.opset]
        self.weights = bytearray(self._weight_path.read_bytes())

    def save(self) -> None:
        """Write over the files that were opened."""
        specification_path(self.path).write_bytes(self.spec.SerializeToString(deterministic=True))
        self._weight_path.write_bytes(self.weights)

    @property
    def _weight_path(self) -> Path:
        return specification_path(self.path).parent / "weights" / "weight.bin"

    def operations(self, *types: str) -> list[Operation]:
        """Those of some types, or all but constants, in the program's order."""
        wanted = set(types)
        return [o for o in self.block.operations if (o.type in wanted if wanted else o.type != "const")]

    def operation(self, name: str) -> Operation:
        """The operation whose first result has a name."""
        return next(o for o in self.block.operations if o.outputs[0].name == name)

    def stages(self) -> dict[str, str]:
        """The stage of each operation, by the name of its first result.

        A stage begins with the first operation that takes one of its weights, whose names are the module's.
        """
        stage, found = "input", {}
        for operation in self.operations():
            taken = [_STAGE.search(name) for name in names(operation)]
            if any(taken):
                match = next(match for match in taken if match)
                stage = {"conv_exp": "head"}.get(match[1], match[1] or match[2])
            elif operation.type in ("softmax", "classify") and stage == "head":
                stage = "output"
            found[operation.outputs[0].name] = stage
        return found

    def bound(self, operation: Operation, key: str) -> str:
        """The name that is bound to a parameter."""
        return operation.inputs[key].arguments[0].name

    def shape(self, name: str) -> tuple[int, ...]:
        """The declared shape of a value that an operation or a constant gives."""
        found = next(out for o in self.block.operations for out in o.outputs if out.name == name)
        return tuple(side.constant.size for side in found.type.tensorType.dimensions)

    def get(self, operation: Operation, key: str) -> np.ndarray:
        """A copy of the constant bound to a parameter."""
        name = self.bound(operation, key)
        value = self.operation(name).attributes["val"]
        if value.WhichOneof("value") == "blobFileValue":
            start, size = self._data(value.blobFileValue.offset)
            return np.frombuffer(bytes(self.weights[start : start + size]), "<f4").reshape(self.shape(name))
        tensor = value.immediateValue.tensor
        return np.array(getattr(tensor, tensor.WhichOneof("value")).values).reshape(self.shape(name))

    def put(self, operation: Operation, key: str, values: np.ndarray) -> None:
        """Overwrite the float constant bound to a parameter, for all who share it."""
        value = self.operation(self.bound(operation, key)).attributes["val"]
        flat = np.ascontiguousarray(values, dtype="<f4").ravel()
        if value.WhichOneof("value") == "blobFileValue":
            start, size = self._data(value.blobFileValue.offset)
            if flat.nbytes != size:
                raise ValueError(f"{flat.nbytes} bytes for {size}")
            self.weights[start : start + size] = flat.tobytes()
        else:
            value.immediateValue.tensor.floats.values[:] = flat.tolist()

    def edit(self, operation: Operation, key: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Overwrite a constant of floats or 8-bit integers, flat: bound, written in place or, as compression up to
        iOS 17 keeps it, an attribute."""
        if key in operation.attributes:
            value = operation.attributes[key]
        else:
            binding = operation.inputs[key].arguments[0]
            is_named = binding.WhichOneof("binding") == "name"
            value = self.operation(binding.name).attributes["val"] if is_named else binding.value
        dtype = _ELEMENTS[value.type.tensorType.dataType]
        if value.WhichOneof("value") == "blobFileValue":
            start, size = self._data(value.blobFileValue.offset)
            old = np.frombuffer(bytes(self.weights[start : start + size]), dtype)
            self.weights[start : start + size] = change(old.copy()).astype(dtype).tobytes()
        else:
            held = value.immediateValue.tensor.bytes
            held.values = change(np.frombuffer(held.values, dtype).copy()).astype(dtype).tobytes()

    def entry(self, operation: Operation, key: str) -> object | None:
        """Where weight.bin holds the constant bound to a parameter, None where the program holds it itself."""
        value = self.operation(self.bound(operation, key)).attributes["val"]
        return value.blobFileValue if value.WhichOneof("value") == "blobFileValue" else None

    def move_data(self, offset: int, by_bytes: int) -> None:
        """Let the entry at an offset of weight.bin point by_bytes further, or back.

        Raises: ValueError where the data would end behind the file.
        """
        fields = list(_ENTRY.unpack_from(self.weights, offset))
        fields[3] += by_bytes
        if fields[3] + fields[2] > len(self.weights):
            raise ValueError("outside the file")
        _ENTRY.pack_into(self.weights, offset, *fields)

    def _data(self, offset: int) -> tuple[int, int]:
        _, _, size, start, _ = _ENTRY.unpack_from(self.weights, offset)
        return start, size

    def give(self, operation: Operation, key: str, values: object) -> None:
        """Bind a constant of its own to a parameter of one operation, so that no other one changes."""
        array = np.asarray(values)
        name = f"{operation.outputs[0].name}_{key}_changed"
        at = self._place(operation)
        del operation.inputs[key].arguments[:]
        operation.inputs[key].arguments.add().name = name
        self.block.operations.insert(at, _constant(name, array))

    def insert(self, before: Operation, kind: str, source: str, **parameters: object) -> str:
        """A new operation, with the type and shape of source, that takes source's place in the given one. Its name."""
        name = f"{source}_{kind}_inserted"
        made = Operation(type=kind)
        made.inputs["x"].arguments.add().name = source
        made.outputs.add(name=name).type.CopyFrom(self._type(source))
        at = self._place(before)
        for argument in before.inputs.values():
            for binding in argument.arguments:
                if binding.name == source:
                    binding.name = name
        self.block.operations.insert(at, made)
        made = self.block.operations[at]  # a copy was inserted
        for key, value in parameters.items():
            self.give(made, key, value)
        return name

    def redirect(self, old: str, new: str) -> None:
        """Let whoever takes a value take another one."""
        for operation in self.block.operations:
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    if binding.name == old:
                        binding.name = new

    def remove(self, operation: Operation) -> None:
        del self.block.operations[self._place(operation)]

    def _place(self, operation: Operation) -> int:
        name = operation.outputs[0].name
        return next(i for i, o in enumerate(self.block.operations) if o.outputs[0].name == name)

    def _type(self, name: str) -> object:
        (function,) = self.spec.mlProgram.functions.values()
        given = {i.name: i.type for i in function.inputs}
        return given.get(name) or next(o.type for op in self.block.operations for o in op.outputs if o.name == name)


def names(operation: Operation) -> list[str]:
    """The names of all values that an operation takes."""
    return [b.name for argument in operation.inputs.values() for b in argument.arguments if b.name]


def where(
    types: Iterable[str], accept: Callable[[Package, object], bool] = lambda package, operation: True
) -> Callable[[Package], list[str]]:
    """Finds the operations of some types that a condition accepts, by the name of their first result."""

    def find(package: Package) -> list[str]:
        return [o.outputs[0].name for o in package.operations(*types) if accept(package, o)]

    return find


def _constant(name: str, array: np.ndarray) -> Operation:
    made = Operation(type="const")
    output = made.outputs.add(name=name)
    value = made.attributes["val"]
    tensor = value.immediateValue.tensor
    kind = {"f": _FLOAT32, "i": _INT32, "b": _BOOL}[array.dtype.kind]
    held = {_FLOAT32: tensor.floats, _INT32: tensor.ints, _BOOL: tensor.bools}[kind]
    held.values.extend(array.ravel().tolist())
    output.type.tensorType.dataType, output.type.tensorType.rank = kind, array.ndim
    for side in array.shape:
        output.type.tensorType.dimensions.add().constant.size = side
    value.type.CopyFrom(output.type)
    return made
