"""An evaluator of Core ML's classic format, the neural network of an .mlmodel, in numpy.

It reads as the format does: a list of layers, each with named inputs and outputs, over a set of named tensors (blobs).
What a layer means is in network_layers and the modules it gathers. Source: NeuralNetwork.proto of coremltools.
"""

import inspect
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mvit_deploy.errors import DamagedFileError, ShapeError, UsageError
from mvit_deploy.runtimes.coreml import proto
from mvit_deploy.runtimes.coreml.errors import UnknownFormError, UnknownOperationError
from mvit_deploy.runtimes.coreml.kernels import MAX_ELEMENTS, check_size
from mvit_deploy.runtimes.coreml.network_layers import LAYERS
from mvit_deploy.runtimes.coreml.network_weights import Layer

pb = proto.model_pb2()
NETWORKS = ("neuralNetwork", "neuralNetworkClassifier")
_EXACT_ARRAY_MAPPING = 1  # NeuralNetworkMultiArrayShapeMapping; 0 maps to rank 5
_RANK4_IMAGE_MAPPING = 1  # NeuralNetworkImageShapeMapping; 0 maps to rank 5
_CHANNELS = {10: "gray", 40: "gray", 20: "red green blue", 30: "blue green red"}  # ImageFeatureType.ColorSpace
_MISFITS = (ValueError, IndexError, OverflowError, ZeroDivisionError, MemoryError)  # numpy's, of shapes and indices


@dataclass(frozen=True)
class Operation:
    """A layer as the file lists it; line counts from 1."""

    line: int
    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.name!r} ({self.type})"

    def __str__(self) -> str:
        return f"layer {self.line}, {self.text}"


class Network:
    """A neural network, plain or a classifier.

    inputs: the shape of each input, NCHW for images, in the file's order. outputs: the names that the file declares.
    operations: the layers, in the order in which they run.
    """

    def __init__(self, spec: "pb.Model") -> None:
        """Raises: UnknownOperationError for a form of network or a layer that is not known; DamagedFileError."""
        self._description = spec.description
        self._is_classifier = spec.WhichOneof("Type") == "neuralNetworkClassifier"
        self._network = _network(spec)
        self.operations = [_operation(line, each) for line, each in enumerate(self._network.layers, start=1)]
        self._layers = [_layer(o, each) for o, each in zip(self.operations, self._network.layers, strict=True)]
        self.inputs = {feature.name: _input_shape(feature, self._network) for feature in spec.description.input}
        self.outputs = [feature.name for feature in spec.description.output]
        self._blobs = _check_names(self.inputs, self.operations)
        self._sources = self._output_blobs()
        self._check_preprocessing()

    def run(self, values: Mapping[str, np.ndarray], taps: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """The declared outputs, and the blobs named in taps, by name, as float32.

        values: an array for each input; pixels as 0..255 in the colour order that the file declares, which the
        network's own preprocessing then scales. A classifier's label is an array of one string or integer.
        Raises: UsageError for values and taps that do not belong to the network; DamagedFileError;
        UnknownOperationError.
        """
        taps = list(taps)
        unknown = [name for name in taps if name not in self._blobs]
        if unknown:
            raise UsageError(f"the network has no blob {unknown[0]!r}")
        blobs = {name: self._prepared(name, values) for name in self.inputs}
        with np.errstate(all="ignore"):  # NaN and infinity are results, for the caller to judge
            self._run_layers(blobs, keep={*taps, *self._sources.values()})
        results = {name: self._result(name, blobs[blob]) for name, blob in self._sources.items()}
        return results | {name: blobs[name].copy() for name in taps}

    def _run_layers(self, blobs: dict[str, np.ndarray], keep: set[str]) -> None:
        """Add every blob in turn, and forget those that are neither read again nor kept."""
        last_read = {name: o.line for o in self.operations for name in (*o.inputs, *o.outputs)}
        weights = 0
        for operation, layer in zip(self.operations, self._layers, strict=True):
            made = _evaluate(operation, layer, [blobs[name] for name in operation.inputs])
            blobs.update(zip(operation.outputs, made, strict=True))
            for name in {*operation.inputs, *operation.outputs} - keep:
                if last_read[name] == operation.line:
                    del blobs[name]
            weights += layer.decoded_elements
            if weights + sum(blob.size for blob in blobs.values()) > MAX_ELEMENTS:
                raise DamagedFileError(f"{operation}: the network holds more than {MAX_ELEMENTS} values at once")

    def _prepared(self, name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """An input as the layers see it. Sources: NeuralNetworkImageScaler, NeuralNetworkMeanImage."""
        if name not in values:
            raise UsageError(f"no value for the input {name!r}")
        x = np.asarray(values[name], dtype=np.float32)
        if x.shape != self.inputs[name]:
            raise ShapeError(f"input {name!r} takes the shape {self.inputs[name]}, not {x.shape}")
        for step in self._network.preprocessing:
            if step.featureName == name:
                x = self._preprocessed(x, name, step)
        return x

    def _preprocessed(self, x: np.ndarray, name: str, step: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            if step.WhichOneof("preprocessor") == "scaler":
                return np.float32(step.scaler.channelScale) * x + self._channel_bias(name, step.scaler)
            return x - np.asarray(step.meanImage.meanImage, dtype=np.float32).reshape(x.shape)

    def _channel_bias(self, name: str, scaler: Any) -> np.ndarray:
        feature = next(f for f in self._description.input if f.name == name)
        colors = _CHANNELS[feature.type.imageType.colorSpace].split()
        return np.array([getattr(scaler, f"{color}Bias") for color in colors], dtype=np.float32).reshape(1, -1, 1, 1)

    def _check_preprocessing(self) -> None:
        images = {f.name for f in self._description.input if f.type.WhichOneof("Type") == "imageType"}
        steps = Counter(step.featureName for step in self._network.preprocessing)
        for step in self._network.preprocessing:
            kind, where = step.WhichOneof("preprocessor"), f"input {step.featureName!r}"
            if step.featureName not in self.inputs:
                raise DamagedFileError(f"preprocessing of {step.featureName!r}, which is no input")
            if kind is None or step.featureName not in images or steps[step.featureName] > 1:
                raise _unknown(f"preprocessing with {kind} of something else than one image, once", where)
            if kind == "scaler" and step.scaler.channelScale == 0:  # 0 times the image, or not set? It is not said.
                raise _unknown("preprocessing with a channelScale of 0", where)
            if kind == "meanImage" and len(step.meanImage.meanImage) != math.prod(self.inputs[step.featureName]):
                raise DamagedFileError(f"a mean image of {len(step.meanImage.meanImage)} values does not fit {where}")

    def _output_blobs(self) -> dict[str, str]:
        """The blob that each declared output comes from."""
        sources = {}
        for feature in self._description.output:
            of_label = self._labels is not None and feature.name in (
                self._description.predictedFeatureName,
                self._description.predictedProbabilitiesName,
            )
            if feature.type.WhichOneof("Type") == "imageType":
                raise _unknown("image outputs", f"output {feature.name!r}")
            sources[feature.name] = self._probability_blob() if of_label else feature.name
            if sources[feature.name] not in self._blobs:
                raise DamagedFileError(f"output {feature.name!r} comes from no layer")
        return sources

    def _probability_blob(self) -> str:
        """Source: NeuralNetworkClassifier.labelProbabilityLayerName, by default the last layer's output."""
        if self._network.labelProbabilityLayerName:
            return self._network.labelProbabilityLayerName
        if not self.operations or len(self.operations[-1].outputs) != 1:
            raise DamagedFileError("the classifier does not say which blob holds its probabilities")
        return self.operations[-1].outputs[0]

    @property
    def _labels(self) -> list[str] | list[int] | None:
        if not self._is_classifier:
            return None
        kind = self._network.WhichOneof("ClassLabels")
        if kind is None:
            raise DamagedFileError("the classifier has no labels")
        return list(getattr(self._network, kind).vector)

    def _result(self, name: str, blob: np.ndarray) -> np.ndarray:
        labels = self._labels
        of_label = labels is not None and name == self._description.predictedFeatureName
        of_probabilities = labels is not None and name == self._description.predictedProbabilitiesName
        if (of_label or of_probabilities) and blob.size != len(labels):
            raise DamagedFileError(f"{blob.size} probabilities for {len(labels)} labels")
        return np.array([labels[int(blob.argmax())]]) if of_label else blob.copy()


def _network(spec: "pb.Model") -> Any:
    kind = spec.WhichOneof("Type")
    if kind not in NETWORKS:
        raise _unknown(f"models of the type {kind}", "the model")
    return getattr(spec, kind)


def _unknown(operation: str, text: str) -> UnknownOperationError:
    """Of something outside the list of layers, which has no line."""
    return UnknownOperationError(operation, 0, text, LAYERS)


def _operation(line: int, layer: Any) -> Operation:
    kind = layer.WhichOneof("layer")
    operation = Operation(line, layer.name, kind or "?", tuple(layer.input), tuple(layer.output))
    if kind not in LAYERS:
        raise UnknownOperationError(kind or "a layer without a type", line, operation.text, LAYERS)
    return operation


def _layer(operation: Operation, layer: Any) -> Layer:
    found = Layer(getattr(layer, operation.type), len(operation.outputs))
    try:
        inspect.signature(LAYERS[operation.type]).bind(found, *operation.inputs)
    except TypeError as error:
        raise DamagedFileError(
            f"{operation}: a layer of its type does not have {len(operation.inputs)} inputs"
        ) from error
    return found


def _input_shape(feature: Any, network: Any) -> tuple[int, ...]:
    """Sources: FeatureTypes.proto, and the two enums of shape mappings in NeuralNetwork.proto."""
    kind = feature.type.WhichOneof("Type")
    where = f"input {feature.name!r}"
    if kind == "imageType":
        image = feature.type.imageType
        if image.colorSpace not in _CHANNELS:
            raise DamagedFileError(f"{where} has the unknown colour space {image.colorSpace}")
        if network.imageInputShapeMapping != _RANK4_IMAGE_MAPPING:
            raise _unknown("RANK5_IMAGE_MAPPING", where)
        shape = (1, len(_CHANNELS[image.colorSpace].split()), image.height, image.width)
    elif kind == "multiArrayType":
        if network.arrayInputShapeMapping != _EXACT_ARRAY_MAPPING:
            raise _unknown("RANK5_ARRAY_MAPPING", where)
        shape = tuple(feature.type.multiArrayType.shape)
    else:
        raise _unknown(f"inputs of the type {kind}", where)
    if not shape or min(shape) < 1:
        raise DamagedFileError(f"{where} has the shape {shape}")
    check_size(shape)
    return shape


def _check_names(inputs: Iterable[str], operations: Iterable[Operation]) -> set[str]:
    """All blobs. Raises: DamagedFileError when one is read before it is made, or made twice other than by copy."""
    made = set(inputs)
    for operation in operations:
        missing = [name for name in operation.inputs if name not in made]
        if missing:
            raise DamagedFileError(f"{operation}: reads {missing[0]!r}, which nothing before it makes")
        for name in operation.outputs:
            if name in made and operation.type != "copy":
                raise DamagedFileError(f"{operation}: makes {name!r} a second time")
            made.add(name)
    return made


def _evaluate(operation: Operation, layer: Layer, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a layer. Raises: DamagedFileError and UnknownOperationError, which name it."""
    try:
        made = LAYERS[operation.type](layer, *inputs)
    except UnknownFormError as error:
        raise UnknownOperationError(f"{operation.type} with {error}", operation.line, operation.text, LAYERS) from error
    except (DamagedFileError, *_MISFITS) as error:
        raise DamagedFileError(f"{operation}: {error}") from error
    blobs = [np.asarray(blob, dtype=np.float32) for blob in (made if isinstance(made, tuple) else (made,))]
    if len(blobs) != len(operation.outputs):
        raise DamagedFileError(f"{operation}: {len(blobs)} outputs, but {len(operation.outputs)} names")
    if any(blob.size == 0 for blob in blobs):
        raise DamagedFileError(f"{operation}: an output without elements, from {[x.shape for x in inputs]}")
    return blobs
