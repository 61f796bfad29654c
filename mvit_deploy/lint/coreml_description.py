"""What a Core ML file says of its inputs: sizes that are free, or listed, and the batch."""

from typing import Any

from mvit_deploy.lint import Findings


def check_description(spec: Any, found: Findings) -> bool:
    """Look at the described inputs. Returns: whether all sizes that are not fixed are listed."""
    listed = False
    for feature in spec.description.input:
        kind = feature.type.WhichOneof("Type")
        if kind == "imageType":
            listed |= _check_image(feature.name, feature.type.imageType, found)
        elif kind == "multiArrayType":
            listed |= _check_array(feature.name, feature.type.multiArrayType, found)
    return listed


def _check_image(name: str, image: Any, found: Findings) -> bool:
    flexibility = image.WhichOneof("SizeFlexibility")
    if flexibility == "imageSizeRange":
        size = image.imageSizeRange
        told = f"height {_range(size.heightRange)}, width {_range(size.widthRange)}"
        found.add("coreml-free-size", tensor=name, what=told)
    if flexibility == "enumeratedSizes":
        sizes = ", ".join(f"{each.height}x{each.width}" for each in image.enumeratedSizes.sizes)
        found.add("enumerated-shapes", tensor=name, what=sizes)
    return flexibility == "enumeratedSizes"


def _check_array(name: str, array: Any, found: Findings) -> bool:
    flexibility = array.WhichOneof("ShapeFlexibility")
    if flexibility == "shapeRange":
        ranges = list(array.shapeRange.sizeRanges)
        told = ", ".join(map(_range, ranges))
        if any(_is_free(each) for each in ranges[1:]):
            found.add("coreml-free-size", tensor=name, what=told)
        elif any(_is_free(each) for each in ranges):
            found.add("coreml-free-batch", tensor=name, what=told)
    if flexibility == "enumeratedShapes":
        shapes = ", ".join(str(list(each.shape)) for each in array.enumeratedShapes.shapes)
        found.add("enumerated-shapes", tensor=name, what=shapes)
    if flexibility is None and len(array.shape) > 1 and array.shape[0] != 1:
        found.add("coreml-batch", tensor=name, what=str(list(array.shape)))
    return flexibility == "enumeratedShapes"


def _is_free(size: Any) -> bool:
    return size.upperBound != size.lowerBound


def _range(size: Any) -> str:
    """An upper bound of -1 is none (FeatureTypes.proto)."""
    if not _is_free(size):
        return str(size.lowerBound)
    return f"{size.lowerBound} to {'any' if size.upperBound < 0 else size.upperBound}"
