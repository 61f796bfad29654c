"""Train a MobileViT with SSDLite on a folder laid out as Pascal VOC.

    python examples/training/detector.py --data VOC --backbone mobilevit_xxs.pth --output detector.safetensors
    mvit-export --weights detector.safetensors --labels detector.labels.txt --target coreml

VOC holds JPEGImages, Annotations and ImageSets/Main with train.txt and val.txt. The mean average precision at an
intersection over union of 0.5 is measured on val, which chooses the weights; with --test once more on a split that
chose nothing. Pictures are turned, cropped and resized to a square, whatever their shape.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from common import batches, fit, parser, run, save_labels, start_small
from pictures import WHOLE, Window, as_input, cut, random_window
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from voc import Annotated, read_split

from mvit_deploy.decoding import decode
from mvit_deploy.detection import Detections, non_maximum_suppression
from mvit_deploy.errors import UsageError
from mvit_deploy.nn.anchors import anchors_of_image
from mvit_deploy.nn.heads.detection import Decoded, Detector, detector
from mvit_deploy.training.losses import multibox_loss
from mvit_deploy.training.matching import matched
from mvit_deploy.training.metrics import Truth, average_precisions, mean_average_precision

LEAST_SCORE = 0.01  # of a detection that is counted, as ml-cvnets evaluates


class Boxes(Dataset):
    """Pictures, each time another part of them, with what their anchors must say.

    Items: image (3, S, S); classes (A,) and locations (A, 4) as matched() gives them.
    """

    def __init__(self, pictures: list[Annotated], classes: list[str], options: argparse.Namespace) -> None:
        self.pictures, self.side = pictures, options.image_size
        self.labels = [torch.from_numpy(labels_of(picture, classes)) for picture in pictures]
        self.anchors = anchors_of_image((self.side, self.side))
        self.generator = np.random.default_rng(options.seed)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        picture, window = self.pictures[place], random_window(self.generator)
        image = as_input(cut(decode(picture.path), window, self.side, resample=Image.Resampling.BILINEAR))
        boxes, is_there = seen_through(window, torch.from_numpy(picture.boxes))
        if self.generator.random() < 0.5:
            image, boxes = image.flip(2), flipped(boxes)
        return image, *matched(self.anchors, boxes, self.labels[place][is_there])


def labels_of(picture: Annotated, classes: list[str]) -> np.ndarray:
    """Shapes: -> int64 (n,), from 1 on. Raises: UsageError for a class that the training split does not have."""
    unknown = set(picture.names) - set(classes)
    if unknown:
        raise UsageError(f"{picture.path.name} has {', '.join(sorted(unknown))}; known: {', '.join(classes)}")
    return np.array([1 + classes.index(name) for name in picture.names], np.int64)


def seen_through(window: Window, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes whose centre is in a window, cut and in its units, and which these are (arXiv 1512.02325 section 2.2).

    Shapes: (n, 4), corners -> (m, 4), bool (n,).
    """
    left, top, right, bottom = window
    moved = (boxes - boxes.new_tensor([left, top] * 2)) / boxes.new_tensor([right - left, bottom - top] * 2)
    centres = (moved[:, :2] + moved[:, 2:]) / 2
    is_there = ((centres > 0) & (centres < 1)).all(dim=1)
    return moved[is_there].clamp(0, 1), is_there


def flipped(boxes: Tensor) -> Tensor:
    """Left and right exchanged. Shapes: (n, 4), corners -> (n, 4)."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack((1 - right, top, 1 - left, bottom), dim=1)


def untrained(mode: str, num_classes: int) -> Detector:
    """A network whose head says little of anything."""
    model = detector(mode, num_classes)
    start_small(model.head.last_layers)
    return model


def loss_of(model: nn.Module, batch: list[Tensor]) -> Tensor:
    image, classes, locations = batch
    return multibox_loss(*model(image), classes, locations)


def detections_of(model: Decoded, picture: Annotated) -> Detections:
    """What a model finds on a picture, boxes in units of its sides."""
    image = cut(decode(picture.path), WHOLE, model.image_size[0], resample=Image.Resampling.BILINEAR)
    with torch.no_grad():
        boxes, scores = model(as_input(image)[None])
    return non_maximum_suppression(boxes[0].numpy(), scores[0].numpy(), score_threshold=LEAST_SCORE)


def measure(model: Detector, pictures: list[Annotated], classes: list[str], side: int) -> tuple[float, str]:
    """mAP at 0.5, and it in words with that of each class."""
    decoded = Decoded(model, (side, side)).eval()
    found = [detections_of(decoded, picture) for picture in pictures]
    truths = [Truth(picture.boxes, labels_of(picture, classes)) for picture in pictures]
    score = mean_average_precision(found, truths, model.num_classes)
    by_class = zip(classes, average_precisions(found, truths, model.num_classes), strict=True)
    return score, f"mAP@0.5 {score:.3f} ({', '.join(f'{name} {value:.3f}' for name, value in by_class)})"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    torch.manual_seed(options.seed)
    training, validation = (read_split(options.data, split) for split in (options.train, options.validation))
    classes = sorted({name for picture in training for name in picture.names})
    model = untrained(options.mode, 1 + len(classes))
    loader = batches(Boxes(training, classes, options), options)
    save_labels(classes, options.output)
    fit(model, loader, loss_of, lambda judged: measure(judged, validation, classes, options.image_size), options)
    if options.test:
        pictures = read_split(options.data, options.test)
        print(f"{options.test}: {measure(model, pictures, classes, options.image_size)[1]}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    options = parser(__doc__.splitlines()[0], image_size=320)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--train", default="train", help="the split to learn from")
    options.add_argument("--validation", default="val", help="the split that chooses the weights")
    options.add_argument("--test", help="a split to measure the chosen weights on")
    return options.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run(main))
