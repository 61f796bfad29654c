"""Non-maximum suppression at the end of an ONNX detector: detections, the best first."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mvit_deploy.spec import Suppression

BOXES, SCORES = "all_boxes", "all_scores"  # (1, A, 4) and (1, A, C), what the network gives


def append(model: onnx.ModelProto, rule: Suppression) -> None:
    """Let a graph that gives boxes and scores give detections instead: boxes (n, 4), scores (n,), classes (n,), where n
    is found in each run and class 1 is the first behind the background.

    Source: onnx.ai, NonMaxSuppression 11. Its boxes may be given by any two opposite corners, so x and y stay.
    """
    graph = model.graph
    for node in graph.node:
        node.output[:] = [{"boxes": BOXES, "scores": SCORES}.get(name, name) for name in node.output]
        node.input[:] = [{"boxes": BOXES, "scores": SCORES}.get(name, name) for name in node.input]
    count = next(v for v in graph.output if v.name == "boxes").type.tensor_type.shape.dim[1].dim_value
    constants = {
        "nms/first_class": np.array([1], np.int64),
        "nms/end": np.array([2**31 - 1], np.int64),
        "nms/class_axis": np.array([2], np.int64),
        "nms/kept_per_class": np.array([rule.kept_per_class], np.int64),
        "nms/iou_threshold": np.array([rule.iou_threshold], np.float32),
        "nms/score_threshold": np.array([rule.score_threshold], np.float32),
        "nms/columns": np.array([1, 2], np.int64),
        "nms/one": np.array(1, np.int64),
        "nms/anchors": np.array(count, np.int64),
        "nms/flat": np.array([-1], np.int64),
        "nms/rows": np.array([-1, 4], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(_nodes())
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["detections", 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["detections"]),
            helper.make_tensor_value_info("classes", TensorProto.INT32, ["detections"]),
        ]
    )


def _nodes() -> list[onnx.NodeProto]:
    return [
        _node("Slice", [SCORES, "nms/first_class", "nms/end", "nms/class_axis"], "nms/foreground"),  # (1, A, C - 1)
        _node("Transpose", ["nms/foreground"], "nms/by_class", perm=[0, 2, 1]),
        _node(
            "NonMaxSuppression",
            [BOXES, "nms/by_class", "nms/kept_per_class", "nms/iou_threshold", "nms/score_threshold"],
            "nms/selected",  # (n, 3): image, class, box
        ),
        _node("Gather", ["nms/selected", "nms/columns"], "nms/pairs", axis=1),
        _node("Split", ["nms/pairs"], "nms/class_column", "nms/box_column", axis=1, num_outputs=2),
        _node("Reshape", ["nms/class_column", "nms/flat"], "nms/class"),
        _node("Reshape", ["nms/box_column", "nms/flat"], "nms/box"),
        _node("Mul", ["nms/class", "nms/anchors"], "nms/class_start"),
        _node("Add", ["nms/class_start", "nms/box"], "nms/place"),
        _node("Reshape", ["nms/by_class", "nms/flat"], "nms/all"),
        _node("Gather", ["nms/all", "nms/place"], "nms/scores", axis=0),
        _node("Shape", ["nms/scores"], "nms/count"),
        _node("TopK", ["nms/scores", "nms/count"], "scores", "nms/order", axis=0),
        _node("Gather", ["nms/box", "nms/order"], "nms/sorted_box", axis=0),
        _node("Reshape", [BOXES, "nms/rows"], "nms/box_rows"),
        _node("Gather", ["nms/box_rows", "nms/sorted_box"], "boxes", axis=0),
        _node("Gather", ["nms/class", "nms/order"], "nms/sorted_class", axis=0),
        _node("Add", ["nms/sorted_class", "nms/one"], "nms/label"),
        _node("Cast", ["nms/label"], "classes", to=TensorProto.INT32),
    ]


def _node(operator: str, inputs: list[str], *outputs: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, outputs, f"nms/{operator}:{outputs[0]}", **attributes)
