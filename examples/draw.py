"""What detectors and segmenters see: boxes or masks on a photo, by each shipped file and by PyTorch, side by side.

    python examples/draw.py PHOTO OUTPUT.png FILE.onnx FILE.tflite FILE.mlpackage

The reference is the weights that the first file's report names. Detectors end in boxes and scores, segmenters in logits
or classes. Photos are resized to the file's size without keeping their aspect, as these networks were trained.
"""

import argparse
import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mvit_deploy import reference, runtimes
from mvit_deploy.decoding import decode
from mvit_deploy.detection import Detections, non_maximum_suppression
from mvit_deploy.live import reference_of
from mvit_deploy.runtimes import suppressed
from mvit_deploy.runtimes.tensors import channels_first
from mvit_deploy.subject import Options, read_subject, size_of

LEAST_SCORE = 0.3
MASK_SHARE = 0.55
TITLE_PX = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--least-score", type=float, default=LEAST_SCORE)
    given = parser.parse_args()
    runners = [runtimes.open_file(file) for file in given.files]
    subject, interface = read_subject(given.files[0], Options()), runners[0].interface
    source, problem = reference_of(subject, interface)
    if source is None:
        parser.error(problem)
    height, width = size_of(subject, interface)
    pixels = np.asarray(decode(given.photo).resize((width, height), Image.Resampling.BILINEAR))
    panels = [panel("PyTorch", pixels, reference.run(source, pixels[None]), interface.labels, given.least_score)]
    for file, runner in zip(given.files, runners, strict=True):
        labels = runner.interface.labels
        if runner.interface.suppression is not None:
            (found,) = suppressed.detect(file, pixels[None]).detections
            panels.append(titled(file.name, with_detections(pixels, found, labels, given.least_score)))
            continue
        found, outputs = runner.run(pixels[None]), runner.interface.outputs
        seen = {output.name: channels_first(found[output.name], output) for output in outputs}
        panels.append(panel(file.name, pixels, seen, labels, given.least_score))
    side_by_side(panels).save(given.output)


def panel(
    title: str, pixels: np.ndarray, outputs: dict[str, np.ndarray], labels: tuple[str, ...] | None, least: float
) -> Image.Image:
    """The photo with what one file sees in it, below its name."""
    if "boxes" in outputs:
        found = non_maximum_suppression(outputs["boxes"][0], outputs["scores"][0], score_threshold=least)
        drawn = with_detections(pixels, found, labels, least)
    else:
        classes = outputs["classes"][0] if "classes" in outputs else outputs["logits"][0].argmax(0)
        drawn = with_masks(pixels, classes.astype(int))
    return titled(title, drawn)


def titled(title: str, drawn: Image.Image) -> Image.Image:
    framed = Image.new("RGB", (drawn.width, drawn.height + TITLE_PX), "white")
    framed.paste(drawn, (0, TITLE_PX))
    ImageDraw.Draw(framed).text((2, 2), title, fill="black")
    return framed


def with_detections(pixels: np.ndarray, found: Detections, labels: tuple[str, ...] | None, least: float) -> Image.Image:
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for box, score, label in zip(found.boxes, found.scores, found.classes, strict=True):
        if score <= least:
            continue
        corners = scaled(box, image.size)
        draw.rectangle(corners, outline=colour(int(label)), width=2)
        name = labels[label] if labels else str(label)
        place, said = (corners[0] + 3, corners[1] + 1), f"{name} {score:.2f}"
        draw.rectangle(draw.textbbox(place, said), fill=colour(int(label)))
        draw.text(place, said, fill="black")
    return image


def scaled(box: np.ndarray, size: tuple[int, int]) -> list[float]:
    """A box in units of the image's sides, in pixels, cut to the image."""
    return [float(value) for value in box.clip(0, 1) * ([size[0] - 1, size[1] - 1] * 2)]


def with_masks(pixels: np.ndarray, classes: np.ndarray) -> Image.Image:
    """Every class but 0 in a colour of its own; the map is brought to the photo's size point by point."""
    height, width = pixels.shape[:2]
    rows, columns = (np.arange(n) * m // n for n, m in ((height, classes.shape[0]), (width, classes.shape[1])))
    spread = classes[rows][:, columns]
    colours = np.array([colour(label) for label in range(int(classes.max()) + 1)])
    mixed = pixels * (1 - MASK_SHARE) + colours[spread] * MASK_SHARE
    return Image.fromarray(np.where(spread[..., None] > 0, mixed, pixels).astype(np.uint8))


def colour(label: int) -> tuple[int, int, int]:
    """Neighbouring classes in colours far apart: a golden step round the circle of hues."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(label * 0.618 % 1, 0.85, 0.95))


def side_by_side(panels: list[Image.Image]) -> Image.Image:
    joined = Image.new("RGB", (sum(p.width for p in panels), max(p.height for p in panels)), "white")
    left = 0
    for each in panels:
        joined.paste(each, (left, 0))
        left += each.width
    return joined


if __name__ == "__main__":
    main()
