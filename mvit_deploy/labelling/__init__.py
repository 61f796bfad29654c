"""From photo to label: what a file answers by what it declares of itself alone, beside what PyTorch answers.

Tensors may agree while an app gets wrong labels, since a mean, an order of colours, a softmax or a list of labels is
wrong. Here everything from the encoded picture on is done as the file itself says; the answers are brought together by
the names of their labels. NumPy and the file's runtime are all that is needed.

One module per task, the same verbs in each: classes (of whole pictures), boxes, maps (of the classes of points).
"""

from pathlib import Path
from types import ModuleType

from mvit_deploy import runtimes
from mvit_deploy.labelling import boxes, classes, maps
from mvit_deploy.labelling.photos import Photos, declared_preprocessing, image_size

KINDS = {"classification": classes, "detection": boxes, "segmentation": maps}


def answers_of_file(kind: ModuleType, path: Path, photos: Photos) -> object:
    """What a file says of photos. Everything that happens to them is read from the file. kind: of KINDS.

    Raises: DamagedFileError when it cannot be read, does not say how a photo becomes its image, or gives something else
    than the kind's answers; UsageError for a photo that cannot be read; MissingLibraryError; CannotRunHere.
    """
    runner = runtimes.open_file(path)
    found = runner.interface
    pixels = photos.prepared(declared_preprocessing(found), image_size(found.inputs[0]))
    return kind.of_file(path, runner, pixels, photos.names)
