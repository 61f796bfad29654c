"""Shipped files that are edited, made foreign, or broken, for the commands that read them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mvit_deploy.metadata import PREFIX
from mvit_deploy.runtimes.coreml.package import pb, read_specification, specification_path
from mvit_deploy.runtimes.tflite_file import METADATA_NAME, pack, parse
from mvit_deploy.runtimes.tflite_metadata import FIELD


def edited_onnx(source: Path, target: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """A copy in which something was changed."""
    model = onnx.load(str(source))
    change(model)
    onnx.save(model, str(target))
    return target


def saying(source: Path, target: Path, **entries: str | None) -> Path:
    """A copy of an ONNX file with other metadata; None takes an entry out."""

    def change(model: onnx.ModelProto) -> None:
        found = {entry.key: entry.value for entry in model.metadata_props}
        found |= {PREFIX + key: value for key, value in entries.items()}
        del model.metadata_props[:]
        helper.set_model_props(model, {key: value for key, value in found.items() if value is not None})

    return edited_onnx(source, target, change)


def without_metadata(source: Path, folder: Path) -> Path:
    """A copy, as another tool would have written it: all that this project or the platform's tools read taken out."""
    target = folder / f"foreign{source.suffix}"
    if source.suffix == ".onnx":
        return edited_onnx(source, target, lambda model: model.ClearField("metadata_props"))
    if source.suffix == ".tflite":
        content = parse(source.read_bytes())
        content.metadata = [entry for entry in content.metadata if entry.name.decode() not in (METADATA_NAME, FIELD)]
        target.write_bytes(pack(content))
        return target
    _copy(source, target)
    spec = read_specification(target)
    spec.description.metadata.ClearField("userDefined")
    specification_path(target).write_bytes(spec.SerializeToString())
    return target


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def two_inputs(path: Path) -> Path:
    """A foreign ONNX file: left (?, 4) @ weight (4, 3) + right (3), and an operator of another domain."""
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "weight")
    nodes = [
        helper.make_node("MatMul", ["left", "weight"], ["product"]),
        helper.make_node("Add", ["product", "right"], ["sum"]),
        helper.make_node("Inverse", ["sum"], ["result"], domain="com.microsoft"),
    ]
    inputs = [
        helper.make_tensor_value_info("left", TensorProto.FLOAT, ["batch", 4]),
        helper.make_tensor_value_info("right", TensorProto.INT64, [3]),
    ]
    outputs = [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph(nodes, "two", inputs, outputs, [weight], doc_string="adds \x1b[31mred")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, producer_name="by hand", ir_version=9), str(path))
    return path


def no_inputs(path: Path) -> Path:
    """A foreign ONNX file that gives a constant."""
    node = helper.make_node("Constant", [], ["pi"], value=numpy_helper.from_array(np.array([3.14], np.float32)))
    outputs = [helper.make_tensor_value_info("pi", TensorProto.FLOAT, [1])]
    onnx.save(helper.make_model(helper.make_graph([node], "one", [], outputs)), str(path))
    return path


def regressor(path: Path) -> Path:
    """A foreign .mlmodel: a linear regression of three numbers, from iOS 11 on."""
    spec = pb.Model(specificationVersion=1)
    spec.description.metadata.author = "somebody"
    for feature, names in ((spec.description.input, ("a", "b", "c")), (spec.description.output, ("y",))):
        for name in names:
            feature.add(name=name).type.doubleType.SetInParent()
    spec.glmRegressor.weights.add(value=[1.0, 2.0, 3.0])
    path.write_bytes(spec.SerializeToString())
    return path
