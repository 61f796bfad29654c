"""8-bit images to the tensor that a file declares, and the tensors that it gives to float numbers."""

from collections.abc import Callable, Iterator

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.spec import InputSpec, Interface, OutputSpec

BATCH_WHERE_FREE = 4


def prepare(pixels: np.ndarray, declared: InputSpec) -> np.ndarray:
    """uint8 RGB images (count, height, width, 3) in the declared layout, colour order and range, float32, or quantized
    where the file declares a scale: to the nearest level of its type.

    Raises: DamagedFileError when the declared size is not the images'.
    """
    low, high = declared.range
    ordered = pixels[..., ::-1] if declared.color_order == "BGR" else pixels
    values = ordered.astype(np.float32) / np.float32(255) * np.float32(high - low) + np.float32(low)
    tensor = values.transpose(0, 3, 1, 2) if declared.layout == "NCHW" else values
    if tuple(declared.shape[1:]) != tensor.shape[1:]:
        raise DamagedFileError(f"input {declared.name!r} is declared {declared.shape}, images are {tensor.shape}")
    return np.ascontiguousarray(tensor if declared.scale is None else _quantized(tensor, declared))


def _quantized(values: np.ndarray, declared: InputSpec) -> np.ndarray:
    ends = np.iinfo(declared.dtype)
    levels = np.rint(values.astype(np.float64) / declared.scale) + declared.zero_point
    return levels.clip(ends.min, ends.max).astype(declared.dtype)


def dequantized(values: np.ndarray, declared: OutputSpec) -> np.ndarray:
    """What a file gave as float32 numbers: scale * (level - zero_point) where it declares a scale, else as they are."""
    if declared.scale is None:
        return values
    return (values.astype(np.float32) - np.float32(declared.zero_point)) * np.float32(declared.scale)


def channels_first(values: np.ndarray, declared: OutputSpec) -> np.ndarray:
    """What a file gave, a map as PyTorch lays it out; everything else as it is."""
    return values.transpose(0, 3, 1, 2) if declared.layout == "NHWC" else values


def run_in_batches(
    pixels: np.ndarray, declared: Interface, invoke: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Run every image in batches of the declared size (of 4 where it is free) and join the outputs, dequantized.

    Raises: UsageError for a file whose outputs differ in length.
    """
    declared.check_stackable()
    image = declared.inputs[0]
    parts = [invoke(prepare(batch, image)) for batch in _batches(pixels, image.shape[0])]
    outputs = {output.name: output for output in declared.outputs}
    return {name: dequantized(np.concatenate([part[name] for part in parts]), outputs[name]) for name in parts[0]}


def _batches(pixels: np.ndarray, size: int) -> Iterator[np.ndarray]:
    step = BATCH_WHERE_FREE if size < 1 else size
    for start in range(0, len(pixels), step):
        yield pixels[start : start + step]
