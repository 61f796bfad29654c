"""What MediaPipe Tasks, which apps on Android and iOS use, sees in a photo with a .tflite file of a classifier.

    python examples/mediapipe/classify.py FILE.tflite PHOTO

Needs mediapipe alone, in an environment of its own: its OpenCV is another than onnx2tf's.
"""

import sys

import mediapipe
from mediapipe.tasks.python import BaseOptions, vision


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    model, photo = sys.argv[1:]
    options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=model), max_results=5)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        found = classifier.classify(mediapipe.Image.create_from_file(photo))
    for category in found.classifications[0].categories:
        print(f"{category.category_name:24} {category.score:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
