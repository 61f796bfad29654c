"""Core ML's pipeline of a detector: the network, and the model that sorts overlapping boxes out.

What Xcode previews and Vision turns into recognised objects. Thresholds may be given with each image.
Source: mlmodel/format/NonMaximumSuppression.proto and Model.proto of apple/coremltools.
"""

from collections.abc import Iterable, Sequence

import coremltools as ct

from mvit_deploy.spec import Contract

RAW_BOXES, RAW_SCORES = "raw_coordinates", "raw_confidence"  # what the network hands over: (A, 4) and (A, C - 1)
BOXES, SCORES = "coordinates", "confidence"  # as Vision expects them
_IOU, _SCORE = "iouThreshold", "confidenceThreshold"
_NEW = ct.proto.Model_pb2.Model
_FLOAT32 = ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32


def raw_shapes(contract: Contract) -> dict[str, tuple[int, ...]]:
    """Of the network's outputs."""
    anchors, count = contract.outputs[1].shape
    return {RAW_BOXES: (anchors, 4), RAW_SCORES: (anchors, count - 1)}


def in_pipeline(network: _NEW, contract: Contract) -> _NEW:
    """The pipeline's specification around a network's."""
    pipeline, suppression = _NEW(), _suppression(contract, network.specificationVersion)
    pipeline.specificationVersion = network.specificationVersion
    pipeline.description.input.extend(network.description.input)
    _add_thresholds(pipeline.description.input)
    pipeline.description.output.extend(suppression.description.output)
    pipeline.pipeline.models.extend([network, suppression])
    pipeline.pipeline.names.extend(["network", "suppression"])
    return pipeline


def _suppression(contract: Contract, version: int) -> _NEW:
    model, rule, shapes = _NEW(), contract.suppression, raw_shapes(contract)
    model.specificationVersion = version
    for name, shape in shapes.items():
        _add_array(model.description.input, name).shape.extend(shape)
    _add_thresholds(model.description.input)
    for name, raw in ((BOXES, RAW_BOXES), (SCORES, RAW_SCORES)):
        _let_rows_vary(_add_array(model.description.output, name), shapes[raw])
    stage = model.nonMaximumSuppression
    stage.pickTop.perClass = True
    stage.iouThreshold, stage.confidenceThreshold = rule.iou_threshold, rule.score_threshold
    stage.coordinatesInputFeatureName, stage.confidenceInputFeatureName = RAW_BOXES, RAW_SCORES
    stage.iouThresholdInputFeatureName, stage.confidenceThresholdInputFeatureName = _IOU, _SCORE
    stage.coordinatesOutputFeatureName, stage.confidenceOutputFeatureName = BOXES, SCORES
    stage.stringClassLabels.vector.extend(_labels(contract))
    return model


def _labels(contract: Contract) -> Sequence[str]:
    """Without the background; numbers from 1 on where none were given."""
    count = contract.outputs[1].shape[1]
    return contract.labels[1:] if contract.labels else [str(label) for label in range(1, count)]


def _add_thresholds(features: Iterable) -> None:
    for name, text in ((_IOU, "Boxes that overlap a better one more than this go"), (_SCORE, "Boxes below this go")):
        feature = features.add()
        feature.name, feature.shortDescription = name, text
        feature.type.doubleType.SetInParent()
        feature.type.isOptional = True


def _add_array(features: Iterable, name: str) -> object:
    feature = features.add()
    feature.name = name
    feature.type.multiArrayType.dataType = _FLOAT32
    return feature.type.multiArrayType


def _let_rows_vary(array: object, shape: tuple[int, int]) -> None:
    rows, width = array.shapeRange.sizeRanges.add(), array.shapeRange.sizeRanges.add()
    rows.lowerBound, rows.upperBound = 0, shape[0]
    width.lowerBound = width.upperBound = shape[1]
