"""What a Core ML file says of itself: inputs, outputs, labels, from its description and metadata."""

from collections.abc import Iterable, Iterator

from mvit_deploy import metadata
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes.coreml import proto
from mvit_deploy.spec import Declared, InputSpec, Interface, OutputSpec

pb = proto.model_pb2()
ARRAY_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32"}  # FeatureTypes.proto
_SUPPRESSION = {  # what a NonMaximumSuppression calls its features, so that Vision and apps find them
    "iouThresholdInput": "iouThreshold",
    "confidenceThresholdInput": "confidenceThreshold",
    "coordinatesOutput": "coordinates",
    "confidenceOutput": "confidence",
}
COLOR_SPACES = {10: "GRAY", 20: "RGB", 30: "BGR", 40: "GRAY"}  # ImageFeatureType.ColorSpace


def read_interface(spec: "pb.Model", file_format: str) -> Interface:
    """Raises: DamagedFileError when the input is no image or the metadata do not give its colour order and range."""
    declared = metadata.read(dict(spec.description.metadata.userDefined))
    labels = class_labels(spec)
    if labels is not None and (declared.labels is None or sorted(declared.labels) != sorted(labels)):
        raise DamagedFileError("the classifier's labels and those in the metadata differ")
    _check_suppression(spec, declared)
    pictures = [feature for feature in spec.description.input if not _is_threshold(feature)]
    inputs = tuple(_input(feature, declared.value_range) for feature in pictures)
    outputs = tuple(_output(feature, spec) for feature in spec.description.output)
    version = f"specification {spec.specificationVersion}"
    return Interface(file_format, version, inputs, outputs, declared)


def _check_suppression(spec: "pb.Model", declared: Declared) -> None:
    """Raises: DamagedFileError unless a pipeline's metadata say so and have its labels, and its parts are joined."""
    is_pipeline = spec.WhichOneof("Type") == "pipeline"
    if is_pipeline != (declared.suppression is not None):
        raise DamagedFileError("the metadata and the model differ in whether boxes are sorted out")
    if is_pipeline:
        _check_joints(spec)
    if is_pipeline and declared.labels is not None:
        labels = tuple(spec.pipeline.models[-1].nonMaximumSuppression.stringClassLabels.vector)
        if labels != declared.labels[1:]:
            raise DamagedFileError("the suppression's labels and those in the metadata differ")


def _check_joints(spec: "pb.Model") -> None:
    """Raises: DamagedFileError unless features go by name from the pipeline's image through the network and the
    suppression to the pipeline's outputs, all as they are called and typed here and there."""
    network, suppression = (model.description for model in spec.pipeline.models)
    stage = spec.pipeline.models[1].nonMaximumSuppression
    named = {key: getattr(stage, f"{key}FeatureName") for key in _SUPPRESSION}
    if named != _SUPPRESSION:
        raise DamagedFileError(f"the suppression calls its features {named}, expected {_SUPPRESSION}")
    handed = {stage.coordinatesInputFeatureName, stage.confidenceInputFeatureName}
    taken, thresholds = _types(suppression.input), {named["iouThresholdInput"], named["confidenceThresholdInput"]}
    optional = {feature.name for feature in suppression.input if _is_threshold(feature)}
    given = {name: kind for name, kind in taken.items() if name in thresholds} | _types(network.input)
    if optional != thresholds or _types(spec.description.input) != given:
        raise DamagedFileError("the pipeline does not take the network's image and the suppression's thresholds")
    if set(taken) != handed | thresholds or _types(network.output) != {name: taken[name] for name in handed}:
        raise DamagedFileError("the network does not give what the suppression takes")
    if _types(spec.description.output) != _types(suppression.output):
        raise DamagedFileError("the pipeline does not give what the suppression gives")


def _types(features: Iterable["pb.FeatureDescription"]) -> dict[str, object]:
    return {feature.name: feature.type for feature in features}


def _is_threshold(feature: "pb.FeatureDescription") -> bool:
    """Whether it is a number that need not be given."""
    return feature.type.isOptional and feature.type.WhichOneof("Type") == "doubleType"


def class_labels(spec: "pb.Model") -> tuple[str, ...] | None:
    """The labels in the classifier's own order, None where the model is none."""
    if spec.WhichOneof("Type") == "neuralNetworkClassifier":
        return tuple(spec.neuralNetworkClassifier.stringClassLabels.vector)
    for operation in _operations(spec):
        if operation.type == "classify":
            classes = operation.inputs["classes"].arguments
            values = classes[0].value.immediateValue.list.values if classes else []
            return tuple(text for c in values for text in c.immediateValue.tensor.strings.values)
    return None


def _input(feature: "pb.FeatureDescription", value_range: tuple[float, float]) -> InputSpec:
    image = feature.type.imageType
    if feature.type.WhichOneof("Type") != "imageType" or image.colorSpace not in COLOR_SPACES:
        raise DamagedFileError(f"input {feature.name!r} is not an image")
    order = COLOR_SPACES[image.colorSpace]
    return InputSpec(
        name=feature.name,
        shape=(1, image.height, image.width, 1 if order == "GRAY" else 3),
        dtype="uint8",  # an 8-bit image; scale and bias inside the file bring it to the range
        layout="NHWC",
        range=value_range,
        color_order=order,
    )


def _output(feature: "pb.FeatureDescription", spec: "pb.Model") -> OutputSpec:
    kind = feature.type.WhichOneof("Type")
    if kind == "dictionaryType":
        return OutputSpec(feature.name, (1, len(class_labels(spec) or ())), "float32", "probabilities")
    if kind == "stringType":
        return OutputSpec(feature.name, (1,), "string", "label")
    array = feature.type.multiArrayType
    ranges = array.shapeRange.sizeRanges
    shape = tuple(array.shape) or tuple(_side(each.lowerBound, each.upperBound) for each in ranges) or (-1,)
    return OutputSpec(feature.name, shape, ARRAY_DTYPES.get(array.dataType, str(array.dataType)), feature.name)


def _side(lower: int, upper: int) -> int:
    return lower if lower == upper else -1


def _operations(spec: "pb.Model") -> Iterator[object]:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations
