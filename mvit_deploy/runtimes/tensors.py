"""8-bit images to the tensor that a file declares."""

from collections.abc import Callable, Iterator

import numpy as np

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.spec import InputSpec

BATCH_WHERE_FREE = 4


def prepare(pixels: np.ndarray, declared: InputSpec) -> np.ndarray:
    """uint8 RGB images (count, height, width, 3) in the declared layout, colour order and range, float32.

    Raises: DamagedFileError when the declared size is not the images'.
    """
    low, high = declared.range
    ordered = pixels[..., ::-1] if declared.color_order == "BGR" else pixels
    values = ordered.astype(np.float32) / np.float32(255) * np.float32(high - low) + np.float32(low)
    tensor = values.transpose(0, 3, 1, 2) if declared.layout == "NCHW" else values
    if tuple(declared.shape[1:]) != tensor.shape[1:]:
        raise DamagedFileError(f"input {declared.name!r} is declared {declared.shape}, images are {tensor.shape}")
    return np.ascontiguousarray(tensor)


def run_in_batches(
    pixels: np.ndarray, declared: InputSpec, run: Callable[[np.ndarray], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Run every image in batches of the declared size (of 4 where it is free) and join the outputs."""
    parts = [run(prepare(batch, declared)) for batch in _batches(pixels, declared.shape[0])]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _batches(pixels: np.ndarray, size: int) -> Iterator[np.ndarray]:
    step = BATCH_WHERE_FREE if size < 1 else size
    for start in range(0, len(pixels), step):
        yield pixels[start : start + step]
