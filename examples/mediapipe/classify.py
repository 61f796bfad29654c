"""What MediaPipe Tasks, which apps on Android and iOS use, sees in a photo with a .tflite file of a classifier.

    python examples/mediapipe/classify.py FILE.tflite PHOTO [SHARE]

MediaPipe squeezes the whole photo into the input. Where a file's photos are cropped (mvit-inspect says how), give the
SHARE of the short side that the crop keeps, 0.889 for 256 of 288: the middle square of that size is then looked at.
Needs mediapipe alone, in an environment of its own: its OpenCV is another than onnx2tf's.
"""

import sys

import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
from mediapipe.tasks.python.components.containers.rect import RectF


def main() -> int:
    if len(sys.argv) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    model, photo, *share = sys.argv[1:]
    image = mediapipe.Image.create_from_file(photo)
    region = middle(image.width, image.height, float(share[0])) if share else None
    options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=model), max_results=5)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        found = classifier.classify(image, vision.ImageProcessingOptions(region_of_interest=region))
    for category in found.classifications[0].categories:
        print(f"{category.category_name:24} {category.score:.1%}")
    return 0


def middle(width: int, height: int, share: float) -> RectF:
    """The centred square of a share of the short side, in units of the image's sides."""
    side = min(width, height) * share
    across, down = side / width, side / height
    return RectF(left=(1 - across) / 2, top=(1 - down) / 2, right=(1 + across) / 2, bottom=(1 + down) / 2)


if __name__ == "__main__":
    sys.exit(main())
