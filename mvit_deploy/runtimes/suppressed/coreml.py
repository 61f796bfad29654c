"""Core ML pipelines of detectors: Apple's runtime on a Mac, elsewhere the evaluator and the rule as documented.

Source: mlmodel/format/NonMaximumSuppression.proto of apple/coremltools.
"""

import platform
from pathlib import Path

import numpy as np

from mvit_deploy.detection import Detections, non_maximum_suppression, of_one_class
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import run_network
from mvit_deploy.runtimes.coreml.interface import read_interface
from mvit_deploy.runtimes.coreml.package import network_of, read_specification, weights_folder
from mvit_deploy.runtimes.coreml.pixels import image_tensor
from mvit_deploy.runtimes.suppressed import Suppressed
from mvit_deploy.spec import Suppression

Rows = tuple[np.ndarray, np.ndarray]  # boxes (n, 4), centre x, centre y, width, height; scores (n, C)


def detect(path: Path, pixels: np.ndarray) -> Suppressed:
    spec = read_specification(path)
    declared = read_interface(spec, path.suffix.removeprefix(".")).inputs[0]
    if spec.WhichOneof("Type") != "pipeline":
        raise DamagedFileError(f"{path.name} is no pipeline")
    stage, folder = spec.pipeline.models[-1].nonMaximumSuppression, weights_folder(path)
    rule = _rule(stage)
    if platform.system() == "Darwin":
        raw, found = _predict(path, declared.name, pixels)
    else:
        images = [{declared.name: image_tensor(image, declared)} for image in pixels]
        raw = [_rows(values, stage) for values in run_network(network_of(spec), folder, images)[0]]
        found = [_suppressed(*each, rule) for each in raw]
    return Suppressed(
        rule=rule,
        boxes=np.stack([_corners(boxes) for boxes, _ in raw]),
        scores=np.stack([scores for _, scores in raw]),
        detections=tuple(_detections(*each) for each in found),
    )


def _rule(stage: object) -> Suppression:
    if stage.WhichOneof("SuppressionMethod") != "pickTop" or not stage.pickTop.perClass:
        raise DamagedFileError("the suppression does not work class by class")
    return Suppression(stage.confidenceThreshold, stage.iouThreshold, kept_per_class=None, one_class=True)


def _rows(values: dict[str, np.ndarray], stage: object) -> Rows:
    """Raises: DamagedFileError when the network does not give what the suppression takes."""
    names = stage.coordinatesInputFeatureName, stage.confidenceInputFeatureName
    if not set(names) <= set(values):
        raise DamagedFileError(f"the network gives {sorted(values)}, the suppression takes {sorted(names)}")
    if not all(isinstance(values[name], np.ndarray) and values[name].dtype.kind in "fiu" for name in names):
        raise DamagedFileError("the suppression takes something else than numbers")
    boxes, scores = (values[name].astype(np.float32) for name in names)
    classes = len(stage.stringClassLabels.vector)
    if boxes.shape[1:] != (4,) or scores.shape != (len(boxes), classes):
        raise DamagedFileError(
            f"the suppression takes boxes {boxes.shape} and scores {scores.shape}, and names {classes} classes"
        )
    with np.errstate(all="ignore"):
        if not (np.isfinite(_corners(boxes)).all() and np.isfinite(scores).all()):
            raise DamagedFileError("a box or score is not finite")
    return boxes, scores


def _suppressed(boxes: np.ndarray, scores: np.ndarray, rule: Suppression) -> Rows:
    """A box is of its most probable class; what stays keeps all its scores."""
    found = non_maximum_suppression(
        _corners(boxes),
        np.pad(of_one_class(scores), ((0, 0), (1, 0))),
        score_threshold=rule.score_threshold,
        iou_threshold=rule.iou_threshold,
        kept_per_class=len(boxes),
    )
    return boxes[found.places], scores[found.places]


def _predict(path: Path, name: str, pixels: np.ndarray) -> tuple[list[Rows], list[Rows]]:
    """On a Mac: what the network and what the whole pipeline give, both by Apple's runtime."""
    import coremltools  # takes seconds, and only a Mac gets here
    from PIL import Image

    spec = read_specification(path)
    stage, units = spec.pipeline.models[-1].nonMaximumSuppression, coremltools.ComputeUnit.CPU_ONLY
    whole = coremltools.models.MLModel(str(path), compute_units=units)
    inner = coremltools.models.MLModel(network_of(spec), weights_dir=str(weights_folder(path)), compute_units=units)
    raw, found = [], []
    for image in pixels:
        given = {name: Image.fromarray(image)}
        raw.append(_rows(inner.predict(given), stage))
        values = whole.predict(given)
        found.append(tuple(np.asarray(values[output], np.float32) for output in ("coordinates", "confidence")))
    return raw, found


def _detections(boxes: np.ndarray, scores: np.ndarray) -> Detections:
    """The best first: Core ML promises no order."""
    best = scores.max(axis=1, initial=0)
    order = np.argsort(-best, kind="stable")
    return Detections(_corners(boxes)[order], best[order], scores.argmax(axis=1)[order] + 1)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """Shapes: (n, 4), centre x, centre y, width, height -> (n, 4), corners."""
    centres, half_sizes = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate((centres - half_sizes, centres + half_sizes), axis=1)
