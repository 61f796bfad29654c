"""The example page in Chromium gives the labels that PyTorch gives, by what a file says of itself alone."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvit_deploy import runtimes
from mvit_deploy.checkpoints import load_checkpoint
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.preprocessing import apply
from mvit_deploy.spec import Preprocessing
from tests.clients import onnx_edits
from tests.clients.browser import BrowserError, Page
from tests.clients.conftest import LABELS, PAGE, SIDE, WEIGHTS, Digits, Site, pixels_of
from tests.clients.pages import Opener, Result, choose, result_of, seen, served
from tests.conftest import PHOTOS

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-3, "w8": 1e-2, "w8a16": 1e-2, "w8a8": 1e-2}
ACROSS_RUNTIMES = 1e-3
EXACT = TOLERANCES["fp32"]


@cache
def network() -> Classifier:
    return load_checkpoint(WEIGHTS).model.eval()


def expected(pixels: np.ndarray, change: Callable[[torch.Tensor], torch.Tensor] = lambda x: x) -> np.ndarray:
    """PyTorch's probabilities of an RGB picture; change: what is done to its tensor (1, 3, height, width) in [0, 1]."""
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        return network()(change(image)).softmax(dim=1)[0].numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def check(found: Result, probabilities: np.ndarray, tolerance: float, labels: tuple[str, ...] = LABELS) -> None:
    """The label is right, the probabilities are within the tolerance, and the five shown are the five highest."""
    given = np.array(found["probabilities"])
    highest = np.argsort(-given)[:5]
    assert np.abs(given - probabilities).max() < tolerance
    assert found["top"][0]["label"] == labels[probabilities.argmax()]
    assert found["top"] == [{"label": labels[place], "probability": given[place]} for place in highest]


some_precisions = pytest.mark.parametrize(
    "precision", ["fp32", "w8a8", *(pytest.param(word, marks=pytest.mark.slow) for word in ("fp16", "w8", "w8a16"))]
)


@some_precisions
def test_a_page_that_runs_by_itself_reads_digits_as_pytorch_does(
    open_page: Opener, site: Site, onnx_file: Path, digits: Digits, precision: str
) -> None:
    pictures = list(digits.unseen.values())
    page = open_page(f"{site.address}?model={served(site, onnx_file)}&image={served(site, pictures[0])}&run=1")
    found = [result_of(page)]
    for picture in pictures[1:]:
        choose(page, "#photo", picture)
        found.append(result_of(page))

    assert [result["image"] for result in found] == [picture.name for picture in pictures]
    assert [result["top"][0]["label"] for result in found] == list(LABELS)
    assert not any(result["isResampled"] for result in found)
    for result, picture in zip(found, pictures, strict=True):
        check(result, expected(pixels_of(picture)), TOLERANCES[precision])


@some_precisions
def test_photos_give_in_the_page_what_the_file_gives_in_python(
    page: Page, onnx_file: Path, photos: list[Path], precision: str
) -> None:
    """Photos in colour, which show every channel, and where a network of digits is in doubt."""
    runner = runtimes.open_file(onnx_file)
    choose(page, "#model", onnx_file)
    for photo in photos:
        choose(page, "#photo", photo)
        (logits,) = runner.run(pixels_of(photo)[None]).values()
        check(result_of(page), softmax(logits[0]), ACROSS_RUNTIMES)


def test_labels_and_bars_are_on_the_page_in_the_order_of_their_probabilities(
    page: Page, fp32_file: Path, photos: list[Path]
) -> None:
    found = seen(page, fp32_file, photos[0])

    rows = page.evaluate("[...document.querySelectorAll('#labels li')].map((row) => row.innerText.split(/\\s+/))")
    widths = page.evaluate(
        "[...document.querySelectorAll('#labels li')].map((r) => r.style.getPropertyValue('--share'))"
    )
    assert [row[0] for row in rows] == [each["label"] for each in found["top"]]
    assert [float(row[1]) for row in rows] == [round(100 * each["probability"], 1) for each in found["top"]]
    assert [float(w[:-1]) for w in widths] == pytest.approx([100 * each["probability"] for each in found["top"]])
    assert page.evaluate("document.getElementById('error').hidden")


# What a file may say, and what PyTorch then has to be given to come to the same.
SAID = {
    "BGR": (onnx_edits.said(color_order="BGR"), lambda x: x.flip(1)),
    "another range": (onnx_edits.said(value_range="[-1.0, 1.0]"), lambda x: 2 * x - 1),
    "rows first": (onnx_edits.taking_nhwc, lambda x: x),
    "probabilities": (onnx_edits.giving_probabilities, lambda x: x),
    "any batch": (onnx_edits.with_free_batch, lambda x: x),
}


@pytest.mark.parametrize("name", SAID)
def test_the_page_does_as_the_file_says(
    page: Page, fp32_file: Path, photos: list[Path], tmp_path: Path, name: str
) -> None:
    edit, change = SAID[name]
    model = onnx_edits.edited(fp32_file, tmp_path, edit)
    plain, changed = expected(pixels_of(photos[0])), expected(pixels_of(photos[0]), change)

    check(seen(page, model, photos[0]), changed, EXACT)
    if name in ("BGR", "another range"):
        assert np.abs(plain - changed).max() > 10 * EXACT


def test_shuffled_labels_change_the_answer(page: Page, fp32_file: Path, photos: list[Path], tmp_path: Path) -> None:
    wrong = ("großer Fuß", "二", *LABELS[2:][::-1])
    model = onnx_edits.edited(fp32_file, tmp_path, onnx_edits.said(labels=json.dumps(wrong, ensure_ascii=False)))

    check(seen(page, model, photos[0]), expected(pixels_of(photos[0])), EXACT, labels=wrong)


PREPARED = {
    "short side, centre": Preprocessing(72, (SIDE, SIDE), "bilinear", "RGB"),
    "of another size": Preprocessing(288, (256, 256), "bicubic", "RGB", half_pixel="even"),
    "squeezed": Preprocessing((SIDE, SIDE), None, "lanczos", "RGB"),
    "cut only": Preprocessing(None, (SIDE, SIDE), "nearest", "RGB"),
    "padded": Preprocessing(40, (SIDE, SIDE), "hamming", "RGB", half_pixel="even"),
}


@pytest.mark.parametrize("name", PREPARED)
def test_a_photo_of_any_size_is_prepared_as_the_file_says(
    page: Page, fp32_file: Path, tmp_path: Path, name: str
) -> None:
    """A PNG, whose pixels every decoder gives alike."""
    how = PREPARED[name]
    said = {"resize": how.resize, "crop": how.crop, "resampling": how.resampling, "half_pixel": how.half_pixel}
    model = onnx_edits.edited(fp32_file, tmp_path, onnx_edits.said(preprocessing=json.dumps(said)))
    with Image.open(PHOTOS / "cat.jpg") as photo:
        picture = photo.convert("RGB").resize((211, 147))
    picture.save(tmp_path / "uncut.png")

    found = seen(page, model, tmp_path / "uncut.png")

    pixels = apply(picture, how, (SIDE, SIDE))
    check(found, expected(pixels), EXACT)
    assert found["isResampled"] == (how.resize is not None)


def test_a_jpeg_differs_by_its_decoder_alone(page: Page, fp32_file: Path, tmp_path: Path) -> None:
    said = onnx_edits.said(preprocessing=json.dumps({"resize": 72, "crop": [SIDE, SIDE], "resampling": "bilinear"}))
    model = onnx_edits.edited(fp32_file, tmp_path, said)

    found = seen(page, model, PHOTOS / "citrus.jpg")

    with Image.open(PHOTOS / "citrus.jpg") as photo:
        pixels = apply(photo.convert("RGB"), Preprocessing(72, (SIDE, SIDE), "bilinear", "RGB"), (SIDE, SIDE))
    assert np.abs(np.array(found["probabilities"]) - expected(pixels)).max() < 2e-2


def test_what_the_file_says_is_shown(page: Page, fp32_file: Path, photos: list[Path], tmp_path: Path) -> None:
    model = onnx_edits.edited(fp32_file, tmp_path, onnx_edits.said(author="A. Person", license="CC0-1.0", version="3"))
    seen(page, model, photos[0])

    text = page.evaluate("document.getElementById('said').innerText")
    for said in ("classification", "xxs", "fp32", "RGB", "0 to 1", "A. Person", "CC0-1.0", f"1 × 3 × {SIDE} × {SIDE}"):
        assert said in text


def test_no_request_leaves_the_machine(open_page: Opener, site: Site, fp32_file: Path, photos: list[Path]) -> None:
    page = open_page(f"{site.address}?model={served(site, fp32_file)}&image={served(site, photos[0])}&run=1")
    assert "top" in result_of(page)

    asked = page.requests()
    assert any(url.endswith(".wasm") for url in asked)
    assert all(url.startswith((site.address, f"blob:{site.address}")) for url in asked), asked


def test_the_page_forbids_itself_to_send_anything_away(page: Page) -> None:
    with pytest.raises(BrowserError, match="Failed to fetch"):
        page.evaluate("fetch('http://example.org/', {method: 'POST', body: 'a photo'})")

    assert any("Content Security Policy" in line for line in page.log())


def test_the_page_has_no_external_reference() -> None:
    files = [path for path in PAGE.iterdir() if path.suffix in (".html", ".css", ".js")]

    assert len(files) >= 5
    for path in files:
        assert not re.search(r"https?:|[\"'(]//|@import", path.read_text(encoding="utf-8")), path.name
