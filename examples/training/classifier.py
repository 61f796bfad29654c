"""Train a MobileViT classifier on a folder of images, one sub-folder a class.

    python examples/training/classifier.py --train DIR --validation DIR \\
        --backbone mobilevit_xxs.pth --output classifier.safetensors
    mvit-export --weights classifier.safetensors --labels classifier.labels.txt --target coreml

The sub-folders' names are the labels, in their order. Accuracy is measured on --validation, whose images are prepared
as mvit-export prepares those of --verify-images, and chooses the weights.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import batches, fit, parser, run, save_labels
from pictures import as_input, cut, random_window
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from mvit_deploy.decoding import decode
from mvit_deploy.errors import UsageError
from mvit_deploy.images import list_images, prepare
from mvit_deploy.nn.heads.classification import Classifier, classifier

SMOOTHING = 0.1  # of the labels, as ml-cvnets v0.1 trains

Labelled = tuple[Path, int]  # an image's file and the place of its label


class Pictures(Dataset):
    """Images, each time another part of them, with their labels. Items: image (3, S, S), label."""

    def __init__(self, pictures: list[Labelled], options: argparse.Namespace) -> None:
        self.pictures, self.side = pictures, options.image_size
        self.generator = np.random.default_rng(options.seed)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        path, label = self.pictures[place]
        window = random_window(self.generator)
        image = as_input(cut(decode(path), window, self.side, resample=Image.Resampling.BILINEAR))
        return (image.flip(2) if self.generator.random() < 0.5 else image), label


def labelled(folder: Path, classes: list[str]) -> list[Labelled]:
    """Every image below a folder. Raises: UsageError when there is none, or one that is in no class's folder."""
    found = []
    for path in list_images(folder):
        name = path.relative_to(folder).parts[0]
        if name not in classes:
            raise UsageError(f"{path} is in the folder of no class; known: {', '.join(classes)}")
        found.append((path, classes.index(name)))
    return found


def loss_of(model: nn.Module, batch: list[Tensor]) -> Tensor:
    image, label = batch
    return F.cross_entropy(model(image), label, label_smoothing=SMOOTHING)


def measure(model: Classifier, pictures: list[Labelled], side: int) -> tuple[float, str]:
    """The share of images whose label has the largest logit, and it in words."""
    right = 0
    for path, label in pictures:
        image = as_input(Image.fromarray(prepare(path, (side, side))))
        with torch.no_grad():
            right += int(model(image[None]).argmax()) == label
    score = right / len(pictures)
    return score, f"accuracy {score:.3f}"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    torch.manual_seed(options.seed)
    classes = sorted({path.relative_to(options.train).parts[0] for path in list_images(options.train)})
    training, validation = labelled(options.train, classes), labelled(options.validation, classes)
    model = classifier(options.mode, len(classes))
    loader = batches(Pictures(training, options), options)
    save_labels(classes, options.output)
    fit(model, loader, loss_of, lambda judged: measure(judged, validation, options.image_size), options)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    options = parser(__doc__.splitlines()[0], image_size=256)
    options.add_argument("--train", type=Path, required=True)
    options.add_argument("--validation", type=Path, required=True)
    return options.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run(main))
