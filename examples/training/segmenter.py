"""Train a MobileViT with DeepLabv3 on a folder of images and one of masks.

    python examples/training/segmenter.py --images DIR --masks DIR --labels person \\
        --backbone mobilevit_xxs.pth --output segmenter.safetensors
    mvit-export --weights segmenter.safetensors --labels segmenter.labels.txt --target coreml

A mask is a PNG of its image's name and size, a class a pixel: 0 the background, 1 the first of --labels, 255 does not
count. Every fifth image, in the order of their names, is kept apart to measure the mean intersection over union, which
chooses the weights. Pictures are turned, cropped and resized to a square, whatever their shape.
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

from mvit_deploy.decoding import decode
from mvit_deploy.errors import UsageError
from mvit_deploy.images import HELD_OUT_EVERY, list_images
from mvit_deploy.nn.heads.segmentation import Ended, Segmenter, segmenter
from mvit_deploy.training.losses import segmentation_loss
from mvit_deploy.training.metrics import IGNORED, class_ious, confusion, mean_iou

Pair = tuple[Path, Path]  # an image's file and its mask's


class Masks(Dataset):
    """Images, each time another part of them, with their masks. Items: image (3, S, S), mask int64 (S, S)."""

    def __init__(self, pairs: list[Pair], num_classes: int, options: argparse.Namespace) -> None:
        self.pairs, self.num_classes, self.side = pairs, num_classes, options.image_size
        self.generator = np.random.default_rng(options.seed)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        image, mask = read_pair(self.pairs[place], random_window(self.generator), self.side, self.num_classes)
        return (image.flip(2), mask.flip(1)) if self.generator.random() < 0.5 else (image, mask)


def pairs_of(images: Path, masks: Path) -> list[Pair]:
    """Each image with its mask. Raises: UsageError when there are no images, or one has no mask."""
    pairs = [(path, masks / f"{path.stem}.png") for path in list_images(images)]
    missing = [mask.name for _, mask in pairs if not mask.is_file()]
    if missing:
        raise UsageError(f"{len(missing)} masks are not in {masks}, among them {missing[0]}")
    return pairs


def parted(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Those to learn from, and every fifth, which is kept apart."""
    return [pair for place, pair in enumerate(pairs) if place % HELD_OUT_EVERY], pairs[::HELD_OUT_EVERY]


def read_pair(pair: Pair, window: Window, side: int, num_classes: int) -> tuple[Tensor, Tensor]:
    """A window of an image and of its mask. Raises: UsageError for a mask of another size or of unknown classes."""
    picture = decode(pair[0])
    with Image.open(pair[1], formats=("PNG",)) as file:
        mask = Image.fromarray(np.array(file).astype(np.uint8))  # indices of a palette, grey values, or 0 and 1
    if mask.size != picture.size:
        raise UsageError(f"{pair[1].name} is {mask.size}, its image {picture.size}")
    values = np.array(cut(mask, window, side, resample=Image.Resampling.NEAREST))
    if (values[values != IGNORED] >= num_classes).any():
        raise UsageError(f"{pair[1].name} has classes above {num_classes - 1}")
    image = as_input(cut(picture, window, side, resample=Image.Resampling.BILINEAR))
    return image, torch.from_numpy(values).long()


def untrained(mode: str, num_classes: int) -> Segmenter:
    """A network whose head says little of anything."""
    model = segmenter(mode, num_classes)
    start_small([model.head.classify])
    return model


def loss_of(model: nn.Module, batch: list[Tensor]) -> Tensor:
    image, mask = batch
    return segmentation_loss(model(image), mask)


def measure(model: Segmenter, pairs: list[Pair], classes: list[str], side: int) -> tuple[float, str]:
    """Mean IoU at the size of the network's images, and it in words with that of each class."""
    ended = Ended(model, upsampled=True, classes=True).eval()
    matrix = np.zeros((model.num_classes,) * 2, np.int64)
    for pair in pairs:
        image, mask = read_pair(pair, WHOLE, side, model.num_classes)
        with torch.no_grad():
            matrix += confusion(ended(image[None])[0].numpy(), mask.numpy(), model.num_classes)
    score = mean_iou(matrix)
    by_class = zip(["background", *classes], class_ious(matrix), strict=True)
    return score, f"mean IoU {score:.3f} ({', '.join(f'{name} {value:.3f}' for name, value in by_class)})"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    torch.manual_seed(options.seed)
    training, held_out = parted(pairs_of(options.images, options.masks))
    model = untrained(options.mode, 1 + len(options.labels))
    loader = batches(Masks(training, model.num_classes, options), options)
    save_labels(options.labels, options.output)
    fit(model, loader, loss_of, lambda judged: measure(judged, held_out, options.labels, options.image_size), options)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    options = parser(__doc__.splitlines()[0], image_size=512)
    options.add_argument("--images", type=Path, required=True)
    options.add_argument("--masks", type=Path, required=True)
    options.add_argument("--labels", nargs="+", required=True, help="names of the classes but the background, in order")
    return options.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run(main))
