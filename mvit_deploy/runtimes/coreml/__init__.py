"""Core ML files: the interface is read from the file anywhere; on a Mac Apple's runtime runs them."""

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.coreml import proto
from mvit_deploy.runtimes.coreml.package import specification_path
from mvit_deploy.spec import InputSpec, Interface, OutputSpec, read_metadata

pb = proto.model_pb2()
_ARRAY_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32"}  # FeatureTypes.proto
_COLOR_ORDERS = {20: "RGB", 30: "BGR"}  # ImageFeatureType.ColorSpace
NOT_A_MAC = "Core ML's runtime needs macOS; the interface was read back from the file and agrees"


class CoreMLRunner:
    """An opened .mlpackage or .mlmodel."""

    name = "Core ML"
    kind = "runtime"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spec = read_specification(path)
        self.interface = _interface(self._spec, path.suffix.removeprefix("."))
        self.version = platform.mac_ver()[0] or "none"

    def run(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        if platform.system() != "Darwin":
            raise CannotRunHere(NOT_A_MAC)
        return _predict(self._path, self.interface, pixels)


def open_file(path: Path) -> CoreMLRunner:
    """Open an .mlpackage folder or an .mlmodel file. Raises: DamagedFileError."""
    return CoreMLRunner(path)


def read_specification(path: Path) -> "pb.Model":
    """The protobuf of a Core ML file. Raises: DamagedFileError when it is missing or not one."""
    source = specification_path(path)
    try:
        spec = pb.Model.FromString(source.read_bytes())
    except (OSError, DecodeError) as error:
        raise DamagedFileError(f"{path.name}: cannot read its specification: {error}") from error
    if spec.WhichOneof("Type") not in ("mlProgram", "neuralNetwork", "neuralNetworkClassifier"):
        raise DamagedFileError(f"{path.name}: holds neither an ML Program nor a neural network")
    return spec


def _interface(spec: "pb.Model", file_format: str) -> Interface:
    metadata = dict(spec.description.metadata.userDefined)
    declared = read_metadata(metadata)
    labels = _class_labels(spec)
    if labels is not None and declared.labels != labels:
        raise DamagedFileError("the classifier's labels and those in the metadata differ")
    inputs = tuple(_input(feature, declared.value_range) for feature in spec.description.input)
    outputs = tuple(_output(feature, spec) for feature in spec.description.output)
    return Interface(file_format, f"specification {spec.specificationVersion}", inputs, outputs, labels)


def _input(feature: "pb.FeatureDescription", value_range: tuple[float, float]) -> InputSpec:
    image = feature.type.imageType
    if feature.type.WhichOneof("Type") != "imageType" or image.colorSpace not in _COLOR_ORDERS:
        raise DamagedFileError(f"input {feature.name!r} is not a colour image")
    return InputSpec(
        name=feature.name,
        shape=(1, image.height, image.width, 3),
        dtype="uint8",  # an 8-bit image; scale and bias inside the file bring it to the range
        layout="NHWC",
        range=value_range,
        color_order=_COLOR_ORDERS[image.colorSpace],
    )


def _output(feature: "pb.FeatureDescription", spec: "pb.Model") -> OutputSpec:
    kind = feature.type.WhichOneof("Type")
    if kind == "dictionaryType":
        return OutputSpec(feature.name, (1, len(_class_labels(spec) or ())), "float32", "probabilities")
    if kind == "stringType":
        return OutputSpec(feature.name, (1,), "string", "label")
    array = feature.type.multiArrayType
    shape = tuple(array.shape) or (-1,)
    return OutputSpec(feature.name, shape, _ARRAY_DTYPES.get(array.dataType, str(array.dataType)), feature.name)


def _class_labels(spec: "pb.Model") -> tuple[str, ...] | None:
    if spec.WhichOneof("Type") == "neuralNetworkClassifier":
        return tuple(spec.neuralNetworkClassifier.stringClassLabels.vector)
    for operation in _operations(spec):
        if operation.type == "classify":
            classes = operation.inputs["classes"].arguments[0].value.immediateValue.list.values
            return tuple(text for c in classes for text in c.immediateValue.tensor.strings.values)
    return None


def _operations(spec: "pb.Model") -> Iterator[object]:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations


def _predict(path: Path, interface: Interface, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Run on a Mac. Images are given as RGB pictures: Core ML orders and scales the channels as the file declares."""
    import coremltools  # takes seconds, and only a Mac gets here
    from PIL import Image

    model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    name = interface.inputs[0].name
    predictions = [model.predict({name: Image.fromarray(image)}) for image in pixels]
    numeric = [output.name for output in interface.outputs if output.meaning != "label"]
    return {name: np.stack([_row(p[name], interface) for p in predictions]) for name in numeric}


def _row(value: object, interface: Interface) -> np.ndarray:
    """One image's values; a dictionary of probabilities in the order of the labels."""
    if isinstance(value, dict):
        return np.array([value[label] for label in interface.labels], dtype=np.float32)
    return np.asarray(value, dtype=np.float32)[0]
