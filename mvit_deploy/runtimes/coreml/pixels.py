"""8-bit images as Core ML hands them to a model: channels ordered, values 0..255; scale and bias are the model's."""

import numpy as np
from PIL import Image

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.spec import InputSpec


def image_tensor(image: np.ndarray, declared: InputSpec) -> np.ndarray:
    """One image as the tensor that enters the model.

    Shapes: uint8 RGB (height, width, 3) -> float32 (1, 3, height, width) in the declared order, or
    (1, 1, height, width) of luma (ITU-R 601-2) for a gray one. Range 0..255.
    Raises: DamagedFileError when the declared size is not the image's.
    Source: ImageFeatureType in FeatureTypes.proto; coremltools' ImageType.
    """
    if tuple(declared.shape[1:3]) != image.shape[:2]:
        raise DamagedFileError(f"input {declared.name!r} is declared {declared.shape}, the image is {image.shape}")
    if declared.color_order == "GRAY":
        return np.asarray(Image.fromarray(image).convert("L"), dtype=np.float32)[None, None]
    ordered = image[..., ::-1] if declared.color_order == "BGR" else image
    return np.ascontiguousarray(ordered.transpose(2, 0, 1)[None], dtype=np.float32)
