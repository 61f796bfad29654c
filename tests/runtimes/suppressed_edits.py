"""Ways to damage or falsify a detector's file: its metadata, the ONNX graph, the TFLite graph, the Core ML pipeline."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from flatbuffers import flexbuffers
from onnx import helper, numpy_helper

from mvit_deploy.metadata import PREFIX
from mvit_deploy.runtimes.coreml.package import pb, read_specification, specification_path
from mvit_deploy.runtimes.tflite_file import METADATA_NAME, pack, parse, schema
from mvit_deploy.runtimes.tflite_metadata import FIELD

LABELS = f"{PREFIX}labels"


def with_entries(file: Path, target: Path, entries: dict[str, object]) -> Path:
    """A copy with entries of the metadata replaced."""
    if file.suffix == ".onnx":
        network = onnx.load(file)
        for entry in network.metadata_props:
            entry.value = str(entries.get(entry.key, entry.value))
        onnx.save(network, target)
    elif file.suffix == ".tflite":
        network = without_task_metadata(file)
        place = next(each.buffer for each in network.metadata if each.name == METADATA_NAME.encode())
        said = json.loads(bytes(network.buffers[place].data)) | entries
        network.buffers[place].data = np.frombuffer(json.dumps(said).encode(), np.uint8)
        target.write_bytes(pack(network))
    else:
        change_core_ml(file, target, lambda spec: spec.description.metadata.userDefined.update(entries))
    return target


def without_task_metadata(file: Path) -> schema.ModelT:
    """A TFLite file's network, to be changed. Its TFLite Metadata are taken out: they speak of outputs and labels too,
    and writing the network again leaves out the file that they name."""
    network = parse(file.read_bytes())
    network.metadata = [each for each in network.metadata if each.name != FIELD.encode()]
    return network


def constant(network: onnx.ModelProto, name: str, value: object) -> str:
    """Set a constant, or add it."""
    network.graph.initializer.extend([numpy_helper.from_array(np.array(value), name)])
    for each in [each for each in network.graph.initializer if each.name == name][:-1]:
        network.graph.initializer.remove(each)
    return name


def behind(network: onnx.ModelProto, output: str, operator: str, *constants: object, **attributes: object) -> None:
    """Put an operator behind an output, under its name."""
    maker = next(node for node in network.graph.node if output in node.output)
    maker.output[list(maker.output).index(output)] = "before"
    names = [constant(network, f"constant{place}", value) for place, value in enumerate(constants)]
    network.graph.node.append(helper.make_node(operator, ["before", *names], [output], **attributes))


def first_row(network: onnx.ModelProto, output: str) -> None:
    behind(network, output, "Slice", np.array([0]), np.array([1]), np.array([0]))


def operator(network: schema.ModelT) -> schema.OperatorT:
    """The one that sorts boxes out."""
    return network.subgraphs[0].operators[-1]


def with_options(network: schema.ModelT, **changed: object) -> None:
    options = flexbuffers.Loads(bytes(operator(network).customOptions)) | changed
    operator(network).customOptions = np.frombuffer(bytes(flexbuffers.Dumps(options)), np.uint8)


def with_raw_options(network: schema.ModelT, raw: bytes | None) -> None:
    operator(network).customOptions = None if raw is None else np.frombuffer(raw, np.uint8)


def doubled(network: schema.ModelT, name: bytes) -> None:
    """An output that is the operator's, added to itself."""
    graph = network.subgraphs[0]
    entry = next(entry for entry in network.signatureDefs[0].outputs if entry.name == name)
    tensor, code, add = schema.TensorT(), schema.OperatorCodeT(), schema.OperatorT()
    tensor.name, tensor.shape, tensor.buffer = b"sum", graph.tensors[entry.tensorIndex].shape, 0
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    graph.tensors.append(tensor)
    network.operatorCodes.append(code)
    add.inputs, add.outputs = np.array([entry.tensorIndex] * 2, np.int32), np.array([len(graph.tensors) - 1], np.int32)
    add.opcodeIndex = len(network.operatorCodes) - 1
    add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph.operators.append(add)
    graph.outputs = np.where(graph.outputs == entry.tensorIndex, add.outputs[0], graph.outputs).astype(np.int32)
    entry.tensorIndex = int(add.outputs[0])


def exchange_outputs(network: schema.ModelT) -> None:
    """Classes for scores, which have the same shape."""
    classes, scores = network.signatureDefs[0].outputs[1:3]
    classes.tensorIndex, scores.tensorIndex = scores.tensorIndex, classes.tensorIndex


def with_inputs(network: schema.ModelT, place: int, index: int) -> None:
    given = operator(network).inputs.copy()
    given[place] = index
    operator(network).inputs = given


def with_anchors(network: schema.ModelT, anchors: np.ndarray) -> None:
    graph, tensor, buffer = network.subgraphs[0], schema.TensorT(), schema.BufferT()
    buffer.data = np.frombuffer(anchors.astype(np.float32).tobytes(), np.uint8)
    tensor.name, tensor.shape, tensor.buffer = b"others", np.array(anchors.shape, np.int32), len(network.buffers)
    network.buffers.append(buffer)
    graph.tensors.append(tensor)
    with_inputs(network, 2, len(graph.tensors) - 1)


def change_core_ml(file: Path, target: Path, change: Callable[[pb.Model], object]) -> None:
    (shutil.copytree if file.is_dir() else shutil.copy)(file, target)
    spec = read_specification(target)
    change(spec)
    specification_path(target).write_bytes(spec.SerializeToString())


def stage(spec: pb.Model) -> object:
    return spec.pipeline.models[1].nonMaximumSuppression


def without_labels(spec: pb.Model, kept: int) -> None:
    """Of the metadata, which then say nothing of how many the suppression has to name."""
    del spec.description.metadata.userDefined[LABELS]
    del stage(spec).stringClassLabels.vector[kept:]


def nested(spec: pb.Model) -> None:
    inner = pb.Model.FromString(spec.SerializeToString())
    spec.pipeline.models[0].CopyFrom(inner)
