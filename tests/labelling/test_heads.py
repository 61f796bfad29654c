"""Detectors and segmenters on photos, from the encoded picture to labelled boxes and points: every fault is caught."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import mvit_deploy
from mvit_deploy import labelling, live, reference, runtimes
from mvit_deploy.checkpoints import cvnets
from mvit_deploy.cli.verify import main as verify
from mvit_deploy.labelling.photos import photos_below
from mvit_deploy.nn.build import seeded_detector, seeded_segmenter
from mvit_deploy.parity import MATCH, MISMATCH
from mvit_deploy.report import Report, report_path
from mvit_deploy.spec import OWN, Output
from tests.conftest import PHOTOS
from tests.mutation.photo_edits import opened
from tests.mutation.photo_mutants import FAULTS_OF, Good, judged, mutants, prepared
from tests.pictures import plant

SIZE, COUNT = (64, 64), 4
LABELS = ("background", "cat", "dog", "bird")
MAKE = {"detection": seeded_detector, "segmentation": seeded_segmenter}
ENDINGS = {
    "boxes": ("detection", {}),
    "raw": ("detection", {"raw_head": True}),
    "nms": ("detection", {"nms": True}),
    "logits": ("segmentation", {}),
    "upsampled classes": ("segmentation", {"upsample": True, "argmax": True}),
}
FEW = 2  # photos; a fault shows on any


@dataclass(frozen=True)
class Made:
    """Files of random weights, each made when a test first asks for it."""

    folder: Path
    reports: dict[tuple[str, ...], Report]

    def report(self, ending: str, form: str = "onnx", precision: str = "fp32") -> Report:
        key = (ending, form, precision)
        if key not in self.reports:
            task, options = ENDINGS[ending]
            target = {"mlpackage": "coreml", "mlmodel": "coreml"}.get(form, form)
            options = options | ({"format": form} if target == "coreml" else {})
            options |= {"target": target, "precision": precision, "labels": LABELS, "image_size": SIZE}
            folder = self.folder / "-".join(key).replace(" ", "-")
            model = MAKE[task]("xxs", len(LABELS), seed=3)
            (self.reports[key],) = mvit_deploy.export(model, output=folder, **options)
        return self.reports[key]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("heads"), {})


def good(path: Path, ending: str, precision: str, count: int = FEW) -> Good:
    """PyTorch's answers to the first photos, its module run here and not by what is tested."""
    task, photos = ENDINGS[ending][0], photos_below(PHOTOS).first(count)
    found = runtimes.open_file(path).interface
    source = reference.from_module(MAKE[task]("xxs", len(LABELS), seed=3), color_order=None)
    source = reference.with_ending(source, live.ending_of(found, task, SIZE)[0], SIZE)
    pixels = torch.from_numpy(photos.prepared(OWN, SIZE)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        given = source.module(pixels)
    given = given if isinstance(given, tuple) else (given,)
    outputs = {name: values.numpy() for name, values in zip(source.outputs, given, strict=True)}
    kind = labelling.KINDS[task]
    promised = tuple(Output(name, values.shape[1:]) for name, values in outputs.items())
    return Good(path, precision, photos, kind.of_reference(outputs, LABELS, found), kind=kind, outputs=promised)


def caught(made: Made, folder: Path, ending: str, form: str, precision: str) -> dict[str, object]:
    """What catches each fault, with what would undo it."""
    sound = good(made.report(ending, form, precision).path, ending, precision)
    assert not judged(sound.path, sound)
    return {fault: judged(path, sound, explain=True) for fault, path in mutants(sound, folder)}


def held(found: dict[str, object], kind: object, at_least: int) -> None:
    assert len(found) >= at_least, sorted(found)
    assert [fault for fault, what in found.items() if not what] == []
    assert [fault for fault, what in found.items() if not (what.numbers or what.refused)] == []
    for fault, what in found.items():
        assert FAULTS_OF[kind][fault].contract in "; ".join(what.contract), fault


# On fp32 .onnx each fault is undone by at most one thing, and by what was done where that is tried.


@pytest.mark.parametrize("ending", ["logits", pytest.param("boxes", marks=pytest.mark.slow)])
def test_every_fault_is_caught_by_numbers_and_explained(made: Made, tmp_path: Path, ending: str) -> None:
    kind = labelling.KINDS[ENDINGS[ending][0]]
    found = caught(made, tmp_path, ending, "onnx", "fp32")

    held(found, kind, 17)
    for fault, what in found.items():
        assert len(what.causes) <= 1, (fault, what.causes)
        if FAULTS_OF[kind][fault].cause:
            assert FAULTS_OF[kind][fault].cause in "; ".join(what.causes), fault


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["nms", "raw", "upsampled classes"])
def test_every_fault_of_other_endings_is_caught(made: Made, tmp_path: Path, ending: str) -> None:
    held(caught(made, tmp_path, ending, "onnx", "fp32"), labelling.KINDS[ENDINGS[ending][0]], 14)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8"])
@pytest.mark.parametrize("form", ["tflite", "mlpackage", "mlmodel"])
@pytest.mark.parametrize("ending", ["boxes", "logits"])
def test_every_fault_in_every_format_is_caught(
    made: Made, tmp_path: Path, ending: str, form: str, precision: str
) -> None:
    found = caught(made, tmp_path, ending, form, precision)

    assert len(found) >= 9
    assert [fault for fault, what in found.items() if not what] == []


@pytest.mark.slow
@pytest.mark.parametrize("form", ["tflite", "mlpackage", "mlmodel"])
@pytest.mark.parametrize("ending", ["nms", "upsampled classes"])
def test_files_as_apps_take_them_match(made: Made, tmp_path: Path, ending: str, form: str) -> None:
    for precision in ("fp32", "fp16", "w8"):
        sound = good(made.report(ending, form, precision).path, ending, precision, 8)
        assert not judged(sound.path, sound), precision


# mvit-verify --images


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[str], Path]:
    def save(task: str) -> Path:
        path = tmp_path / f"{task}.pt"
        torch.save(cvnets.state_dict_for(MAKE[task]("xxs", len(LABELS), seed=3)), path)
        return path

    return save


@pytest.mark.parametrize("ending", ["nms", "raw", "upsampled classes"])
def test_a_file_without_a_report_matches_weights(
    made: Made, tmp_path: Path, weights: Callable[[str], Path], ending: str
) -> None:
    """How its graph ends is seen in its outputs."""
    path = tmp_path / "a.onnx"
    path.write_bytes(made.report(ending).path.read_bytes())

    (found,) = mvit_deploy.verify(path, weights=weights(ENDINGS[ending][0]), images=PHOTOS, labels=LABELS[1:])

    told = found.content["verification"]["photo_labels"]
    assert (found.exit_code, told["verdict"], told["same_label"], told["count"]) == (0, MATCH, 8, 8), found.reason
    assert (told["task"], told["agreement"], told["labels_from"]) == (ENDINGS[ending][0], 1.0, "person")
    json.dumps(found.content, allow_nan=False)


@pytest.mark.parametrize(
    ("ending", "edit", "words"),
    [
        ("boxes", lambda f: f.swap_stem(), "it would agree with red and blue exchanged"),
        ("boxes", lambda f: f.drop_softmax(), "it would agree with a softmax of its scores, which is missing"),
        ("logits", lambda f: f.take("logits", "row"), "it would agree with its maps the other way up"),
        ("logits", prepared(resize=304), "it would agree with photos prepared as PyTorch's"),
    ],
)
def test_a_faulty_file_says_what_would_undo_it(
    made: Made, tmp_path: Path, weights: Callable[[str], Path], ending: str, edit: Callable[[object], None], words: str
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(made.report(ending).path.read_bytes())
    file = opened(path)
    edit(file)
    file.save()

    (found,) = mvit_deploy.verify(path, weights=weights(ENDINGS[ending][0]), images=PHOTOS, labels=LABELS)

    assert (found.exit_code, found.verdict) == (1, MISMATCH)
    assert words in found.reason


@pytest.mark.parametrize(
    ("ending", "what", "seen"),
    [
        ("nms", "boxes, 100.00% of all boxes", "boxes</"),
        ("logits", "labels of points, 100.00% of all points", "100.00% of the points as PyTorch&#39;s"),
    ],
)
def test_console_and_page_show_what_is_found_on_each_photo(
    made: Made,
    weights: Callable[[str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    ending: str,
    what: str,
    seen: str,
) -> None:
    page, folder = tmp_path / "a.html", plant(tmp_path / "photos", 0, 3)
    options = ["--weights", str(weights(ENDINGS[ending][0])), "--images", str(folder), "--html", str(page), "--json"]

    assert verify([*options, str(made.report(ending).path)]) == 0

    printed = capfd.readouterr()
    text, html = " ".join(printed.err.split()), page.read_text()
    assert f"3 of 3 photos get PyTorch's {what}" in text
    (content,) = json.loads(printed.out)
    for row in content["verification"]["photo_labels"]["photos"]:
        best = row["reference"][0]
        share = f"{best['score']:.3f}" if "score" in best else f"{best['share']:.1%}"
        assert f"{row['name']} " in text
        assert f"{best['label']} {share}" in text
    assert seen in html[html.index(f"Photos in {folder}") :]


def test_a_segmenter_of_output_stride_8_is_known_by_its_map(weights: Callable[[str], Path], tmp_path: Path) -> None:
    checkpoint = weights("segmentation")
    options = {"target": "onnx", "weights": checkpoint, "labels": LABELS, "image_size": SIZE, "output": tmp_path}
    (stride_8,) = mvit_deploy.export(None, output_stride=8, **options)
    report_path(stride_8.path).unlink()

    (found,) = mvit_deploy.verify(stride_8.path, weights=checkpoint)

    assert found.exit_code == 0, found.reason
    assert np.array_equal(found.content["artifact"]["outputs"][0]["shape"][2:], (8, 8))
