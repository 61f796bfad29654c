"""The example page says what is wrong with a file, where a person sees it, and shows no labels then."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.clients import onnx_edits
from tests.clients.browser import Page
from tests.clients.conftest import LABELS, SIDE, Site, site_of
from tests.clients.pages import Opener, choose, result_of


def png(path: Path) -> Path:
    Image.new("RGB", (SIDE, SIDE)).save(path, "png")
    return path


def cut_in_half(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


as_they_are = onnx_edits.said(preprocessing='{"resize": null, "crop": null, "resampling": "bilinear"}')
REFUSED = {
    "a picture": (lambda model: None, png, "not an .onnx file"),
    "a half": (lambda model: None, cut_in_half, "not an .onnx file"),
    "no labels": (onnx_edits.without("labels"), None, "no labels"),
    "no colour order": (onnx_edits.without("color_order"), None, "colour order"),
    "no value range": (onnx_edits.without("value_range"), None, "value range"),
    "no metadata": (onnx_edits.without_any, None, "does not say what it is"),
    "a detector": (onnx_edits.said(task="detection"), None, "shows classifiers"),
    "a label too few": (onnx_edits.said(labels=json.dumps(LABELS[1:])), None, "9 labels"),
    "labels no list": (onnx_edits.said(labels='"0123456789"'), None, "no list"),
    "a resampling unknown": (onnx_edits.said(preprocessing='{"resize": 9, "crop": null, "resampling": "magic"}'),
                             None, "resampling"),
    "a step unknown": (onnx_edits.said(preprocessing='{"resize": 9, "crop": null, "resampling": "box", "gamma": 2}'),
                       None, "gamma"),
    "a wrong size": (as_they_are, None, f"pictures of {SIDE} × {SIDE}"),
    "logits called probabilities": (onnx_edits.calling_logits_probabilities, None, "probabilities are none"),
    "numbers that are none": (onnx_edits.giving_nan, None, "not finite"),
    "a free size": (onnx_edits.with_free_size, None, "fixed size"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_an_error_on_the_page(page: Page, fp32_file: Path, tmp_path: Path, name: str) -> None:
    edit, spoil, message = REFUSED[name]
    model = onnx_edits.edited(fp32_file, tmp_path, edit)
    if spoil is not None:
        spoil(model)
    Image.new("RGB", (SIDE + 1, SIDE), "red").save(tmp_path / "red.png")
    choose(page, "#photo", tmp_path / "red.png")
    choose(page, "#model", model)

    found = result_of(page)

    assert message in found["error"]
    assert page.evaluate("document.body.dataset.state") == "error"
    assert page.evaluate("document.getElementById('error').innerText").lower() == found["error"].lower()
    assert page.evaluate("document.querySelectorAll('#labels li').length") == 0


def test_a_file_that_is_no_picture_is_an_error_and_the_page_goes_on(
    page: Page, fp32_file: Path, photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "note.png").write_text("no picture")
    choose(page, "#model", fp32_file)
    choose(page, "#photo", tmp_path / "note.png")
    assert "note.png is no picture" in result_of(page)["error"]

    choose(page, "#photo", photos[0])
    assert result_of(page)["image"] == photos[0].name
    assert page.evaluate("document.getElementById('error').hidden")


@pytest.mark.parametrize(
    ("query", "message"),
    [("?model=missing.onnx&run=1", "missing.onnx cannot be fetched: 404"), ("?run=1", "choose a model and a photo"),
     ("?model=http://example.org/m.onnx&run=1", "from its own server only")],
)  # fmt: skip
def test_an_address_that_asks_for_what_is_not_there_is_an_error(
    open_page: Opener, site: Site, query: str, message: str
) -> None:
    assert message in result_of(open_page(site.address + query))["error"]


def test_without_onnxruntime_web_the_page_says_what_to_install(open_page: Opener, site: Site, fp32_file: Path) -> None:
    bare = site_of(site.folder / "bare", runtime=None)
    shutil.copy(fp32_file, bare / "model.onnx")

    found = result_of(open_page(f"{site.address}bare/?model=model.onnx&run=1"))

    assert "npm install" in found["error"]
