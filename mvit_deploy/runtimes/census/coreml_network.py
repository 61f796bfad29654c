"""Census of Core ML's classic networks (.mlmodel): everything computes in float, weights may be stored in 1 to 8 bits.

Layers do not say the shapes of their results, so the evaluator runs one image to see them.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from mvit_deploy.runtimes.census import FLOAT, WEIGHT_ONLY, Census, MacOperation, StoredWeight
from mvit_deploy.runtimes.coreml.network import Network, Operation
from mvit_deploy.runtimes.coreml.network_weights import count

_MACS = ("convolution", "innerProduct", "batchedMatmul")


def census(spec: Any) -> Census:
    """Count a classic network. Raises: DamagedFileError; UnknownOperationError."""
    network, layers = Network(spec), _layers(spec)
    blobs = {name for operation in network.operations for name in (*operation.inputs, *operation.outputs)}
    image = {name: np.full(shape, 127, np.float32) for name, shape in network.inputs.items()}
    shapes = {name: value.shape for name, value in network.run(image, taps=sorted(blobs)).items()}
    found = list(zip(network.operations, layers, strict=True))
    return Census(
        basis="layers of the network; all compute in float",
        operations=tuple(_operation(o, getattr(layer, o.type), shapes) for o, layer in found if o.type in _MACS),
        weights=weights(spec),
        float_operators=Counter(o.type for o, _ in found if o.type not in _MACS),
    )


def weights(spec: Any) -> tuple[StoredWeight, ...]:
    """Everything that the layers store, from the file alone. Raises: DamagedFileError."""
    known = [(layer, layer.WhichOneof("layer")) for layer in _layers(spec) if layer.WhichOneof("layer")]
    found = (weight for layer, kind in known for weight in _weights(layer.name, getattr(layer, kind)))
    return tuple(weight for weight in found if weight.elements > 1)


def _layers(spec: Any) -> Any:
    return getattr(spec, spec.WhichOneof("Type")).layers


def _weights(name: str, params: Any) -> Iterator[StoredWeight]:
    """Everything that a layer stores, in the order of its fields."""
    for descriptor, value in params.ListFields():
        if descriptor.message_type is not None and descriptor.message_type.name == "WeightParams":
            yield _stored(f"{name}.{descriptor.name}", value)


def _stored(name: str, weights: Any) -> StoredWeight:
    if len(weights.floatValue):
        return StoredWeight(name, len(weights.floatValue), 32, is_integer=False)
    if len(weights.float16Value):
        return StoredWeight(name, len(weights.float16Value) // 2, 16, is_integer=False)
    is_linear = weights.quantization.WhichOneof("QuantizationType") == "linearQuantization"
    return StoredWeight(name, count(weights), weights.quantization.numberOfBits, is_linear)


def _operation(operation: Operation, params: Any, shapes: dict[str, tuple[int, ...]]) -> MacOperation:
    weight = _stored("", params.weights) if params.HasField("weights") else None
    return MacOperation(
        name=operation.name,
        type=operation.type,
        kind=WEIGHT_ONLY if weight and weight.bits <= 8 else FLOAT,
        macs=_count(operation, params, shapes),
        weight_bytes=weight.bytes if weight else 0,
        weight_bits=weight.bits if weight else 0,
    )


def _count(operation: Operation, params: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    first, outputs = shapes[operation.inputs[0]], math.prod(shapes[operation.outputs[0]])
    if operation.type == "innerProduct":
        return outputs * params.inputChannels
    if operation.type == "batchedMatmul":
        return outputs * first[-2 if params.transposeA else -1]
    kernel = math.prod(params.kernelSize or (3, 3))
    if params.isDeconvolution:
        return math.prod(first) * params.outputChannels // (params.nGroups or 1) * kernel
    return outputs * params.kernelChannels * kernel
