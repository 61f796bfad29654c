"""The parts of the example page, one by one: they read metadata as protobuf does and resize as Pillow does, exactly."""

import base64
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from mvit_deploy.metadata import preprocessing_to_json
from mvit_deploy.preprocessing import apply
from mvit_deploy.spec import Preprocessing
from tests.clients.browser import BrowserError, Page
from tests.clients.conftest import pixels_of
from tests.conftest import PHOTOS

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
quickly = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def bytes_in_js(data: bytes) -> str:
    return f"Uint8Array.from(atob('{base64.b64encode(data).decode()}'), (letter) => letter.charCodeAt())"


def metadata_by_the_page(page: Page, data: bytes) -> list[list[str]]:
    """Raises: BrowserError where the page's reader throws."""
    return page.evaluate(f"import('/onnx_metadata.js').then((m) => [...m.readMetadata({bytes_in_js(data)})])")


def model_with(entries: dict[str, str], weights: bytes = b"") -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["same"])], "graph", [image], [image])
    graph.initializer.append(TensorProto(name="weights", data_type=TensorProto.UINT8, raw_data=weights))
    model = helper.make_model(graph, producer_name="a test", doc_string="text")
    helper.set_model_props(model, entries)
    return model


@quickly
@given(
    entries=st.dictionaries(st.text(max_size=20), st.text(max_size=400), max_size=5), weights=st.binary(max_size=300)
)
def test_metadata_are_read_as_protobuf_reads_them(page: Page, entries: dict[str, str], weights: bytes) -> None:
    model = model_with(entries, weights)

    assert dict(metadata_by_the_page(page, model.SerializeToString())) == entries


def test_a_whole_file_gives_what_onnx_gives(page: Page, fp32_file: Path) -> None:
    expected = {entry.key: entry.value for entry in onnx.load(fp32_file).metadata_props}

    assert dict(metadata_by_the_page(page, fp32_file.read_bytes())) == expected
    assert "mvit_deploy.labels" in expected


def test_a_file_cut_off_anywhere_is_refused_unless_protobuf_takes_it(page: Page) -> None:
    data = model_with(
        {"mvit_deploy.task": "classification", "ключ": "значение"}, b"\x72\x04\x0a\x00"
    ).SerializeToString()
    cut = [data[:length] for length in range(len(data))]

    found = page.evaluate(f"""import('/onnx_metadata.js').then(({{ readMetadata }}) => {{
      const data = {bytes_in_js(data)};
      return [...data.keys()].map((length) => {{
        try {{ return [...readMetadata(data.subarray(0, length))]; }} catch (error) {{ return error.message; }}
      }});
    }})""")

    taken = [type(each) is list for each in found]
    assert taken == [is_a_model(part) for part in cut]
    assert sum(taken) < 5


def is_a_model(data: bytes) -> bool:
    try:
        return onnx.load_model_from_string(data).HasField("graph")
    except DecodeError:
        return False


NO_MODELS = {
    "nothing": b"",
    "a page": b"<!doctype html><title>404</title>",
    "an archive": b"PK\x03\x04",
    "a number without end": b"\xff" * 30,
    "a length beyond all": b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "a field of number 0": b"\x00\x00",
    "a key that is no text": b"\x3a\x00\x72\x03\x0a\x01\xff",
}


@pytest.mark.parametrize("name", NO_MODELS)
def test_what_is_no_model_is_refused(page: Page, name: str) -> None:
    with pytest.raises(BrowserError, match=r"this is not (an|a sound) \.onnx file"):
        metadata_by_the_page(page, NO_MODELS[name])


def resized_by_the_page(
    page: Page, pixels: np.ndarray, size: tuple[int, int], part: tuple[int, int, int, int], name: str
) -> np.ndarray:
    """size: (height, width). part: left, top, width, height."""
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    left, top, width, height = part
    values = page.evaluate(f"""import('/resample.js').then(({{ resample }}) => {{
      const picture = {{ data: {bytes_in_js(rgba.tobytes())}, width: {pixels.shape[1]}, height: {pixels.shape[0]} }};
      const part = {{ left: {left}, top: {top}, width: {width}, height: {height} }};
      return [...resample(picture, {{ width: {size[1]}, height: {size[0]} }}, part, '{name}')];
    }})""")
    return np.array(values, np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", [(20, 31), (53, 9), (40, 60), (97, 140)], ids=lambda size: "x".join(map(str, size)))
def test_pictures_are_resized_as_pillow_does(page: Page, name: str, size: tuple[int, int]) -> None:
    """Smaller, larger, both and neither; noise shows every weight, and overshoots at black and white."""
    noise = np.random.default_rng(0).choice([0, 3, 128, 250, 255], (40, 60, 3)).astype(np.uint8)
    height, width = size
    part = (3, -2, width - 1, height + 3)  # left, top, width, height: beyond three of four sides

    found = resized_by_the_page(page, noise, size, part, name)

    resized = Image.fromarray(noise).resize((width, height), Image.Resampling[name.upper()])
    left, top, *_ = part
    assert np.array_equal(found, np.asarray(resized.crop((left, top, left + part[2], top + part[3]))))


PHOTO = {"cat.jpg": (333, 250), "bee.jpg": (120, 77)}


@pytest.mark.parametrize("resize", [None, 40, 288, (70, 50)], ids=str)
@pytest.mark.parametrize("crop", [None, (256, 256), (31, 50)], ids=str)
@pytest.mark.parametrize("words", [("down", "down"), ("even", "nearest")], ids="-".join)
def test_photos_are_resized_and_cropped_as_in_python(
    page: Page, resize: object, crop: object, words: tuple[str, str]
) -> None:
    half_pixel, rounding = words
    size = (48, 63)
    how = Preprocessing(resize, crop, "bilinear", "RGB", half_pixel, rounding)
    said = preprocessing_to_json(how)
    for name, (width, height) in PHOTO.items():
        with Image.open(PHOTOS / name) as photo:
            picture = photo.convert("RGB").resize((width, height))

        found = prepared_by_the_page(page, np.asarray(picture), said, size)

        assert np.array_equal(found, apply(picture, how, size)), name


def prepared_by_the_page(page: Page, pixels: np.ndarray, said: dict[str, object], size: tuple[int, int]) -> np.ndarray:
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    values = page.evaluate(f"""import('/pixels.js').then(({{ prepare }}) => {{
      const picture = {{ data: {bytes_in_js(rgba.tobytes())}, width: {pixels.shape[1]}, height: {pixels.shape[0]} }};
      return [...prepare(picture, {json.dumps(said)}, {list(size)}).pixels];
    }})""")
    return np.array(values, np.uint8).reshape(*size, 3)


@pytest.mark.parametrize(("mode", "suffix"), [("RGB", "png"), ("RGB", "bmp"), ("L", "png"), ("P", "png")])
def test_a_picture_without_loss_is_decoded_to_the_pixel(page: Page, tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    with Image.open(PHOTOS / "coffee.jpg") as photo:
        photo.convert("RGB").resize((37, 29)).convert(mode).save(path)

    blob = f"new Blob([{bytes_in_js(path.read_bytes())}])"
    values = page.evaluate(f"import('/pixels.js').then((m) => m.decode({blob})).then((found) => [...found.data])")

    assert np.array_equal(np.array(values, np.uint8).reshape(29, 37, 4)[..., :3], pixels_of(path))
