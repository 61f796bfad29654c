"""The raw facts of Core ML files, from protobuf and weight.bin: programs, networks, pipelines and other models."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mvit_deploy.anatomy import PREVIEW, Anatomy, Feature
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.census import StoredWeight
from mvit_deploy.runtimes.census import coreml as census
from mvit_deploy.runtimes.coreml.interface import ARRAY_DTYPES, COLOR_SPACES, class_labels
from mvit_deploy.runtimes.coreml.package import NETWORKS, read_model, weights_folder

# The iOS that brought each version of the specification. Source: coremltools, _SPECIFICATION_VERSION_IOS_….
_IOS = {1: "11", 2: "11.2", 3: "12", 4: "13", 5: "14", 6: "15", 7: "16", 8: "17", 9: "18", 10: "26"}
_KINDS = {
    "mlProgram": "ML Program", "neuralNetwork": "neural network",
    "neuralNetworkClassifier": "neural network classifier",
}  # fmt: skip


def dissect(path: Path) -> Anatomy:
    """Raises: DamagedFileError."""
    spec = read_model(path)
    models = _models(spec)
    weights, unknown = _weights(models, path)
    said = spec.description.metadata
    return Anatomy(
        specification={"specification": str(spec.specificationVersion), **_opsets(models)},
        inputs=tuple(map(_feature, spec.description.input)),
        outputs=tuple(map(_feature, spec.description.output)),
        operators=dict(Counter(type_ for model in models for type_ in _types(model)).most_common()),
        weights=weights,
        unknown=unknown,
        min_ios=_IOS.get(spec.specificationVersion),
        entries=dict(said.userDefined),
        native=_native(spec),
        labels=_labels(models),
    )


def _models(spec: Any) -> list[Any]:
    """Of a pipeline its parts, else the model itself."""
    kind = spec.WhichOneof("Type")
    if kind == "pipeline":
        return [inner for model in spec.pipeline.models for inner in _models(model)]
    if kind in ("pipelineClassifier", "pipelineRegressor"):
        return [inner for model in getattr(spec, kind).pipeline.models for inner in _models(model)]
    return [spec]


def _types(model: Any) -> Iterator[str]:
    kind = model.WhichOneof("Type")
    if kind == "mlProgram":
        yield from (o.type for o in _operations(model) if o.type != "const")
    elif hasattr(getattr(model, kind), "layers"):
        yield from (layer.WhichOneof("layer") or "none" for layer in getattr(model, kind).layers)
    else:
        yield kind


def _operations(model: Any) -> Iterator[Any]:
    """Those of every function, of branches and loops too."""
    for function in model.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from _inside(block)


def _inside(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _inside(inner)


def _opsets(models: list[Any]) -> dict[str, str]:
    names = sorted({function.opset for model in models for function in model.mlProgram.functions.values()})
    return {"opset": ", ".join(names)} if names else {}


def _weights(models: list[Any], path: Path) -> tuple[tuple[StoredWeight, ...] | None, str]:
    """None with the reason where a model is of a kind, or a program has control flow or functions, that is not read."""
    found: list[StoredWeight] = []
    for model in models:
        kind = model.WhichOneof("Type")
        if kind not in NETWORKS:
            if len(models) == 1:
                return None, f"those of a {kind} are not counted"
            continue  # of a pipeline, what follows the network
        reason = _not_read(model)
        if reason:
            return None, reason
        try:
            found += census.weights(model, weights_folder(path))
        except CannotRunHere as error:
            return None, str(error)
    return tuple(found), ""


def _not_read(model: Any) -> str:
    functions = list(model.mlProgram.functions)
    if model.WhichOneof("Type") == "mlProgram" and functions != ["main"]:
        return f"a program of the functions {', '.join(functions)} is not counted"
    if any(len(operation.blocks) for operation in _operations(model)):
        return "a program with control flow is not counted"
    return ""


def _feature(feature: Any) -> Feature:
    kind, text = feature.type.WhichOneof("Type"), feature.shortDescription
    if kind == "imageType":
        image = feature.type.imageType
        order = COLOR_SPACES.get(image.colorSpace)
        shape = (1, image.height, image.width, 1 if order == "GRAY" else 3)
        return Feature(feature.name, shape, "uint8", color_order=order, text=text)
    if kind != "multiArrayType":
        return Feature(feature.name, None, (kind or "nothing").removesuffix("Type"), text=text)
    array = feature.type.multiArrayType
    dtype = ARRAY_DTYPES.get(array.dataType, f"type {array.dataType}")
    return Feature(feature.name, _array_shape(array), dtype, text=text)


def _array_shape(array: Any) -> tuple[int, ...] | None:
    ranges = array.shapeRange.sizeRanges
    if len(ranges):
        return tuple(each.lowerBound if each.lowerBound == each.upperBound else -1 for each in ranges)
    return tuple(array.shape) or None


def _labels(models: list[Any]) -> tuple[str, ...] | None:
    for model in models:
        if model.WhichOneof("Type") == "nonMaximumSuppression":
            return tuple(model.nonMaximumSuppression.stringClassLabels.vector) or None
        found = class_labels(model)
        if found:
            return found
    return None


def _native(spec: Any) -> dict[str, object]:
    said, kind = spec.description.metadata, spec.WhichOneof("Type")
    user = dict(said.userDefined)
    found: dict[str, object] = {
        "kind": _KINDS.get(kind, kind),
        "parts": [model.WhichOneof("Type") for model in _models(spec)] if kind.startswith("pipeline") else [],
        "description": said.shortDescription,
        "author": said.author,
        "license": said.license,
        "version": said.versionString,
        "preview_type": user.get(f"{PREVIEW}type", ""),
        "preview_params": _preview_params(user.get(f"{PREVIEW}params", "")),
        "predicted_feature": spec.description.predictedFeatureName,
        "predicted_probabilities": spec.description.predictedProbabilitiesName,
    }
    return {key: value for key, value in found.items() if value}


def _preview_params(text: str) -> object:
    """Raises: DamagedFileError where they are no JSON, which is what Xcode reads."""
    try:
        return json.loads(text) if text else ""
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"the parameters of the preview cannot be read: {error}") from error
