"""Taps of Core ML files, in the program evaluator."""

from pathlib import Path

import numpy as np

from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.interface import read_interface
from mvit_deploy.runtimes.coreml.network import Network
from mvit_deploy.runtimes.coreml.package import network_of, read_specification, weights_folder
from mvit_deploy.runtimes.coreml.pixels import image_tensor
from mvit_deploy.runtimes.coreml.program import Program, read_program
from mvit_deploy.runtimes.taps import TapOperation, Tapped


def tap(path: Path, image: np.ndarray) -> Tapped:
    """Values as the program declares them: fp16 results are rounded."""
    spec = read_specification(path)
    declared = read_interface(spec, path.suffix.removeprefix(".")).inputs[0]
    given, spec = {declared.name: image_tensor(image, declared)}, network_of(spec)
    if spec.WhichOneof("Type") != "mlProgram":
        return _tap_network(Network(spec), given)
    program = read_program(spec, weights_folder(path))
    operations = _flowing(program)
    names = [name for operation in operations for name in operation.outputs]
    values = Evaluator(program, "typed").run(given, taps=names)
    return Tapped(tuple(given), operations, _arrays(values) | given)


def _flowing(program: Program) -> tuple[TapOperation, ...]:
    """The operations that the image reaches; those that only unpack constants are left out."""
    reached, operations = set(program.inputs), []
    for operation in program.operations:
        names = {argument.name for arguments in operation.inputs.values() for argument in arguments}
        outputs = tuple(name for name, _ in operation.outputs)
        if names & reached:
            operations.append(TapOperation(operation.line, operation.type, tuple(sorted(names & reached)), outputs))
            reached |= set(outputs)
    return tuple(operations)


def _tap_network(network: Network, given: dict[str, np.ndarray]) -> Tapped:
    operations = tuple(
        TapOperation(layer.line, layer.type, tuple(layer.inputs), tuple(layer.outputs)) for layer in network.operations
    )
    names = [name for operation in operations for name in operation.outputs]
    return Tapped(tuple(given), operations, _arrays(network.run(given, taps=[*given, *names])))


def _arrays(values: dict[str, object]) -> dict[str, np.ndarray]:
    return {n: v for n, v in values.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f" and v.size}
