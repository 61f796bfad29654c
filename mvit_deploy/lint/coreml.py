"""Lint of Core ML files: an ML Program's operations and types, against Core ML and what is known of the Neural Engine.

Core ML decides on the device what runs where; Apple documents types and shapes, others have measured the rest.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mvit_deploy.lint import Findings, LintResult, Operator, coreml_network, supported
from mvit_deploy.lint.coreml_description import check_description
from mvit_deploy.lint.rules import NEURAL_ENGINE
from mvit_deploy.runtimes.coreml.package import network_of, read_specification, weights_folder
from mvit_deploy.runtimes.coreml.program import UNKNOWN_SIDE, Argument, Operation, Program, TensorType, read_program

_TRANSPOSES = ("transpose",)
_RESHAPES = ("reshape", "squeeze", "expand_dims", "flatten2d")
_UNPACKS = "constexpr_"  # what the names of operations begin with that unpack stored weights
_WIDE = ("fp32", "fp64")
_SLICES = ("slice_by_index", "slice_by_size")
_IMAGE_RANK = 4  # NCHW


def lint(path: Path) -> LintResult:
    """Hold an .mlpackage or .mlmodel to the rules. Raises: DamagedFileError."""
    spec = network_of(read_specification(path))
    if spec.WhichOneof("Type") != "mlProgram":
        return coreml_network.lint(spec)
    return _linted(spec, read_program(spec, weights_folder(path)))


def _linted(spec: Any, program: Program) -> LintResult:
    operators = [Operator(index, o.type, o.name) for index, o in enumerate(program.operations)]
    run = [(o, operator) for o, operator in zip(program.operations, operators, strict=True) if not _unpacks(o)]
    found = Findings([operator for _, operator in run])
    listed = check_description(spec, found)
    values = _types(program)
    for operation, operator in run:
        _check_types(operation, operator, found, values, sizes_are_listed=listed)
        _check_neural_engine(operation, operator, program, values, found)
    return found.result(operators=operators, transposes=_TRANSPOSES, reshapes=_RESHAPES, consumers=(NEURAL_ENGINE,))


def _unpacks(operation: Operation) -> bool:
    """Whether it only unpacks stored weights, which happens before the program runs."""
    return operation.type.startswith(_UNPACKS) and operation.type not in supported.ANE_NO_PATH


def _types(program: Program) -> dict[str, TensorType]:
    """The declared type of every value."""
    types = dict(program.inputs) | {name: constant.type for name, constant in program.constants.items()}
    return types | {name: kind for operation in program.operations for name, kind in operation.outputs}


def _type(argument: Argument, values: dict[str, TensorType]) -> TensorType:
    return argument.constant.type if argument.name is None else values[argument.name]


def _check_types(
    operation: Operation,
    operator: Operator,
    found: Findings,
    values: dict[str, TensorType],
    *,
    sizes_are_listed: bool,
) -> None:
    """sizes_are_listed: the inputs have some shapes each of which is compiled, so that open sides are none."""
    taken = [_type(argument, values) for arguments in operation.inputs.values() for argument in arguments]
    for name, kind in operation.outputs:
        if kind.shape is None:
            continue
        if len(kind.shape) > supported.CORE_ML_RANK:
            found.add("coreml-rank", operator, tensor=name, what=str(kind))
        # What is open from the inputs on is told there, once.
        is_new = not any(each.shape is not None and UNKNOWN_SIDE in each.shape for each in taken)
        if UNKNOWN_SIDE in kind.shape[1:] and is_new and not sizes_are_listed:
            found.add("coreml-free-size", operator, tensor=name, what=str(kind))


def _check_neural_engine(
    operation: Operation, operator: Operator, program: Program, values: dict[str, TensorType], found: Findings
) -> None:
    results = [kind for _, kind in operation.outputs]
    if any(kind.dtype in _WIDE for kind in results) and operation.type != "cast":
        found.add("ane-float32", operator, what=str(results[0]))
    if operation.type in supported.ANE_NO_PATH:
        found.add("ane-operation", operator)
    if operation.type in supported.ANE_NEWER:
        found.add("ane-generation", operator)
    if any(_is_too_large(kind) for kind in results):
        found.add("ane-size", operator, what=str(results[0]))
    if operation.type in supported.ANE_PRODUCTS:
        found.add("ane-product", operator)
    if operation.type in supported.ANE_TABLES:
        found.add("ane-table", operator)
    if operation.type == "conv":
        height, width = _kernel(operation, values)
        if width > supported.ANE_KERNEL_WIDTH or height > supported.ANE_KERNEL_HEIGHT:
            found.add("ane-kernel", operator, what=f"{height}x{width}")
    if operation.type in _SLICES and _begins_inside_last_axis(operation, program):
        found.add("ane-slice", operator)


def _kernel(operation: Operation, values: dict[str, TensorType]) -> tuple[int, int]:
    """Height and width of a convolution's weights (O, I/groups, *kernel)."""
    weights = [_type(argument, values).shape or () for argument in operation.inputs.get("weight", ())]
    height, width = [1, 1, *(weights[0][2:] if weights else ())][-2:]
    return height, width


def _is_too_large(kind: TensorType) -> bool:
    if kind.shape is None or len(kind.shape) != _IMAGE_RANK:
        return False
    _, channels, height, width = kind.shape
    return channels > supported.ANE_CHANNELS or max(height, width) > supported.ANE_WIDTH


def _begins_inside_last_axis(operation: Operation, program: Program) -> bool:
    """Whether a slice leaves out the beginning of the last axis, as far as the file says where it begins."""
    begin, ignored = _value(operation, "begin", program), _value(operation, "begin_mask", program)
    if begin is None or not np.size(begin):
        return False
    is_ignored = ignored is not None and bool(np.ravel(ignored)[-1])
    return not is_ignored and int(np.ravel(begin)[-1]) != 0


def _value(operation: Operation, key: str, program: Program) -> object:
    """A constant argument; None where it is left out or computed."""
    if key not in operation.inputs:
        return None
    argument = operation.inputs[key][0]
    constant = argument.constant if argument.name is None else program.constants.get(argument.name)
    return None if constant is None else constant.value
