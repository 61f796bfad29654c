"""Faults of the last metre, as edits of a shipped file in place: what it says of itself, how it ends, where it begins.

Verbs are the same for every format, so that one table of faults serves all of them: say, set_labels, swap_colors,
swap_stem, shift_image, scale_image, transpose_image, drop_softmax, add_softmax, move_zero_point. A verb that a format
or a file has no place for raises NoSuchPlace.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporters import _tflite_metadata
from exporters._tflite_graph import OP, TYPE, Graph
from mvit_deploy import metadata
from mvit_deploy.runtimes.coreml.package import read_specification, specification_path
from mvit_deploy.runtimes.tflite_file import METADATA_NAME, add_metadata, pack, parse, read_metadata, schema
from mvit_deploy.spec import PROBABILITIES, Contract, Output
from tests.mutation.package import Package

BGR = 30  # ImageFeatureType.ColorSpace
SHIFT = 20  # of a zero point, of 256 levels


class NoSuchPlace(Exception):
    """The file has nothing that could be wrong in this way."""


class OnnxFile:
    def __init__(self, path: Path) -> None:
        self.path, self.model = path, onnx.load(path)
        self.graph = self.model.graph
        self.said = {entry.key: entry.value for entry in self.model.metadata_props}

    def save(self) -> None:
        helper.set_model_props(self.model, self.said)
        self.path.write_bytes(self.model.SerializeToString())

    def say(self, key: str, value: object) -> None:
        _say(self.said, key, value)

    def set_labels(self, labels: list[str]) -> None:
        self.say("labels", labels)

    def swap_colors(self) -> None:
        self.say("color_order", "BGR")

    def swap_stem(self) -> None:
        """The weights of the first convolution with red and blue exchanged, as a checkpoint of the other order has."""
        producers = {name: node for node in self.graph.node for name in node.output}
        name = next(node for node in self.graph.node if node.op_type == "Conv").input[1]
        while name in producers:
            name = producers[name].input[0]
        weight = next(tensor for tensor in self.graph.initializer if tensor.name == name)
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, ::-1].copy(), name))

    def _at_the_start(self, operator: str, *constants: np.ndarray, **attributes: object) -> None:
        names = [f"fault_{place}" for place in range(len(constants))]
        self.graph.initializer.extend(map(numpy_helper.from_array, constants, names))
        for node in self.graph.node:
            node.input[:] = ["changed" if name == "image" else name for name in node.input]
        self.graph.node.insert(0, helper.make_node(operator, ["image", *names], ["changed"], **attributes))

    def shift_image(self, by: float) -> None:
        self._at_the_start("Add", np.float32(by).reshape(1))

    def scale_image(self, by: float) -> None:
        self._at_the_start("Mul", np.float32(by).reshape(1))

    def normalize_image(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._at_the_start("Sub", np.array(mean, np.float32).reshape(1, 3, 1, 1))
        self.graph.node[0].output[0] = "centred"
        self.graph.initializer.append(numpy_helper.from_array(np.array(std, np.float32).reshape(1, 3, 1, 1), "std"))
        self.graph.node.insert(1, helper.make_node("Div", ["centred", "std"], ["changed"]))

    def transpose_image(self) -> None:
        self._at_the_start("Transpose", perm=[0, 1, 3, 2])

    def drop_softmax(self) -> None:
        """The softmax goes and the file still says probabilities; one that gives logits now says probabilities too."""
        last = self.graph.node[-1]
        if last.op_type == "Softmax":
            last.op_type = "Identity"
            del last.attribute[:]
        else:
            self._end("Identity", PROBABILITIES)

    def add_softmax(self) -> None:
        """One more than the file says."""
        self._end("Softmax", self.graph.output[0].name)

    def _end(self, operator: str, name: str) -> None:
        output = self.graph.output[0]
        for node in self.graph.node:
            node.output[:] = ["before" if each == output.name else each for each in node.output]
        self.graph.node.append(helper.make_node(operator, ["before"], [name]))
        output.name = name

    def move_zero_point(self) -> None:
        """Of an activation where it is dequantized; of weights in a file without integer activations."""
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        nodes = [node for node in self.graph.node if node.op_type == "DequantizeLinear" and len(node.input) == 3]
        activations = [node for node in nodes if node.input[0] not in held]
        for node in activations[len(activations) // 2 :] or nodes:
            point = held[node.input[2]]
            moved = numpy_helper.from_array((point.astype(np.int64) + SHIFT).astype(point.dtype), "moved_zero_point")
            self.graph.initializer.append(moved)
            node.input[2] = moved.name
            return
        raise NoSuchPlace


class TfliteFile:
    """TFLite Metadata and label file are written anew, so that they say what the rest of the file says."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self.path, self.graph = path, Graph(parse(content))
        self.said = json.loads(read_metadata(content, METADATA_NAME))

    def save(self) -> None:
        content = pack(self.graph.finished())
        content = add_metadata(content, METADATA_NAME, json.dumps(self.said, sort_keys=True).encode())
        declared = metadata.read(self.said)
        graph, values = self.graph.graph, ("mode", "task", "variant", "labels", "color_order", "value_range", "about")
        height, width, classes = (*graph.tensors[graph.inputs[0]].shape[1:3], graph.tensors[graph.outputs[0]].shape[-1])
        contract = Contract(
            image_size=(int(height), int(width)),
            outputs=(Output("logits", (int(classes),)),),
            preprocessing=declared.preprocessing,
            **{name: getattr(declared, name) for name in values},
        )
        self.path.write_bytes(_tflite_metadata.add(content, contract, declared.precision))

    def say(self, key: str, value: object) -> None:
        _say(self.said, key, value)

    def set_labels(self, labels: list[str]) -> None:
        self.say("labels", labels)

    def swap_colors(self) -> None:
        self.say("color_order", "BGR")

    def swap_stem(self) -> None:
        convolution = next(o for o in self.graph.operators if self.graph.code_of(o) == OP.CONV_2D)
        index = int(convolution.inputs[1])
        if index in self.graph.producers:
            index = int(self.graph.producers[index].inputs[0])
        tensor = self.graph.graph.tensors[index]
        buffer = self.graph.model.buffers[tensor.buffer]
        kind = {TYPE.FLOAT32: np.float32, TYPE.FLOAT16: np.float16, TYPE.INT8: np.int8}[tensor.type]
        values = np.asarray(buffer.data, np.uint8).view(kind).reshape(tensor.shape)[..., ::-1]
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)

    def _at_the_start(self, code: int, options: object, kind: int, constant: np.ndarray, type_: int) -> None:
        image = int(self.graph.graph.inputs[0])
        if self.graph.graph.tensors[image].type != TYPE.FLOAT32:
            raise NoSuchPlace
        changed = self.graph.add_tensor(b"changed", self.graph.graph.tensors[image].shape, TYPE.FLOAT32)
        for operator in self.graph.operators:
            operator.inputs = np.where(operator.inputs == image, changed, operator.inputs).astype(np.int32)
        held = self.graph.add_tensor(b"fault", constant.shape, type_, constant)
        made = schema.OperatorT()
        made.inputs, made.outputs = np.array([image, held], np.int32), np.array([changed], np.int32)
        made.builtinOptions, made.builtinOptionsType = options, kind
        self.graph.set_code(made, code, 1)
        self.graph.operators.insert(0, made)

    def shift_image(self, by: float) -> None:
        kind = schema.BuiltinOptions.AddOptions
        self._at_the_start(OP.ADD, schema.AddOptionsT(), kind, np.array([by], np.float32), TYPE.FLOAT32)

    def scale_image(self, by: float) -> None:
        kind = schema.BuiltinOptions.MulOptions
        self._at_the_start(OP.MUL, schema.MulOptionsT(), kind, np.array([by], np.float32), TYPE.FLOAT32)

    def transpose_image(self) -> None:
        kind = schema.BuiltinOptions.TransposeOptions
        order = np.array([0, 2, 1, 3], np.int32)
        self._at_the_start(OP.TRANSPOSE, schema.TransposeOptionsT(), kind, order, TYPE.INT32)

    def _last_softmax(self) -> schema.OperatorT:
        last = self.graph.producers[int(self.graph.graph.outputs[0])]
        if self.graph.code_of(last) != OP.SOFTMAX:
            raise NoSuchPlace
        return last

    def drop_softmax(self) -> None:
        last = self._last_softmax()
        self.graph.operators.remove(last)
        self.graph.replace_end(int(last.outputs[0]), int(last.inputs[0]))

    def add_softmax(self) -> None:
        last = self._last_softmax()
        again = schema.OperatorT()
        result = self.graph.add_tensor(b"twice", self.graph.graph.tensors[last.outputs[0]].shape, TYPE.FLOAT32)
        again.inputs, again.outputs = np.array(last.outputs, np.int32), np.array([result], np.int32)
        again.opcodeIndex, again.builtinOptions = last.opcodeIndex, last.builtinOptions
        again.builtinOptionsType = last.builtinOptionsType
        self.graph.operators.append(again)
        self.graph.replace_end(int(last.outputs[0]), result)

    def move_zero_point(self) -> None:
        """Of integers that are only moved: what they stood for before and behind the operator is not the same."""
        tensors = self.graph.graph.tensors
        moving = [
            operator
            for operator in self.graph.operators
            if self.graph.code_of(operator) in (OP.RESHAPE, OP.TRANSPOSE)
            and tensors[operator.inputs[0]].type == tensors[operator.outputs[0]].type == TYPE.INT8
        ]
        if not moving:
            raise NoSuchPlace
        tensors[moving[0].outputs[0]].quantization.zeroPoint += SHIFT

    def move_input_zero_point(self) -> None:
        image = self.graph.graph.tensors[self.graph.graph.inputs[0]]
        if image.type == TYPE.FLOAT32:
            raise NoSuchPlace
        image.quantization.zeroPoint += SHIFT


class ProgramFile:
    """An .mlpackage that holds an ML Program."""

    def __init__(self, path: Path) -> None:
        self.path, self.package = path, Package(path)
        self.said = self.package.spec.description.metadata.userDefined

    def save(self) -> None:
        self.package.save()

    def say(self, key: str, value: object) -> None:
        _say(self.said, key, value)

    def set_labels(self, labels: list[str]) -> None:
        """In the classifier itself: apps see no other."""
        (classify,) = self.package.operations("classify")
        values = classify.inputs["classes"].arguments[0].value.immediateValue.list.values
        for value, label in zip(values, labels, strict=True):
            value.immediateValue.tensor.strings.values[0] = label

    def swap_colors(self) -> None:
        self.package.spec.description.input[0].type.imageType.colorSpace = BGR

    def swap_stem(self) -> None:
        convolution = self.package.operations("conv")[0]
        name = self.package.bound(convolution, "weight")
        shape, maker = self.package.shape(name), self.package.operation(name)
        holder, key = convolution, "weight"
        if maker.type != "const":
            holder, key = (
                maker,
                next(key for key in ("quantized_data", "data") if key in (*maker.attributes, *maker.inputs)),
            )
        self.package.edit(holder, key, lambda flat: flat.reshape(shape)[:, ::-1].ravel())

    def _scaling(self) -> SimpleNamespace:
        scaling = self.package.operations("mul")[0]
        name = scaling.outputs[0].name
        takers = [
            o for o in self.package.operations() if any(b.name == name for v in o.inputs.values() for b in v.arguments)
        ]
        return SimpleNamespace(operation=scaling, name=name, taker=takers[0])

    def shift_image(self, by: float) -> None:
        scaling = self._scaling()
        self.package.insert(scaling.taker, "add", scaling.name, y=np.float32(by))

    def scale_image(self, by: float) -> None:
        scaling = self._scaling().operation
        self.package.give(scaling, "y", np.float32(self.package.get(scaling, "y") * by))

    def transpose_image(self) -> None:
        scaling = self._scaling()
        self.package.insert(scaling.taker, "transpose", scaling.name, perm=np.array([0, 1, 3, 2], np.int32))

    def drop_softmax(self) -> None:
        last = self.package.operations("softmax")[-1]
        self.package.redirect(last.outputs[0].name, self.package.bound(last, "x"))
        self.package.remove(last)

    def add_softmax(self) -> None:
        last = self.package.operations("softmax")[-1]
        name = last.outputs[0].name
        takers = [
            o for o in self.package.operations() if any(b.name == name for v in o.inputs.values() for b in v.arguments)
        ]
        self.package.insert(takers[0], "softmax", name, axis=np.int32(-1))

    def move_zero_point(self) -> None:
        makers = self.package.operations("dequantize")
        if not makers:
            raise NoSuchPlace
        maker = makers[len(makers) // 2]
        self.package.edit(maker, "zero_point", lambda flat: flat.astype(np.int64) + SHIFT)


class NetworkFile:
    """An .mlmodel that holds a neural network."""

    def __init__(self, path: Path) -> None:
        self.path, self.spec = path, read_specification(path)
        self.said, self.network = self.spec.description.metadata.userDefined, self.spec.neuralNetworkClassifier

    def save(self) -> None:
        specification_path(self.path).write_bytes(self.spec.SerializeToString(deterministic=True))

    def say(self, key: str, value: object) -> None:
        _say(self.said, key, value)

    def set_labels(self, labels: list[str]) -> None:
        self.network.stringClassLabels.vector[:] = labels

    def swap_colors(self) -> None:
        self.spec.description.input[0].type.imageType.colorSpace = BGR

    def swap_stem(self) -> None:
        layer = next(layer.convolution for layer in self.network.layers if layer.WhichOneof("layer") == "convolution")
        shape = (layer.outputChannels, layer.kernelChannels, *layer.kernelSize)
        held = layer.weights
        for field, kind in (("float16Value", np.float16), ("rawValue", np.uint8), ("int8RawValue", np.int8)):
            if getattr(held, field):
                swapped = np.frombuffer(getattr(held, field), kind).reshape(shape)[:, ::-1]
                setattr(held, field, swapped.tobytes())
                return
        held.floatValue[:] = np.array(held.floatValue, np.float32).reshape(shape)[:, ::-1].ravel()

    def shift_image(self, by: float) -> None:
        scaler = self.network.preprocessing[0].scaler
        scaler.redBias, scaler.greenBias, scaler.blueBias = by, by, by

    def scale_image(self, by: float) -> None:
        self.network.preprocessing[0].scaler.channelScale *= by

    def transpose_image(self) -> None:
        first = self.network.layers[0]
        layer = type(first)(name="turned", input=[first.input[0]], output=["turned"])
        layer.transpose.axes.extend([0, 1, 3, 2])
        first.input[0] = "turned"
        self.network.layers.insert(0, layer)

    def drop_softmax(self) -> None:
        last = self.network.layers[-1]
        if last.WhichOneof("layer") not in ("softmax", "softmaxND"):
            raise NoSuchPlace
        last.activation.linear.alpha = 1.0  # of a oneof: the softmax goes

    def add_softmax(self) -> None:
        last = self.network.layers[-1]
        again = self.network.layers.add()
        again.CopyFrom(last)
        again.name, again.input[0], last.output[0] = "twice", "once", "once"

    def move_zero_point(self) -> None:
        raise NoSuchPlace


def _say(said: dict[str, str], key: str, value: object) -> None:
    said[metadata.PREFIX + key] = value if isinstance(value, str) else json.dumps(value)


FILES = {".onnx": OnnxFile, ".tflite": TfliteFile, ".mlpackage": ProgramFile, ".mlmodel": NetworkFile}


def opened(path: Path) -> OnnxFile | TfliteFile | ProgramFile | NetworkFile:
    return FILES[path.suffix](path)
