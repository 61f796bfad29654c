"""Taps of TFLite files: LiteRT's reference of every tensor kept, without the delegate, which merges operations."""

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import open_file
from mvit_deploy.runtimes.taps import TapOperation, Tapped
from mvit_deploy.runtimes.tensors import prepare


def tap(path: Path, image: np.ndarray) -> Tapped:
    declared = open_file(path).interface.inputs[0]
    given = prepare(image[None], declared)
    try:
        interpreter = Interpreter(
            model_content=path.read_bytes(),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], given)
        interpreter.invoke()
    except (OSError, ValueError, RuntimeError) as error:
        raise DamagedFileError(f"LiteRT cannot run {path.name}: {error}") from error
    return _collected(interpreter)


def _collected(interpreter: Interpreter) -> Tapped:
    names = {detail["index"]: f"{detail['name']}#{detail['index']}" for detail in interpreter.get_tensor_details()}
    details = interpreter._get_ops_details()
    computed = {index for detail in details for index in detail["outputs"]}
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    flowing = computed | set(inputs)
    operations = tuple(
        TapOperation(
            line,
            detail["op_name"],
            tuple(names[index] for index in detail["inputs"] if index in flowing),
            tuple(names[index] for index in detail["outputs"]),
        )
        for line, detail in enumerate(details, start=1)
    )
    values = {names[index]: interpreter.get_tensor(index) for index in sorted(flowing)}
    floats = {name: value.astype(np.float32) for name, value in values.items() if value.dtype.kind == "f"}
    return Tapped(tuple(names[index] for index in inputs), operations, floats)
