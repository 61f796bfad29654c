"""TFLite files that end in TFLite_Detection_PostProcess, on LiteRT; its inputs are kept, and its options read."""

import warnings
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers

from mvit_deploy.detection import Detections
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import open_file
from mvit_deploy.runtimes.suppressed import Suppressed
from mvit_deploy.runtimes.tensors import prepare
from mvit_deploy.runtimes.tflite_file import DETECTION, parse, schema
from mvit_deploy.spec import Suppression


def detect(path: Path, pixels: np.ndarray) -> Suppressed:
    declared = open_file(path).interface.inputs[0]
    content = path.read_bytes()
    operator, options = _operator(parse(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping all tensors is for looking into files, which is what we do
        interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    indices = [int(index) for index in (*operator.inputs, *operator.outputs)]
    rows = []
    for image in pixels:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], prepare(image[None], declared))
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise DamagedFileError(f"LiteRT cannot run {path.name}: {error}") from error
        rows.append([interpreter.get_tensor(index).copy() for index in indices])
    scores = np.concatenate([row[1] for row in rows])
    return Suppressed(
        rule=_rule(options),
        boxes=np.concatenate([_decoded(row[0], row[2], options) for row in rows]),
        scores=scores[:, :, scores.shape[2] - options["num_classes"] :],
        detections=tuple(_detections(*row[3:]) for row in rows),
    )


def _operator(model: schema.ModelT) -> tuple[schema.OperatorT, dict[str, float]]:
    """The operator and its options. Raises: DamagedFileError when there is not one of our form."""
    codes = [code.customCode == DETECTION for code in model.operatorCodes]
    found = [operator for operator in model.subgraphs[0].operators if codes[operator.opcodeIndex]]
    if len(found) != 1 or len(found[0].inputs) != 3 or len(found[0].outputs) != 4:
        raise DamagedFileError(f"{len(found)} {DETECTION.decode()} of our form in the file, not 1")
    try:
        options = flexbuffers.Loads(bytes(found[0].customOptions))
        if not options["use_regular_nms"] or options["max_classes_per_detection"] != 1:
            raise DamagedFileError(f"{DETECTION.decode()} does not work class by class")
        return found[0], {name: options[name] for name in _OPTIONS}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DamagedFileError(f"the options of {DETECTION.decode()} cannot be read: {error!r}") from error


_OPTIONS = (
    "max_detections", "detections_per_class", "nms_score_threshold", "nms_iou_threshold", "num_classes",
    "y_scale", "x_scale", "h_scale", "w_scale",
)  # fmt: skip


def _rule(options: dict[str, float]) -> Suppression:
    return Suppression(
        round(options["nms_score_threshold"], 6),
        round(options["nms_iou_threshold"], 6),
        options["detections_per_class"],
        options["max_detections"],
    )


def _decoded(encodings: np.ndarray, anchors: np.ndarray, options: dict[str, float]) -> np.ndarray:
    """What the operator makes of encodings before it suppresses. Shapes: (1, A, 4), (A, 4) -> (1, A, 4), corners.

    Source: tensorflow/lite/kernels/detection_postprocess.cc, DecodeCenterSizeBoxes.
    """
    scales = np.array([options[f"{side}_scale"] for side in "yxhw"], np.float32)
    scaled = encodings / scales
    centres = scaled[..., :2] * anchors[:, 2:] + anchors[:, :2]
    half_sizes = np.exp(scaled[..., 2:]) * anchors[:, 2:] / 2
    return np.concatenate((centres - half_sizes, centres + half_sizes), axis=2)[..., [1, 0, 3, 2]]


def _detections(boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray, count: np.ndarray) -> Detections:
    """Raises: DamagedFileError for a count that is none."""
    found = count.item()
    if not 0 <= found <= scores.shape[1]:
        raise DamagedFileError(f"the file counts {found} detections in {scores.shape[1]} places")
    kept = slice(0, int(found))
    return Detections(boxes[0, kept][:, [1, 0, 3, 2]], scores[0, kept], classes[0, kept].astype(np.int64) + 1)
