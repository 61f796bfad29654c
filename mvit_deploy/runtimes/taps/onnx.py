"""Taps of ONNX files: every node's outputs made outputs of the graph, ONNX Runtime without its optimizations."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import open_file
from mvit_deploy.runtimes.taps import TapOperation, Tapped
from mvit_deploy.runtimes.tensors import prepare


def tap(path: Path, image: np.ndarray) -> Tapped:
    declared = open_file(path).interface.inputs[0]
    model = onnx.load(str(path))
    constants = {tensor.name for tensor in model.graph.initializer}
    operations = tuple(
        TapOperation(line, node.op_type, tuple(i for i in node.input if i and i not in constants), tuple(node.output))
        for line, node in enumerate(model.graph.node, start=1)
    )
    shown = {output.name for output in model.graph.output}
    names = [name for operation in operations for name in operation.outputs if name]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in shown)
    given = {declared.name: prepare(image[None], declared)}
    try:
        values = _session(model).run(names, given)
    except Exception as error:  # the classes that it raises are private to its C++ binding
        raise DamagedFileError(f"onnxruntime cannot run {path.name}: {error}") from error
    floats = {name: v.astype(np.float32) for name, v in zip(names, values, strict=True) if v.dtype.kind == "f"}
    return Tapped(tuple(given), operations, floats | given)


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
