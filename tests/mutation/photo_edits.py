"""Faults of the last metre, as edits of a shipped file in place: what it says of itself, how it ends, where it begins.

Verbs are the same for every format, so that one table of faults serves all of them: say, set_labels, swap_colors,
swap_stem, shift_image, scale_image, transpose_image, drop_softmax, add_softmax, take, count_classes_from, set_rule,
move_zero_point. A verb that a format
or a file has no place for raises NoSuchPlace.
"""

from pathlib import Path

from tests.mutation.photo_edits_coreml import NetworkFile, ProgramFile
from tests.mutation.photo_edits_tensors import OnnxFile, TfliteFile
from tests.mutation.photo_faults import NoSuchPlace

__all__ = ["NoSuchPlace", "opened"]

FILES = {".onnx": OnnxFile, ".tflite": TfliteFile, ".mlpackage": ProgramFile, ".mlmodel": NetworkFile}


def opened(path: Path) -> OnnxFile | TfliteFile | ProgramFile | NetworkFile:
    return FILES[path.suffix](path)
