"""Train MobileViT xxs on handwritten digits, from nothing, in some minutes on two cores.

    python examples/digits/train.py --output digits.safetensors

The checkpoint beside this file was made so: its weights are in half precision, which every command reads.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from digits import LABELS, Digits, as_picture, read_digits
from torch import Tensor, nn
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from common import batches, fit, parser, run, save_labels
from pictures import as_input
from safetensors.torch import load_file, save_file

from mvit_deploy.nn.heads.classification import Classifier, classifier

MOST_TURNED, MOST_MOVED = 12.0, 3.0  # degrees, pixels of 28


class Pictures(Dataset):
    """Digits, each time turned and moved otherwise, with their classes. Items: image (3, S, S), class."""

    def __init__(self, digits: Digits, options: argparse.Namespace) -> None:
        self.digits, self.side = digits, options.image_size
        self.generator = np.random.default_rng(options.seed)

    def __len__(self) -> int:
        return len(self.digits.classes)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        turned = self.generator.uniform(-MOST_TURNED, MOST_TURNED)
        moved = tuple(self.generator.uniform(-MOST_MOVED, MOST_MOVED, 2))
        picture = as_picture(self.digits.pixels[place], self.side, turned, moved)
        return as_input(picture), int(self.digits.classes[place])


def loss_of(model: nn.Module, batch: list[Tensor]) -> Tensor:
    image, label = batch
    return F.cross_entropy(model(image), label)


def measure(model: Classifier, digits: Digits, side: int) -> tuple[float, str]:
    """The share of digits whose class has the largest logit, and it in words."""
    images = torch.stack([as_input(as_picture(pixels, side)) for pixels in digits.pixels])
    with torch.no_grad():
        found = torch.cat([model(part).argmax(dim=1) for part in images.split(64)]).numpy()
    score = float((found == digits.classes).mean())
    return score, f"accuracy {score:.3f}"


def halve(path: Path) -> None:
    """Keep a checkpoint's numbers in half precision."""
    halved = {key: t.half() if t.is_floating_point() else t for key, t in load_file(path).items()}
    save_file(halved, path)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    torch.manual_seed(options.seed)
    training, held_out = read_digits()
    model = classifier("xxs", len(LABELS))
    loader = batches(Pictures(training, options), options)
    save_labels(list(LABELS), options.output)
    fit(model, loader, loss_of, lambda judged: measure(judged, held_out, options.image_size), options)
    halve(options.output)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    options = parser(__doc__.splitlines()[0], image_size=64)
    options.set_defaults(epochs=10, batch=32, measure_every=1)
    return options.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run(main))
