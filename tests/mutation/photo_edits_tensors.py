"""Faults of .onnx and .tflite files, as edits in place; see photo_edits."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from exporters import _tflite_metadata
from exporters._tflite_graph import OP, TYPE, Graph
from mvit_deploy import metadata
from mvit_deploy.runtimes.tflite_file import DETECTION, METADATA_NAME, add_metadata, pack, parse, read_metadata, schema
from mvit_deploy.spec import CLASSES, PROBABILITIES, Contract, Output
from tests.mutation.photo_faults import SHIFT, NoSuchPlace, axis_of, say
from tests.runtimes import suppressed_edits


class OnnxFile:
    def __init__(self, path: Path) -> None:
        self.path, self.model = path, onnx.load(path)
        self.graph = self.model.graph
        self.said = {entry.key: entry.value for entry in self.model.metadata_props}

    def save(self) -> None:
        helper.set_model_props(self.model, self.said)
        self.path.write_bytes(self.model.SerializeToString())

    def say(self, key: str, value: object) -> None:
        say(self.said, key, value)

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
        given = {output.name for output in self.graph.output}
        last = next((n for n in self.graph.node if n.op_type == "Softmax" and n.output[0] in given), None)
        if last is not None:
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

    def take(self, name: str, what: str, order: list[int] | None = None) -> None:
        """An output in another order along what it has: class, row, column, anchor, side. None: the other way round."""
        output = next((o for o in self.graph.output if o.name == name), None)
        if output is None:
            raise NoSuchPlace
        sizes = [each.dim_value for each in output.type.tensor_type.shape.dim]
        axis = axis_of(name, what, len(sizes), classes_last=False)
        for node in self.graph.node:
            node.output[:] = ["before_order" if each == name else each for each in node.output]
        indices = np.array(order or range(sizes[axis])[::-1], np.int64)
        self.graph.initializer.append(numpy_helper.from_array(indices, "order"))
        self.graph.node.append(helper.make_node("Gather", ["before_order", "order"], [name], axis=axis))

    def count_classes_from(self, number: int) -> None:
        """A map of classes, or the classes of detections, with a number more."""
        names = [output.name for output in self.graph.output if output.name == CLASSES]
        if not names:
            raise NoSuchPlace
        for node in self.graph.node:
            node.output[:] = ["before_count" if each == CLASSES else each for each in node.output]
        self.graph.initializer.append(numpy_helper.from_array(np.int32(number), "count"))
        self.graph.node.append(helper.make_node("Add", ["before_count", "count"], [CLASSES]))

    def set_rule(self, *, overlap: float) -> None:
        """Of non-maximum suppression."""
        node = next((each for each in self.graph.node if each.op_type == "NonMaxSuppression"), None)
        if node is None:
            raise NoSuchPlace
        self.graph.initializer.append(numpy_helper.from_array(np.array([overlap], np.float32), "other_overlap"))
        node.input[3] = "other_overlap"

    def move_zero_point(self) -> None:
        """Of an activation where it is dequantized; of weights in a file without integer activations."""
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        nodes = [node for node in self.graph.node if node.op_type == "DequantizeLinear" and len(node.input) == 3]
        activations = [node for node in nodes if node.input[0] not in held]
        for node in activations or nodes:
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
        graph = self.graph.graph
        values = ("mode", "task", "variant", "labels", "color_order", "value_range", "suppression", "about")
        height, width, classes = (*graph.tensors[graph.inputs[0]].shape[1:3], graph.tensors[graph.outputs[0]].shape[-1])
        contract = Contract(
            image_size=(int(height), int(width)),
            outputs=(Output("logits", (int(classes),)),),
            preprocessing=declared.preprocessing,
            **{name: getattr(declared, name) for name in values},
        )
        self.path.write_bytes(_tflite_metadata.add(content, contract, declared.precision))

    def say(self, key: str, value: object) -> None:
        say(self.said, key, value)

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
        makers = [self.graph.producers[int(index)] for index in self.graph.graph.outputs]
        found = [maker for maker in makers if self.graph.code_of(maker) == OP.SOFTMAX]
        if not found:
            raise NoSuchPlace
        return found[0]

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

    def take(self, name: str, what: str, order: list[int] | None = None) -> None:
        entries = {entry.name.decode(): int(entry.tensorIndex) for entry in self.graph.model.signatureDefs[0].outputs}
        if name not in entries:
            raise NoSuchPlace
        old = self.graph.graph.tensors[entries[name]]
        axis = axis_of(name, what, len(old.shape), classes_last=True)
        indices = np.array(order or range(int(old.shape[axis]))[::-1], np.int32)
        held = self.graph.add_tensor(b"order", indices.shape, TYPE.INT32, indices)
        result = self.graph.add_tensor(b"ordered", old.shape, old.type)
        made = schema.OperatorT()
        made.inputs, made.outputs = np.array([entries[name], held], np.int32), np.array([result], np.int32)
        made.builtinOptions, made.builtinOptionsType = schema.GatherOptionsT(), schema.BuiltinOptions.GatherOptions
        made.builtinOptions.axis = axis
        self.graph.set_code(made, OP.GATHER, 1)
        self.graph.operators.append(made)
        self.graph.replace_end(entries[name], result)

    def count_classes_from(self, number: int) -> None:
        raise NoSuchPlace  # the label file of its Metadata is what names them

    def set_rule(self, *, overlap: float) -> None:
        model = self.graph.model
        if not any(code.customCode == DETECTION for code in model.operatorCodes):
            raise NoSuchPlace
        suppressed_edits.with_options(model, nms_iou_threshold=overlap)

    def move_zero_point(self) -> None:
        """Of an activation that a convolution takes, whose range is even, so that half of it is lost."""
        tensors = self.graph.graph.tensors
        taken = {int(o.inputs[0]) for o in self.graph.operators if self.graph.code_of(o) == OP.CONV_2D}
        made = {int(o.outputs[0]) for o in self.graph.operators if self.graph.code_of(o) == OP.QUANTIZE}
        if not made:
            raise NoSuchPlace
        _move(min((tensors[index] for index in made & taken), key=lambda t: abs(int(t.quantization.zeroPoint[0]))))

    def move_input_zero_point(self) -> None:
        image = self.graph.graph.tensors[self.graph.graph.inputs[0]]
        if image.type == TYPE.FLOAT32:
            raise NoSuchPlace
        _move(image)


def _move(tensor: schema.TensorT) -> None:
    point = tensor.quantization.zeroPoint
    tensor.quantization.zeroPoint = np.where(point < 0, point + SHIFT, point - SHIFT * (tensor.type == TYPE.INT8))
    if tensor.type == TYPE.UINT8:
        tensor.quantization.zeroPoint = point + SHIFT
