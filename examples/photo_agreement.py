"""Do the shipped files predict what PyTorch predicts, photo by photo?

    python examples/photo_agreement.py --weights model.pth --labels labels.txt --photos DIR FILE …

DIR holds one folder a class, named as in the labels. Photos are decoded to RGB, the short side is resized to 1.125
times the crop (288 for 256), the centre is cropped; the files take care of the rest as they declare it themselves.
Prints for PyTorch and for each file how many photos are right and how many differ from PyTorch, and ends with 1 if an
fp32 file differs on one.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from mvit_deploy import images, reference, runtimes
from mvit_deploy.request import read_labels
from mvit_deploy.verification import numeric_outputs


def main() -> int:
    arguments = parse()
    model = reference.from_weights(None, str(arguments.weights), num_classes=None, seed=0)
    photos = images.load_folder(arguments.photos, (arguments.image_size, arguments.image_size))
    labels = read_labels(arguments.labels, num_classes=model.module.num_classes, distinct=True)
    truth = np.array([labels.index(name.split("/")[0]) for name in photos.names])
    expected = reference.run(model, photos.pixels)["logits"].argmax(1)
    show("PyTorch", expected, truth, expected)
    return max([judge(path, photos.pixels, truth, expected) for path in arguments.files], default=0)


def judge(path: Path, pixels: np.ndarray, truth: np.ndarray, expected: np.ndarray) -> int:
    """Run one file, print its line; 1 when an fp32 file differs from PyTorch on a photo."""
    runner = runtimes.open_file(path)
    try:
        outputs = runner.run(pixels)[numeric_outputs(runner.interface)[0].name]
    except runtimes.CannotRunHere as reason:
        print(f"{path.name:36} not run: {reason}")
        return 0
    found = outputs.argmax(1)
    show(path.name, found, truth, expected)
    return int("fp32" in path.name and (found != expected).any())


def show(name: str, found: np.ndarray, truth: np.ndarray, expected: np.ndarray) -> None:
    right, count = (found == truth).sum(), len(truth)
    print(f"{name:36} right {right}/{count} ({right / count:.1%}), differs from PyTorch on {(found != expected).sum()}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("files", type=Path, nargs="*")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
