"""TFLite_Detection_PostProcess at the end of a TFLite detector: decoding and non-maximum suppression in one operator.

Source: tensorflow/lite/kernels/detection_postprocess.cc; the names of its options stand there alone.
"""

import numpy as np
from flatbuffers import flexbuffers

from exporters._tflite_graph import TYPE, Graph
from mvit_deploy.nn.anchors import CENTRE_VARIANCE, SIZE_VARIANCE, anchors_of_image
from mvit_deploy.runtimes.tflite_file import CUSTOM, DETECTION, pack, parse, schema
from mvit_deploy.spec import Contract, Suppression


def append(content: bytes, contract: Contract) -> bytes:
    """Let a file that gives encodings and scores give boxes (1, N, 4), classes, scores (1, N) and their count (1,).

    encodings, the output "boxes": (1, A, 4), shifts of centre y and x, growth of height and width, in units of the
    variances; scores: (1, A, C) with the background. Boxes are top, left, bottom, right; class 0 is the first behind
    the background; places behind the count hold nothing.
    """
    graph, rule = Graph(parse(content)), contract.suppression
    names = {entry.name: int(entry.tensorIndex) for entry in graph.model.signatureDefs[0].outputs}
    inputs = [names[b"boxes"], names[b"scores"], _anchors(graph, contract.image_size)]
    sizes = {"boxes": (1, rule.kept, 4), "classes": (1, rule.kept), "scores": (1, rule.kept), "count": (1,)}
    # What Task Library and MediaPipe expect is this order.
    outputs = {name: graph.add_tensor(b"nms/" + name.encode(), size, TYPE.FLOAT32) for name, size in sizes.items()}
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([*outputs.values()], np.int32)
    operator.opcodeIndex = _add_code(graph.model)
    num_classes = int(graph.graph.tensors[inputs[1]].shape[-1]) - 1
    operator.customOptions = np.frombuffer(_options(rule, num_classes), np.uint8)
    graph.operators.append(operator)
    graph.graph.outputs = operator.outputs
    graph.model.signatureDefs[0].outputs = [_entry(name, index) for name, index in outputs.items()]
    return pack(graph.finished())


def _anchors(graph: Graph, image_size: tuple[int, int]) -> int:
    """Centre y, centre x, height, width, as the operator takes them."""
    anchors = anchors_of_image(image_size).numpy()[:, [1, 0, 3, 2]]
    return graph.add_tensor(b"nms/anchors", anchors.shape, TYPE.FLOAT32, anchors)


def _add_code(model: schema.ModelT) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = CUSTOM
    code.customCode, code.version = DETECTION, 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _options(rule: Suppression, num_classes: int) -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("max_detections", rule.kept)
        builder.Int("max_classes_per_detection", 1)
        builder.Int("detections_per_class", rule.kept_per_class)
        builder.Bool("use_regular_nms", True)  # class by class
        builder.Float("nms_score_threshold", rule.score_threshold)
        builder.Float("nms_iou_threshold", rule.iou_threshold)
        builder.Int("num_classes", num_classes)
        for side in ("y", "x"):
            builder.Float(f"{side}_scale", 1 / CENTRE_VARIANCE)
        for side in ("h", "w"):
            builder.Float(f"{side}_scale", 1 / SIZE_VARIANCE)
    return bytes(builder.Finish())


def _entry(name: str, index: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry
