"""Runs an ML Program in numpy, operation by operation, and holds each result to the type that the program declares."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml.arithmetic import FLOAT32, HALF, MODES, round_to_half
from mvit_deploy.runtimes.coreml.errors import UnknownFormError, UnknownOperationError
from mvit_deploy.runtimes.coreml.kernels import check_total
from mvit_deploy.runtimes.coreml.ops import EXACT, MAX_RANK, OPSETS, RESULT_TYPES, SINCE, SUPPORTED
from mvit_deploy.runtimes.coreml.program import FLOAT_TYPES, Argument, Operation, Program, TensorType, fits

Watch = Callable[[Operation, str, TensorType, np.ndarray], None]
_LISTS = {"values", "ref_tensors", "begins", "ends", "end_masks"}  # parameters that take several tensors
_MIXES_FLOATS = {
    "cast", "quantize", "dequantize", "select", "one_hot", "resize", "upsample_bilinear",
    "scaled_dot_product_attention",
}  # fmt: skip
_MIXES_FLOATS_FROM_IOS_17 = {"conv", "conv_transpose"}  # a computed weight may have another type there
_SENSELESS = (ValueError, IndexError, TypeError, KeyError, AttributeError, ArithmeticError, MemoryError)


@dataclass(frozen=True)
class _Step:
    """An operation made ready: its function, its constant arguments, the names of the others, what is dropped after."""

    operation: Operation
    function: Callable[..., object]
    fixed: Mapping[str, object]
    named: Mapping[str, tuple[Argument, ...]]
    done_with: tuple[str, ...]


class Evaluator:
    """A program ready to run. mode: fp32, typed or half (arithmetic.py says what each means)."""

    def __init__(self, program: Program, mode: str = "typed") -> None:
        """Decompress the constants and look up every operation.

        Raises: UnknownOperationError for an operation or parameter that is not known; DamagedFileError.
        """
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
        self.program = program
        self.mode = mode
        self._types = {name: constant.type for name, constant in program.constants.items()} | dict(program.inputs)
        self._constants = {name: constant.value for name, constant in program.constants.items()}
        last_use = _last_uses(program)
        self._steps = []
        for operation in program.operations:
            step = self._prepare(operation, last_use)
            self._check_float_types(operation)
            _check_allowed(operation, program.opset)
            self._types |= dict(operation.outputs)
            if not step.named:  # everything it takes is constant: compressed weights
                self._constants |= self._perform(step, self._constants, None)
            else:
                self._steps.append(step)

    def run(
        self, inputs: Mapping[str, np.ndarray], taps: Iterable[str] = (), watch: Watch | None = None
    ) -> dict[str, object]:
        """The program's outputs, and the values named in taps, by name.

        Args: inputs of the declared shapes; floats are taken as float32. watch is shown every float result as it was
        before rounding. Values: arrays, floats as float32; of a classifier a label and a dictionary.
        Raises: DamagedFileError when an operation cannot be done or gives another type or shape than it declares;
        UnknownOperationError for a form of an operation that is not documented; ValueError for inputs or taps that the
        program does not have.
        """
        wanted = set(taps)
        unknown = wanted - set(self._types)
        if unknown:
            raise ValueError(f"the program has no value {sorted(unknown)}")
        values = self._checked(inputs)
        kept = {name: self._constants[name] for name in wanted & set(self._constants)}
        kept |= {name: values[name] for name in wanted & set(values)}
        returned = set(self.program.outputs) | wanted
        for step in self._steps:
            results = self._perform(step, values, watch)
            values |= results
            kept |= {name: value for name, value in results.items() if name in returned}
            for name in step.done_with:
                values.pop(name, None)
        everything = self._constants | values | kept
        return {name: everything[name] for name in [*self.program.outputs, *sorted(wanted)]}

    def _checked(self, inputs: Mapping[str, np.ndarray]) -> dict[str, object]:
        if set(inputs) != set(self.program.inputs):
            raise ValueError(f"inputs {sorted(inputs)} given, the program takes {sorted(self.program.inputs)}")
        values = {}
        for name, kind in self.program.inputs.items():
            value = np.asarray(inputs[name])
            if kind.dtype in FLOAT_TYPES:
                value = self._rounded(value.astype(np.float32), kind)
            else:
                value = value.astype(kind.dtype)
            if not fits(value.shape, kind.shape):
                raise ValueError(f"input {name} has shape {value.shape}, the program takes {kind}")
            values[name] = value
        return values

    def _prepare(self, operation: Operation, last_use: Mapping[str, int]) -> _Step:
        function = SUPPORTED.get(operation.type)
        if function is None:
            raise UnknownOperationError(operation.type, operation.line, str(operation), SUPPORTED)
        parameters = set(inspect.signature(function).parameters) - {"math"}
        foreign = set(operation.inputs) - parameters
        if foreign:
            what = f"the parameter {sorted(foreign)[0]!r} of {operation.type}"
            raise UnknownOperationError(what, operation.line, str(operation), SUPPORTED)
        fixed, named = {}, {}
        for key, arguments in operation.inputs.items():
            if key not in _LISTS and len(arguments) != 1:
                raise DamagedFileError(f"line {operation.line}: {len(arguments)} values for {key} of {operation.type}")
            if all(self._is_constant(argument) for argument in arguments):
                values = [self._constant(argument) for argument in arguments]
                fixed[key] = values if key in _LISTS else values[0]
            else:
                named[key] = arguments
        used = {a.name for arguments in named.values() for a in arguments if a.name is not None}
        done = tuple(sorted(name for name in used if last_use[name] == operation.line))
        return _Step(operation, function, fixed, named, done)

    def _is_constant(self, argument: Argument) -> bool:
        return argument.name is None or argument.name in self._constants

    def _constant(self, argument: Argument) -> object:
        return argument.constant.value if argument.name is None else self._constants[argument.name]

    def _check_float_types(self, operation: Operation) -> None:
        """Operands that are computed have one float type: Core ML does not mix fp16 and fp32 within an operation."""
        is_old = self.program.opset in ("CoreML5", "CoreML6")
        if operation.type in _MIXES_FLOATS or (operation.type in _MIXES_FLOATS_FROM_IOS_17 and not is_old):
            return
        computed = {
            self._types[argument.name].dtype
            for arguments in operation.inputs.values()
            for argument in arguments
            if argument.name is not None and argument.name not in self._constants
        }
        if len(computed & set(FLOAT_TYPES)) > 1:
            raise DamagedFileError(f"line {operation.line}: {operation}: mixes {' and '.join(sorted(computed))}")

    def _perform(self, step: _Step, values: Mapping[str, object], watch: Watch | None) -> dict[str, object]:
        operation = step.operation
        arguments = dict(step.fixed)
        for key, given in step.named.items():
            found = [values[a.name] if a.name in values else self._constant(a) for a in given]
            arguments[key] = found if key in _LISTS else found[0]
        half = self.mode == "half" and operation.outputs[0][1].dtype == "fp16"
        if "math" in inspect.signature(step.function).parameters:
            arguments["math"] = HALF if half else FLOAT32
        try:
            with np.errstate(all="ignore"):
                results = step.function(**arguments)
            results = results if isinstance(results, list) else [results]
            check_total([*values.values(), *results])
            if len(results) != len(operation.outputs):
                raise DamagedFileError(f"{len(operation.outputs)} outputs are declared, it has {len(results)}")
            return {
                name: self._held(step, place, kind, result, watch)
                for place, ((name, kind), result) in enumerate(zip(operation.outputs, results, strict=True))
            }
        except UnknownFormError as error:
            raise UnknownOperationError(str(error), operation.line, str(operation), SUPPORTED) from error
        except DamagedFileError as error:
            raise DamagedFileError(f"line {operation.line}: {operation}: {error}") from error
        except _SENSELESS as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DamagedFileError(f"line {operation.line}: {operation}: cannot be done ({reason})") from error

    def _held(self, step: _Step, place: int, kind: TensorType, value: object, watch: Watch | None) -> object:
        """A result as it is kept: of the declared type and shape, rounded as the mode says."""
        if isinstance(value, str | int | dict):  # a classifier's label and dictionary
            return value
        array = np.asarray(value)
        expected = self._result_type(step, place)
        if expected is not None and expected != kind.dtype:
            raise DamagedFileError(f"it gives {expected}, {kind} is declared")
        if not fits(array.shape, kind.shape):
            raise DamagedFileError(f"it gives shape {list(array.shape)}, {kind} is declared")
        if kind.dtype not in FLOAT_TYPES:
            if array.dtype.kind == "f":
                raise UnknownFormError(f"{step.operation.type} of {kind.dtype}")
            return array
        if array.dtype != np.float32:
            array = array.astype(np.float32)
        if watch is not None:
            watch(step.operation, step.operation.outputs[place][0], kind, array)
        return array if step.operation.type in EXACT else self._rounded(array, kind)

    def _rounded(self, array: np.ndarray, kind: TensorType) -> np.ndarray:
        return round_to_half(array) if self.mode != "fp32" and kind.dtype == "fp16" and array.size else array

    def _result_type(self, step: _Step, place: int) -> str | None:
        """The element type that an operation gives; None where an optional parameter that decides it is left out."""
        rules = RESULT_TYPES.get(step.operation.type)
        rule = rules[min(place, len(rules) - 1)] if rules else "="
        if rule == "=":
            return self._type_of(step.operation.inputs, [next(iter(inspect.signature(step.function).parameters))])
        if rule.startswith("="):
            return self._type_of(step.operation.inputs, rule[1:].split())
        if rule.startswith(":"):
            default = inspect.signature(step.function).parameters[rule[1:]].default
            return str(step.fixed.get(rule[1:], default))
        return rule

    def _type_of(self, inputs: Mapping[str, tuple[Argument, ...]], keys: list[str]) -> str | None:
        """The element type of parameters: of the first value that is computed, else of the first."""
        given = [argument for key in keys for argument in inputs.get(key, ())]
        first = next((argument for argument in given if not self._is_constant(argument)), next(iter(given), None))
        if first is None:
            return None
        return (first.constant.type if first.name is None else self._types[first.name]).dtype


def _check_allowed(operation: Operation, opset: str) -> None:
    """What Core ML refuses whatever the values: an operation younger than the program's opset, a tensor of rank 6.

    Palettes and scales of compressed constants may have more sides: they are never tensors of the running network.
    """
    since = SINCE.get(operation.type, opset)
    if opset in OPSETS and OPSETS.index(opset) < OPSETS.index(since):
        raise DamagedFileError(f"line {operation.line}: {operation}: {since} is the first to have it, this is {opset}")
    is_constant = operation.type.startswith("constexpr_")
    if not is_constant and any(kind.shape is not None and len(kind.shape) > MAX_RANK for _, kind in operation.outputs):
        raise DamagedFileError(f"line {operation.line}: {operation}: rank {MAX_RANK} is the highest that Core ML takes")


def _last_uses(program: Program) -> dict[str, int]:
    """The line that uses a value last; one that is returned is never done with."""
    uses = {
        argument.name: operation.line
        for operation in program.operations
        for arguments in operation.inputs.values()
        for argument in arguments
        if argument.name is not None
    }
    return uses | dict.fromkeys(program.outputs, -1)
