"""What a file could say or compute otherwise, as edits of the model of an .onnx file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

Edit = Callable[[onnx.ModelProto], None]
PREFIX = "mvit_deploy."


def edited(path: Path, folder: Path, edit: Edit) -> Path:
    """A changed copy of a file, under its own name in a folder."""
    model = onnx.load(path)
    edit(model)
    target = folder / path.name
    target.write_bytes(model.SerializeToString())
    return target


def said(**values: str) -> Edit:
    """Metadata of ours with other values."""

    def edit(model: onnx.ModelProto) -> None:
        entries = {entry.key: entry.value for entry in model.metadata_props}
        helper.set_model_props(model, entries | {PREFIX + key: value for key, value in values.items()})

    return edit


def without(key: str) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        helper.set_model_props(model, {e.key: e.value for e in model.metadata_props if e.key != PREFIX + key})

    return edit


def without_any(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def taking_nhwc(model: onnx.ModelProto) -> None:
    """The picture's rows first, its channels last."""
    image = model.graph.input[0]
    channels, height, width = (dim.dim_value for dim in image.type.tensor_type.shape.dim[1:])
    for node in model.graph.node:
        node.input[:] = ["channels_first" if name == image.name else name for name in node.input]
    turn = helper.make_node("Transpose", [image.name], ["channels_first"], perm=[0, 3, 1, 2])
    model.graph.node.insert(0, turn)
    image.CopyFrom(helper.make_tensor_value_info(image.name, onnx.TensorProto.FLOAT, [1, height, width, channels]))


def giving_probabilities(model: onnx.ModelProto) -> None:
    """A softmax in the graph."""
    logits = model.graph.output[0]
    model.graph.node.append(helper.make_node("Softmax", [logits.name], ["probabilities"], axis=1))
    logits.name = "probabilities"


def calling_logits_probabilities(model: onnx.ModelProto) -> None:
    """The softmax that is missing."""
    _replace_output(model, "Identity", [])


def giving_nan(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "none"))
    _replace_output(model, "Mul", ["none"], name="logits")


def _replace_output(model: onnx.ModelProto, operator: str, others: list[str], name: str = "probabilities") -> None:
    output = model.graph.output[0]
    for node in model.graph.node:
        node.output[:] = ["before" if each == output.name else each for each in node.output]
    model.graph.node.append(helper.make_node(operator, ["before", *others], [name]))
    output.name = name


def with_free_batch(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


def with_free_size(model: onnx.ModelProto) -> None:
    for axis, name in ((2, "height"), (3, "width")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name


def with_another_bias(model: onnx.ModelProto) -> None:
    """The last layer's first bias, 0.01 more."""
    last = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
    bias = next(each for each in model.graph.initializer if each.name == last.input[2])
    values = numpy_helper.to_array(bias).copy()
    values[0] += 0.01
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
