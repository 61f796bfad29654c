"""TFLite files that end in TFLite_Detection_PostProcess, on LiteRT; its inputs are kept, and its options read."""

import warnings
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mvit_deploy.detection import Detections
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import open_file
from mvit_deploy.runtimes.suppressed import Suppressed
from mvit_deploy.runtimes.tensors import prepare
from mvit_deploy.runtimes.tflite_file import DETECTION, detection_options, parse, schema
from mvit_deploy.spec import Suppression

_OUTPUTS = (b"boxes", b"classes", b"scores", b"count")  # the operator's order, and that of Task Library


def detect(path: Path, pixels: np.ndarray) -> Suppressed:
    declared = open_file(path).interface.inputs[0]
    content = path.read_bytes()
    operator, options = _operator(parse(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping all tensors is for looking into files, which is what we do
        interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
    indices = [int(index) for index in (*operator.inputs, *operator.outputs)]
    rows = []
    try:
        interpreter.allocate_tensors()
        for image in pixels:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], prepare(image[None], declared))
            interpreter.invoke()
            rows.append([interpreter.get_tensor(index).copy() for index in indices])
    except (ValueError, RuntimeError) as error:
        raise DamagedFileError(f"LiteRT cannot run {path.name}: {error}") from error
    scores = np.concatenate([row[1] for row in rows])
    return Suppressed(
        rule=_rule(options),
        boxes=np.concatenate([_decoded(row[0], row[2], options) for row in rows]),
        scores=scores[:, :, scores.shape[2] - int(options["num_classes"]) :],
        detections=tuple(_detections(*row[3:]) for row in rows),
    )


def _operator(model: schema.ModelT) -> tuple[schema.OperatorT, dict[str, float]]:
    """The operator and its options. Raises: DamagedFileError unless there is one of our form, at the very end."""
    graph, codes = model.subgraphs[0], [code.customCode == DETECTION for code in model.operatorCodes]
    found = [operator for operator in graph.operators or [] if codes[operator.opcodeIndex]]
    if len(found) != 1 or not _has_sizes(found[0], 3, 4):
        raise DamagedFileError(f"{len(found)} {DETECTION.decode()} of our form in the file, not 1")
    given = dict(zip(_OUTPUTS, found[0].outputs, strict=True))
    named = {entry.name: entry.tensorIndex for entry in model.signatureDefs[0].outputs}
    if len(model.signatureDefs) != 1 or named != given or list(graph.outputs) != list(found[0].outputs):
        raise DamagedFileError(f"the file's outputs are not those of {DETECTION.decode()}")
    options = detection_options(found[0].customOptions)
    if not options["use_regular_nms"] or options["max_classes_per_detection"] != 1:
        raise DamagedFileError(f"{DETECTION.decode()} does not work class by class")
    if not all(options[f"{side}_scale"] > 0 for side in "yxhw"):
        raise DamagedFileError(f"a scale of {DETECTION.decode()} is not positive")
    return found[0], options


def _has_sizes(operator: schema.OperatorT, inputs: int, outputs: int) -> bool:
    """How much it takes and gives; None is nothing."""
    return [0 if each is None else len(each) for each in (operator.inputs, operator.outputs)] == [inputs, outputs]


def _rule(options: dict[str, float]) -> Suppression:
    return Suppression(
        round(options["nms_score_threshold"], 6),
        round(options["nms_iou_threshold"], 6),
        options["detections_per_class"],
        options["max_detections"],
    )


def _decoded(encodings: np.ndarray, anchors: np.ndarray, options: dict[str, float]) -> np.ndarray:
    """What the operator makes of encodings before it suppresses. Shapes: (1, A, 4), (A, 4) -> (1, A, 4), corners.

    Raises: DamagedFileError for other shapes.
    Source: tensorflow/lite/kernels/detection_postprocess.cc, DecodeCenterSizeBoxes.
    """
    if encodings.shape != (1, *anchors.shape) or anchors.shape[1:] != (4,):
        raise DamagedFileError(f"the suppression takes encodings {encodings.shape} and anchors {anchors.shape}")
    scales = np.array([options[f"{side}_scale"] for side in "yxhw"], np.float32)
    with np.errstate(all="ignore"):  # infinite boxes are a mismatch
        scaled = encodings / scales
        centres = scaled[..., :2] * anchors[:, 2:] + anchors[:, :2]
        half_sizes = np.exp(scaled[..., 2:]) * anchors[:, 2:] / 2
        return np.concatenate((centres - half_sizes, centres + half_sizes), axis=2)[..., [1, 0, 3, 2]]


def _detections(boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray, count: np.ndarray) -> Detections:
    """Raises: DamagedFileError for a count or a class that is no whole number."""
    found = count.item()
    if not 0 <= found <= scores.shape[1] or found % 1:
        raise DamagedFileError(f"the file counts {found} detections in {scores.shape[1]} places")
    kept = slice(0, int(found))
    labels = np.nan_to_num(classes[0, kept], nan=-1).astype(np.int64)
    if (labels != classes[0, kept]).any():
        raise DamagedFileError("a class of the file is no whole number")
    return Detections(boxes[0, kept][:, [1, 0, 3, 2]], scores[0, kept], labels + 1)
