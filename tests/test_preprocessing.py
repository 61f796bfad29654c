"""Pictures prepared as each source prepares them: transformers' own processor and timm's rule are the judges."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvit_deploy import images, preprocessing
from mvit_deploy.checkpoints.conventions import PUBLISHED
from mvit_deploy.decoding import decode
from mvit_deploy.errors import UsageError
from mvit_deploy.spec import OWN, Preprocessing
from tests.conftest import PHOTOS

SIDES = st.integers(40, 400)


def hugging_face_processor(how: Preprocessing) -> object:
    transformers = pytest.importorskip("transformers")
    return transformers.MobileViTImageProcessor(
        size={"shortest_edge": how.resize},
        crop_size=dict(zip(("height", "width"), how.crop, strict=True)),
        resample=preprocessing.RESAMPLING[how.resampling],
        do_flip_channel_order=how.color_order == "BGR",
    )


def by_processor(image: Image.Image, how: Preprocessing) -> np.ndarray:
    """What transformers gives to the network, as 8-bit steps. Shapes: (height, width, 3), in how.color_order."""
    values = hugging_face_processor(how)(image, return_tensors="np")["pixel_values"][0]
    return np.asarray(values, np.float64).transpose(1, 2, 0) * 255


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.jpg"))[:4], ids=lambda path: path.stem)
def test_photos_are_prepared_as_transformers_prepares_them(photo: Path, task: str) -> None:
    how = PUBLISHED["huggingface", task]

    ours = images.prepare(photo, how.size, how)

    assert np.abs(by_processor(decode(photo), how) - ours[..., ::-1]).max() <= 1


@given(SIDES, SIDES)
@settings(max_examples=15, deadline=None)
def test_any_picture_is_prepared_as_transformers_prepares_it(width: int, height: int) -> None:
    how = Preprocessing(resize=72, crop=(64, 64), resampling="bicubic", color_order="RGB")
    noise = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)

    assert np.abs(by_processor(image, how) - preprocessing.apply(image, how, (64, 64))).max() <= 1


def test_a_picture_smaller_than_the_crop_gets_transformers_black_margins() -> None:
    """transformers' class defaults resize to 224 and crop 256."""
    how = Preprocessing(resize=224, crop=(256, 256), resampling="bilinear", color_order="RGB")
    image = Image.new("RGB", (300, 300), (200, 30, 10))

    pixels = preprocessing.apply(image, how, (256, 256))

    assert np.abs(by_processor(image, how) - pixels).max() <= 1
    assert (pixels[16:240, 16:240] == (200, 30, 10)).all()
    assert not pixels[:16].any()
    assert not pixels[:, 240:].any()


@pytest.mark.parametrize(("width", "height"), [(640, 427), (427, 640), (379, 284), (1001, 700)])
def test_pictures_are_prepared_as_timm_prepares_them(width: int, height: int) -> None:
    """Resize(284) and CenterCrop(256) of torchvision, which timm's transform is made of, by hand arithmetic."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    long = int(284 * max(width, height) / min(width, height))
    resized = image.resize((long, 284) if width > height else (284, long), Image.Resampling.BICUBIC)
    left, top = (round((side - 256) / 2) for side in resized.size)
    expected = np.asarray(resized.crop((left, top, left + 256, top + 256)))

    assert np.array_equal(preprocessing.apply(image, PUBLISHED["timm", "classification"], (256, 256)), expected)


@pytest.mark.parametrize(("task", "side"), [("detection", 320), ("segmentation", 512)])
def test_ml_cvnets_squeezes_pictures_of_its_dense_tasks(task: str, side: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))

    expected = np.asarray(noise.resize((side, side), Image.Resampling.BILINEAR))

    assert np.array_equal(preprocessing.apply(noise, PUBLISHED["cvnets", task], (side, side)), expected)


@given(SIDES, SIDES, st.sampled_from([(64, 96), (128, 128), (96, 32)]), st.sampled_from(list(PUBLISHED)))
@settings(max_examples=60, deadline=None)
def test_another_size_is_filled(width: int, height: int, size: tuple[int, int], source: tuple[str, str]) -> None:
    image = Image.new("RGB", (width, height), (9, 9, 9))

    pixels = preprocessing.apply(image, PUBLISHED[source], size)

    assert pixels.shape == (*size, 3)
    assert (pixels == 9).all()


def test_a_strip_does_not_grow_without_bound() -> None:
    """288 / 1 times 60000 pixels would be 17 million rows."""
    strip = Image.new("RGB", (1, 60_000), (9, 9, 9))

    pixels = preprocessing.apply(strip, PUBLISHED["huggingface", "classification"], (256, 256))

    assert (pixels == 9).all()


@given(st.sampled_from([OWN, *PUBLISHED.values()]))
def test_a_report_gives_it_back(how: Preprocessing) -> None:
    said = preprocessing.to_json(how)

    assert preprocessing.from_json(json.loads(json.dumps(said))) == how
    assert said["of"] == ("mvit-deploy" if how == OWN else "checkpoint")


def test_a_report_from_before_it_was_reported_has_this_projects() -> None:
    assert preprocessing.from_json(None) == OWN
    assert preprocessing.from_json({"of": "mvit-deploy"}) == OWN


@pytest.mark.parametrize("change", [
    {"of": "someone"}, {"resize": 0}, {"resize": "288"}, {"resize": [288]}, {"crop": 256}, {"crop": [256, 1.5]},
    {"resampling": "cubic"}, {"resampling": {}}, {"color_order": "GBR"}, {"half_pixel": "up"}, {"crop_pct": 0.9},
])  # fmt: skip
def test_a_report_whose_preprocessing_is_none_is_refused_in_one_line(change: dict[str, object]) -> None:
    said = preprocessing.to_json(PUBLISHED["huggingface", "classification"]) | change

    with pytest.raises(UsageError, match="the report's preprocessing cannot be read"):
        preprocessing.from_json(said)


@pytest.mark.parametrize("said", ["checkpoint", [], 7, {}])
def test_a_report_with_something_else_there_is_refused(said: object) -> None:
    with pytest.raises(UsageError, match="the report's preprocessing cannot be read"):
        preprocessing.from_json(said)


@pytest.mark.parametrize(("how", "words"), [
    (PUBLISHED["huggingface", "classification"], "short side 288, centre 256x256, bilinear"),
    (PUBLISHED["cvnets", "detection"], "320x320, bilinear"),
    (Preprocessing(None, (64, 96), "bicubic", "RGB"), "as they are, centre 64x96, bicubic"),
])  # fmt: skip
def test_it_is_said_in_words(how: Preprocessing, words: str) -> None:
    assert str(how) == words
