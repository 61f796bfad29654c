"""Probabilities in the graph, and what every file says of photos, mean and deviation, author, licence, version."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import coremltools
import numpy as np
import onnx
import pytest
import torch

import mvit_deploy
from mvit_deploy import images, metadata, runtimes
from mvit_deploy.errors import UsageError
from mvit_deploy.image_options import parse_normalization, preprocessing_of
from mvit_deploy.parity import MATCH
from mvit_deploy.report import Report
from mvit_deploy.runtimes.tflite_file import METADATA_NAME, read_metadata
from mvit_deploy.spec import OWN, Normalization, Preprocessing
from tests.conftest import LABELS, PHOTOS, SIZE, quick_blame, sensitive

SAID = {"author": "Ada", "license": "CC-BY-4.0", "model_version": "1.2"}
FORMS = {"onnx": ("onnx", None), "tflite": ("tflite", None), "mlpackage": ("coreml", None)}
FORMS["mlmodel"] = ("coreml", "mlmodel")
every_form = pytest.mark.parametrize("form", FORMS)
PIXELS = np.random.default_rng(3).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)


def export(folder: Path, form: str, **options: object) -> Report:
    target, file_format = FORMS[form]
    options = {"precision": "fp32", "image_size": SIZE, "output": folder, "num_classes": len(LABELS)} | options
    (found,) = mvit_deploy.export("xxs", target=target, format=file_format, **options)
    assert (found.verdict, found.exit_code) == (MATCH, 0), found.reason
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """An unlabelled classifier that gives probabilities of normalized images, by form."""
    folder = tmp_path_factory.mktemp("probable")
    return {form: export(folder, form, probabilities=True, normalize="imagenet", **SAID) for form in FORMS}


def expected_of(pixels: np.ndarray) -> np.ndarray:
    """What torch gives: mean and deviation of torchvision's models, the network, softmax."""
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        return sensitive("xxs", 5)((image - mean) / std).softmax(-1).numpy()


@every_form
def test_a_file_gives_the_probabilities_of_normalized_images(files: dict[str, Report], form: str) -> None:
    """Of pixels as they are: mean and deviation are inside the file."""
    runner = runtimes.open_file(files[form].path)

    found = runner.run(PIXELS)

    assert list(found) == ["probabilities"]
    assert np.abs(found["probabilities"].sum(1) - 1).max() < 1e-5
    assert np.abs(found["probabilities"] - expected_of(PIXELS)).max() < 1e-5
    (image,) = runner.interface.inputs
    assert image.range == (0.0, 1.0)


@every_form
def test_a_file_says_what_tensors_cannot(files: dict[str, Report], form: str) -> None:
    found = files[form]
    declared = runtimes.open_file(found.path).interface.declared

    assert (declared.mode, declared.task, declared.variant, declared.precision) == (
        "xxs", "classification", "paper", "fp32",
    )  # fmt: skip
    assert declared.normalization == Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert declared.preprocessing == OWN
    weights = found.content["model"]["weights"]["sha256"]
    assert asdict(declared.about) == {
        "author": "Ada", "license": "CC-BY-4.0", "version": "1.2", "weights_sha256": weights,
    }  # fmt: skip
    assert found.content["artifact"]["declared"] == metadata.facts(declared)
    assert found.content["model"]["normalization"] == asdict(declared.normalization)


def test_each_platforms_own_reader_finds_it(files: dict[str, Report]) -> None:
    model = onnx.load(files["onnx"].path)
    assert {p.key: p.value for p in model.metadata_props}["mvit_deploy.license"] == "CC-BY-4.0"
    for form in ("mlpackage", "mlmodel"):
        said = coremltools.utils.load_spec(str(files[form].path)).description.metadata
        assert (said.author, said.license, said.versionString) == ("Ada", "CC-BY-4.0", "1.2")
        assert said.userDefined["mvit_deploy.author"] == "Ada"
    entries = json.loads(read_metadata(files["tflite"].path.read_bytes(), METADATA_NAME))
    assert entries["mvit_deploy.version"] == "1.2"


@pytest.mark.parametrize("form", ["mlpackage", "mlmodel"])
def test_xcode_is_told_how_to_preview(labelled: dict[str, Report], form: str) -> None:
    description = coremltools.utils.load_spec(str(labelled[f"{form} fp32"].path)).description

    assert description.metadata.userDefined["com.apple.coreml.model.preview.type"] == "imageClassifier"
    assert all(feature.shortDescription for feature in (*description.input, *description.output))
    assert "short side 288, centre 256x256" in description.input[0].shortDescription


def test_a_segmenters_preview_has_labels_and_the_colours_of_voc(tmp_path: Path) -> None:
    """The first colours of PASCAL VOC's masks: black, maroon, green, olive."""
    labels = ("background", "cat", "dog", "bird")
    options = {"task": "segmentation", "labels": labels, "argmax": True, "image_size": 64, "num_classes": 4}
    said = coremltools.utils.load_spec(str(export(tmp_path, "mlpackage", **options).path)).description.metadata

    assert said.userDefined["com.apple.coreml.model.preview.type"] == "imageSegmenter"
    assert json.loads(said.userDefined["com.apple.coreml.model.preview.params"]) == {
        "labels": list(labels), "colors": ["#000000", "#800000", "#008000", "#808000"],
    }  # fmt: skip


@every_form
def test_a_labelled_classifier_can_be_asked_for_logits(tmp_path: Path, form: str) -> None:
    found = export(tmp_path, form, labels=LABELS, probabilities=False)

    interface = runtimes.open_file(found.path).interface
    assert [output.meaning for output in interface.outputs] == ["logits"]
    assert interface.labels == LABELS


def test_onnx_gives_probabilities_when_asked_with_a_free_batch_too(tmp_path: Path) -> None:
    found = export(tmp_path, "onnx", labels=LABELS, probabilities=True, dynamic_batch=True)

    (output,) = runtimes.open_file(found.path).interface.outputs
    assert (output.name, output.shape) == ("probabilities", (-1, len(LABELS)))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["w8a8", "w8a16"])
def test_the_softmax_of_integer_files_is_float(tmp_path: Path, precision: str) -> None:
    options = {"labels": LABELS, "probabilities": True, "calibration": PHOTOS, "num_classes": 5, "image_size": SIZE}
    with quick_blame():
        found = mvit_deploy.export("xxs", target="onnx,tflite", precision=precision, output=tmp_path, **options)

    for each in found:
        assert each.verdict == MATCH, each.reason
        (output,) = runtimes.open_file(each.path).interface.outputs
        assert (output.name, output.dtype) == ("probabilities", "float32")
        sums = runtimes.open_file(each.path).run(PIXELS)["probabilities"].sum(1)
        assert np.abs(sums - 1).max() < 1e-5  # 8-bit levels would be off by some 1/256


@every_form
def test_a_file_without_its_report_is_still_normalized_as_it_says(files: dict[str, Report], form: str) -> None:
    """The reference of mvit-verify is then told by the file."""
    alone = files[form].path.parent / "alone" / files[form].path.name
    alone.parent.mkdir(exist_ok=True)
    alone.symlink_to(files[form].path)

    (found,) = mvit_deploy.verify(alone, weights="random", mode="xxs", seed=0)

    assert found.verdict == MATCH, found.reason


def test_files_of_the_same_weights_have_each_their_own_reference(files: dict[str, Report], tmp_path: Path) -> None:
    """One call judges both: what PyTorch gave for one is not what it gives for the other."""
    plain = export(tmp_path, "onnx")

    found = mvit_deploy.verify([files["onnx"].path, plain.path], live=True)

    assert [each.verdict for each in found] == [MATCH, MATCH], [each.reason for each in found]


@pytest.mark.parametrize(("given", "mean", "std"), [
    ("0.5,0.25", (0.5,) * 3, (0.25,) * 3),
    (" .1, .2, .3, 1, 2, 3", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)),
    ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])  # fmt: skip
def test_mean_and_deviation_are_read(given: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert parse_normalization(given, "RGB") == Normalization(mean, std)


def test_imagenets_are_turned_for_a_network_of_bgr() -> None:
    assert parse_normalization("imagenet", "BGR") == Normalization((0.406, 0.456, 0.485), (0.225, 0.224, 0.229))


@pytest.mark.parametrize("given", ["none", None, " none "])
def test_no_normalization(given: str | None) -> None:
    assert parse_normalization(given, "RGB") is None


@pytest.mark.parametrize(
    "given", ["imagnet", "1", "1,2,3", "0.5,0", "0.5,-1", "nan,1", "1,inf", "a,b", "1,2,3,4,5,6,7", ","]
)
def test_other_words_are_refused_in_one_line(given: str) -> None:
    with pytest.raises(UsageError, match="cannot read --normalize"):
        parse_normalization(given, "RGB")


@pytest.mark.parametrize(("resize", "resampling", "expected"), [
    (None, None, OWN),
    ("100", None, replace(OWN, resize=100, crop=(64, 96))),
    (100, "bicubic", replace(OWN, resize=100, crop=(64, 96), resampling="bicubic")),
    ("64x96", None, replace(OWN, resize=(64, 96), crop=(64, 96))),
    ((80, 96), None, replace(OWN, resize=(80, 96), crop=(64, 96))),
    (None, "lanczos", replace(OWN, resampling="lanczos")),
])  # fmt: skip
def test_how_photos_are_resized_can_be_asked_for(
    resize: object, resampling: str | None, expected: Preprocessing
) -> None:
    assert preprocessing_of(OWN, resize, resampling, (64, 96)) == expected


@pytest.mark.parametrize(("resize", "resampling", "named"), [
    ("95", None, "smaller than the image"), ("32x96", None, "smaller than the image"), ("a", None, "cannot read"),
    (None, "bicubc", "did you mean 'bicubic'"),
])  # fmt: skip
def test_a_senseless_resize_is_refused(resize: str | None, resampling: str | None, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        preprocessing_of(OWN, resize, resampling, (64, 96))


def test_photos_are_resized_as_asked_and_every_file_and_its_report_say_so(tmp_path: Path) -> None:
    found = export(tmp_path, "onnx", resize="80x96", resampling="bicubic", verify_images=PHOTOS)

    how = replace(OWN, resize=(80, 96), crop=SIZE, resampling="bicubic")
    assert runtimes.open_file(found.path).interface.declared.preprocessing == how
    inputs = found.content["verification"]["inputs"]
    assert inputs["preprocessing"]["of"] == "request"
    assert inputs["sha256"] == images.verification_set(SIZE, seed=0, folder=PHOTOS, how=how).sha256
    (again,) = mvit_deploy.verify(found.path, weights="random", seed=0)
    assert again.content["verification"]["inputs"] == json.loads(json.dumps(inputs))


@pytest.mark.parametrize(("options", "named"), [
    ({"task": "segmentation", "probabilities": True}, "--probabilities belongs to --task classification"),
    ({"probabilities": True, "io": "uint8", "precision": "w8a8", "calibration": PHOTOS}, "--probabilities are float32"),
])  # fmt: skip
def test_probabilities_where_there_are_none_are_refused(tmp_path: Path, options: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        mvit_deploy.export("xxs", target="tflite", output=tmp_path, **options)


def test_a_module_without_logits_has_no_probabilities(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one output of logits, this has features"):
        mvit_deploy.export(sensitive("xxs").backbone, target="onnx", probabilities=True, output=tmp_path, image_size=64)
