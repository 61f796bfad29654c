"""ONNX files that end in NonMaxSuppression, on ONNX Runtime; what enters it is made an output too."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from mvit_deploy.detection import Detections
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import open_file
from mvit_deploy.runtimes.suppressed import Suppressed
from mvit_deploy.runtimes.tensors import prepare
from mvit_deploy.spec import Suppression

_OUTPUTS = ("boxes", "scores", "classes")


def detect(path: Path, pixels: np.ndarray) -> Suppressed:
    declared = open_file(path).interface.inputs[0]
    model = onnx.load(str(path))  # ONNX Runtime has just opened it
    node = _suppression(model.graph)
    shown = list(node.input[:2])
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shown)
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        rows = [session.run([*_OUTPUTS, *shown], {declared.name: prepare(image[None], declared)}) for image in pixels]
    except Exception as error:  # the classes that it raises are private to its C++ binding
        raise DamagedFileError(f"onnxruntime cannot run {path.name}: {error}") from error
    return Suppressed(
        rule=_rule(model.graph, node),
        boxes=np.concatenate([row[3] for row in rows]),
        scores=np.concatenate([row[4] for row in rows]).transpose(0, 2, 1),  # both of rank 3, as the operator demands
        detections=tuple(Detections(*row[:2], row[2].astype(np.int64)) for row in rows),
    )


def _suppression(graph: onnx.GraphProto) -> onnx.NodeProto:
    found = [node for node in graph.node if node.op_type == "NonMaxSuppression"]
    if len(found) != 1 or len(found[0].input) != 5 or found[0].attribute:
        raise DamagedFileError(f"{len(found)} NonMaxSuppression of our form in the file, not 1")
    return found[0]


def _rule(graph: onnx.GraphProto, node: onnx.NodeProto) -> Suppression:
    """Raises: DamagedFileError when a number is computed and not constant, or is none."""
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    if not set(node.input[2:]) <= set(constants):
        raise DamagedFileError("the thresholds of NonMaxSuppression are not constant")
    values = [constants[name] for name in node.input[2:]]
    if any(value.size != 1 for value in values):
        raise DamagedFileError("a threshold of NonMaxSuppression is not one number")
    kept, overlap, score = (value.item() for value in values)
    return Suppression(round(score, 6), round(overlap, 6), kept)
