"""Small files made by hand: a sound one of each format, and one for each rule that breaks it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from mvit_deploy.runtimes.coreml.package import pb
from mvit_deploy.runtimes.tflite_file import pack, schema

# ONNX


@dataclass(frozen=True)
class Graph:
    """A chain of operators, by type, each with its attributes; a two-pixel convolution comes first."""

    operators: tuple[tuple[str, dict[str, object]], ...] = (("MaxPool", {"kernel_shape": [2, 2]}),)
    shape: tuple[int | str, ...] = (1, 3, 8, 8)
    element: int = TensorProto.FLOAT
    domain: str = ""
    opset: int = 15
    ir: int = 8
    is_external: bool = False

    def write(self, folder: Path) -> Path:
        kind = helper.tensor_dtype_to_np_dtype(self.element)
        kernel = numpy_helper.from_array(np.ones((3, 3, 1, 1), kind), "kernel")
        nodes = [helper.make_node("Conv", ["image", "kernel"], ["value0"])]
        for place, (type_, attributes) in enumerate(self.operators):
            names = [f"value{place}"], [f"value{place + 1}"]
            nodes.append(helper.make_node(type_, *names, domain=self.domain, **attributes))
        given = helper.make_tensor_value_info("image", self.element, self.shape)
        graph = helper.make_graph(
            nodes, "chain", [given], [helper.make_empty_tensor_value_info(nodes[-1].output[0])], [kernel]
        )
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(self.domain, 1)] if self.domain else []
        model = helper.make_model(graph, opset_imports=imports, ir_version=self.ir)
        path = folder / "chain.onnx"
        if self.is_external:
            external_data_helper.convert_model_to_external_data(model, location="chain.data", size_threshold=0)
        onnx.save(model, path)
        return path


def _suppression(folder: Path) -> Path:
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 6, 4])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2, 6])
    found = helper.make_tensor_value_info("found", TensorProto.INT64, ["count", 3])
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["found"])
    graph = helper.make_graph([node], "detections", [boxes, scores], [found])
    path = folder / "detections.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    return path


SOUND_ONNX = Graph()
_CAST = ("Cast", {"to": TensorProto.FLOAT16})
_ERF, _EXP = ("Erf", {}), ("Exp", {})
BROKEN_ONNX: dict[str, Callable[[Path], Path]] = {
    "external-data": replace(SOUND_ONNX, is_external=True).write,
    "ir-too-new": replace(SOUND_ONNX, ir=11).write,
    "opset-too-new": replace(SOUND_ONNX, opset=22).write,
    "unknown-domain": replace(SOUND_ONNX, domain="org.example", operators=(("Blur", {}),)).write,
    "contrib-operator": replace(SOUND_ONNX, domain="com.microsoft", operators=(("QuickGelu", {}),)).write,
    "ort-mobile-opset": replace(SOUND_ONNX, opset=18).write,
    "ort-mobile-operator": replace(SOUND_ONNX, operators=(("Mish", {}),)).write,
    "onnx-free-size": replace(SOUND_ONNX, shape=(1, 3, "height", 8)).write,
    "onnx-free-batch": replace(SOUND_ONNX, shape=("batch", 3, 8, 8)).write,
    "onnx-batch": replace(SOUND_ONNX, shape=(2, 3, 8, 8)).write,
    "detections-size": _suppression,
    "nnapi-ep-operator": replace(SOUND_ONNX, operators=(_ERF,)).write,
    "nnapi-ep-type": replace(SOUND_ONNX, element=TensorProto.FLOAT16).write,
    "coreml-ep-operator": replace(SOUND_ONNX, operators=(_EXP,)).write,
    "coreml-ep-rank": replace(SOUND_ONNX, opset=11, operators=(("Unsqueeze", {"axes": [0, 1]}), ("Sigmoid", {}))).write,
    "xnnpack-ep-operator": replace(SOUND_ONNX, operators=(_EXP,)).write,
}

# TFLite


@dataclass(frozen=True)
class Step:
    """An operator of a chain: its type, or the name of a custom one, and what it gives."""

    type: str = "LOGISTIC"
    custom: str | None = None
    version: int = 1
    element: str = "FLOAT32"
    shape: tuple[int, ...] = (1, 4, 4, 3)
    joined: int = 1

    def operator(self, place: int) -> schema.OperatorT:
        operator = schema.OperatorT()
        operator.opcodeIndex = place
        operator.inputs = np.full(self.joined, place, np.int32)
        operator.outputs = np.array([place + 1], np.int32)
        return operator

    def code(self) -> schema.OperatorCodeT:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, "CUSTOM" if self.custom else self.type)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = self.custom.encode() if self.custom else None
        code.version = self.version
        return code


def tflite(folder: Path, *steps: Step, signature: tuple[int, ...] | None = None, image: Step | None = None) -> Path:
    """A chain of operators, each on what the last one gave. image: what the first takes, as a Step gives it."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT()], [graph]
    graph.tensors = [_tensor(f"value{i}", step) for i, step in enumerate([image or Step(), *steps])]
    graph.tensors[0].shapeSignature = None if signature is None else np.array(signature, np.int32)
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([len(steps)], np.int32)
    graph.operators = [step.operator(place) for place, step in enumerate(steps)]
    model.operatorCodes = [step.code() for step in steps]
    path = folder / "chain.tflite"
    path.write_bytes(pack(model))
    return path


def _tensor(name: str, step: Step) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name.encode(), np.array(step.shape, np.int32), 0
    tensor.type = getattr(schema.TensorType, step.element)
    return tensor


def sound_tflite(folder: Path) -> Path:
    return tflite(folder, Step(), Step("RELU"))


def _with(*steps: Step, **options: object) -> Callable[[Path], Path]:
    return lambda folder: tflite(folder, Step(), *steps, **options)


BROKEN_TFLITE: dict[str, Callable[[Path], Path]] = {
    "flex-operator": _with(Step(custom="FlexErf")),
    "custom-operator": _with(Step(custom="Mine")),
    "builtin-custom-operator": _with(Step(custom="TFLite_Detection_PostProcess")),
    "tflite-rank": _with(Step("RESHAPE", shape=(1, 2, 2, 4, 3))),
    "tflite-free-size": _with(signature=(1, -1, 4, 3)),
    "tflite-free-batch": _with(signature=(-1, 4, 4, 3)),
    "tflite-batch": _with(image=Step(shape=(2, 4, 4, 3))),
    "gpu-operator": _with(Step("ARG_MAX")),
    "gpu-type": _with(Step(element="INT16")),
    "gpu-quantized": _with(Step(element="INT8")),
    "gpu-undocumented": _with(Step("RSQRT")),
    "gpu-data-movement": _with(Step("RESHAPE")),
    "nnapi-operator": _with(Step("GELU")),
    "nnapi-type": _with(Step(element="INT16")),
    "nnapi-rank": _with(Step("RESHAPE", shape=(1, 2, 2, 4, 3))),
    "xnnpack-operator": _with(Step("ARG_MAX")),
    "xnnpack-concatenation": _with(Step("CONCATENATION", shape=(6, 4, 4, 3), joined=6)),
    "xnnpack-type": _with(Step(element="INT16")),
    "xnnpack-undocumented": _with(Step("RSQRT")),
}

# Core ML

_ELEMENTS = {"fp16": 10, "fp32": 11, "int32": 23, "bool": 1}  # MIL.proto, DataType


@dataclass(frozen=True)
class Line:
    """An operation of a program: its type, what it gives, and further constant arguments."""

    type: str = "relu"
    element: str = "fp16"
    shape: tuple[int | None, ...] = (1, 3, 4, 4)
    constants: tuple[tuple[str, np.ndarray], ...] = ()
    parameter: str = "x"


def _declare(tensor: object, element: str, shape: tuple[int | None, ...]) -> None:
    tensor.dataType, tensor.rank = _ELEMENTS[element], len(shape)
    for side in shape:
        dimension = tensor.dimensions.add()
        if side is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = side


def _store(value: object, array: np.ndarray) -> None:
    element = {"f": "fp32", "i": "int32", "b": "bool"}[array.dtype.kind]
    _declare(value.type.tensorType, element, array.shape)
    tensor = value.immediateValue.tensor
    getattr(tensor, {"fp32": "floats", "int32": "ints", "bool": "bools"}[element]).values.extend(array.ravel().tolist())


def program(
    folder: Path, *lines: Line, describe: Callable[[object], None] | None = None, given: Line | None = None
) -> Path:
    """An .mlpackage whose program is a chain of operations. given: its input; describe: changes its description."""
    given = given or Line()
    model = pb.Model(specificationVersion=7)
    function = model.mlProgram.functions["main"]
    function.opset = "CoreML6"
    entry = function.inputs.add(name="value0")
    _declare(entry.type.tensorType, given.element, given.shape)
    block = function.block_specializations["CoreML6"]
    for place, line in enumerate(lines):
        operation = block.operations.add(type=line.type)
        operation.inputs[line.parameter].arguments.add().name = f"value{place}"
        for key, array in line.constants:
            _store(operation.inputs[key].arguments.add().value, array)
        output = operation.outputs.add(name=f"value{place + 1}")
        _declare(output.type.tensorType, line.element, line.shape)
    block.outputs.append(f"value{len(lines)}")
    feature = model.description.input.add(name="value0")
    feature.type.multiArrayType.shape.extend(side or 1 for side in given.shape)
    if describe is not None:
        describe(feature.type)
    package = folder / "chain.mlpackage"
    inner = package / "Data" / "com.apple.CoreML"
    inner.mkdir(parents=True)
    (inner / "model.mlmodel").write_bytes(model.SerializeToString())
    entries = {"root": {"path": "com.apple.CoreML/model.mlmodel", "author": "", "name": "", "description": ""}}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": "root"}
    (package / "Manifest.json").write_text(json.dumps(manifest))
    return package


def sound_coreml(folder: Path) -> Path:
    return program(folder, Line(), Line("maximum", parameter="y"))


def _ranges(kind: object, *bounds: tuple[int, int]) -> None:
    for low, high in bounds:
        kind.multiArrayType.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)


def _listed(kind: object) -> None:
    kind.multiArrayType.enumeratedShapes.shapes.add().shape.extend([1, 3, 4, 4])
    kind.multiArrayType.enumeratedShapes.shapes.add().shape.extend([1, 3, 8, 8])


def _lines(*lines: Line, **options: object) -> Callable[[Path], Path]:
    return lambda folder: program(folder, Line(), *lines, **options)


def _layers(*types: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        model = pb.Model(specificationVersion=4)
        for place, type_ in enumerate(types):
            layer = model.neuralNetwork.layers.add(name=f"layer{place}")
            getattr(layer, type_).SetInParent()
        path = folder / "layers.mlmodel"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def kernel(height: int, width: int) -> tuple[tuple[str, np.ndarray], ...]:
    return (("weight", np.ones((3, 3, height, width), np.float32)),)


def begin(*places: int) -> tuple[tuple[str, np.ndarray], ...]:
    return (("begin", np.array(places, np.int32)),)


sound_network = _layers("add", "activation")
BROKEN_COREML: dict[str, Callable[[Path], Path]] = {
    "coreml-rank": _lines(Line("reshape", shape=(1, 1, 1, 3, 4, 4))),
    "custom-layer": _layers("add", "custom"),
    "coreml-free-size": _lines(describe=lambda kind: _ranges(kind, (1, 1), (3, 3), (4, 64), (4, 64))),
    "coreml-free-batch": _lines(describe=lambda kind: _ranges(kind, (1, 8), (3, 3), (4, 4), (4, 4))),
    "enumerated-shapes": _lines(describe=_listed),
    "coreml-batch": _lines(given=Line(shape=(2, 3, 4, 4))),
    "ane-float32": _lines(Line(element="fp32")),
    "ane-operation": _lines(Line("non_zero")),
    "ane-generation": _lines(Line("upsample_bilinear")),
    "ane-size": _lines(Line(shape=(1, 3, 4, 16385))),
    "ane-kernel": _lines(Line("conv", constants=kernel(1, 14))),
    "ane-slice": _lines(Line("slice_by_index", constants=begin(0, 0, 0, 1))),
    "ane-product": _lines(Line("conv", constants=kernel(3, 3))),
    "ane-table": _lines(Line("silu")),
    "ane-layer": _layers("add", "softmaxND"),
}

SOUND: dict[str, Callable[[Path], Path]] = {
    "onnx": SOUND_ONNX.write, "tflite": sound_tflite, "mlpackage": sound_coreml, "mlmodel": sound_network,
}  # fmt: skip
BROKEN = BROKEN_ONNX | BROKEN_TFLITE | BROKEN_COREML
