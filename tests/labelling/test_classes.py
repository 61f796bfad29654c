"""From photo to label: answers brought together by name, and every fault of the last metre caught."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

import mvit_deploy
from mvit_deploy import parity, reference
from mvit_deploy.cli import photo_table
from mvit_deploy.cli.verify import main as verify
from mvit_deploy.errors import UsageError
from mvit_deploy.labelling import classes
from mvit_deploy.labelling.classes import Answers
from mvit_deploy.labelling.judged import UNNAMED, Labelled
from mvit_deploy.labelling.photos import photos_below
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN
from mvit_deploy.report import Report, report_path
from mvit_deploy.spec import OWN
from tests.conftest import LABELS, PHOTOS, SIZE, quick_blame, sensitive
from tests.exporters import task_metadata_edits
from tests.mutation import photo_mutants
from tests.mutation.photo_edits import opened
from tests.mutation.photo_mutants import FAULTS, Good, judged, mutants
from tests.pictures import plant

DIGITS = Path(mvit_deploy.__file__).parents[1] / "examples" / "digits" / "mobilevit_xxs_digits.safetensors"
TEN = tuple("0123456789")
QUICK = ("onnx fp32", "tflite fp32", "mlpackage fp32", "mlmodel fp32")
FEW = 2  # photos; a fault shows on any


# Answers


def answers(*rows: tuple[float, ...], labels: tuple[str, ...] | None = ("a", "b", "c")) -> Answers:
    return Answers(np.array(rows, float), labels)


def held(candidate: Answers, expected: Answers, precision: str = "fp32", **more: str) -> Labelled:
    names = tuple(f"{place}.png" for place in range(len(expected.probabilities)))
    return classes.judge(reference=expected, candidate=candidate, names=names, precision=precision, **more)


EXPECTED = answers((0.7, 0.2, 0.1), (0.1, 0.3, 0.6))


def test_answers_are_brought_together_by_label_and_not_by_place() -> None:
    found = held(answers((0.1, 0.7, 0.2), (0.6, 0.1, 0.3), labels=("c", "a", "b")), EXPECTED)

    assert (found.verdict, found.same_label) == (MATCH, 2)


def test_the_same_numbers_under_other_labels_are_a_mismatch() -> None:
    found = held(replace(EXPECTED, labels=("b", "a", "c")), EXPECTED)

    assert (found.verdict, found.same_label) == (MISMATCH, 1)
    assert [row.same_label for row in found.photos] == [False, True]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("a", "b", "d"), "the file has 'd' where PyTorch has 'c'"),
        (("a", "b", "b"), "the file has 'b' where PyTorch has 'c'"),
        (None, "names no labels"),
    ],
)
def test_other_labels_and_none_are_a_mismatch_that_names_them(labels: tuple[str, ...] | None, words: str) -> None:
    found = held(replace(EXPECTED, labels=labels), EXPECTED)

    assert found.verdict == MISMATCH
    assert words in found.reason


def test_another_number_of_classes_is_a_mismatch() -> None:
    found = held(answers((0.7, 0.3), (0.4, 0.6), labels=("a", "b")), EXPECTED)

    assert (found.verdict, found.reason) == (MISMATCH, "the file has 2 classes, PyTorch 3")
    assert found.photos[0].max_abs_probability is None


def test_labels_that_repeat_are_told_apart_by_their_order() -> None:
    """ImageNet has two cranes."""
    cranes = answers((0.7, 0.2, 0.1), labels=("crane", "heron", "crane"))

    assert held(cranes, cranes).verdict == MATCH
    assert held(answers((0.7, 0.1, 0.2), labels=("crane", "crane", "heron")), cranes).verdict == MATCH
    assert held(answers((0.1, 0.7, 0.2), labels=("crane", "crane", "heron")), cranes).verdict == MISMATCH


def test_where_nobody_but_the_file_names_labels_there_is_no_match() -> None:
    found = held(EXPECTED, replace(EXPECTED, labels=None))

    assert (found.verdict, found.reason) == (NOT_RUN, UNNAMED)
    assert held(replace(EXPECTED, labels=None), replace(EXPECTED, labels=None)).verdict == MATCH


def test_a_file_that_differs_is_a_mismatch_whoever_names_its_labels() -> None:
    assert held(answers((0.2, 0.7, 0.1), (0.1, 0.3, 0.6)), replace(EXPECTED, labels=None)).verdict == MISMATCH


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((0.7, 0.2, float("nan")), "a probability is not finite (1.png, 1 of 2 photos)"),
        ((0.7, -0.2, 0.5), "a probability is outside 0..1 (1.png, 1 of 2 photos)"),
        ((1.2, -0.3, 0.1), "a probability is outside 0..1"),
        ((0.7, 0.2, 0.102), "probabilities do not sum to 1 (1.png, 1 of 2 photos)"),
    ],
)
def test_what_are_no_probabilities_is_said(row: tuple[float, ...], words: str) -> None:
    faults = classes.probability_faults(np.array([(0.7, 0.2, 0.1), row]), ("0.png", "1.png"))

    assert len(faults) == 1
    assert words in faults[0]


def test_probabilities_may_be_off_by_what_half_precision_rounds() -> None:
    assert not classes.probability_faults(np.array([(0.7, 0.2, 0.1009)]), ("0.png",))


def test_no_floor_spares_no_file_its_labels_and_sums() -> None:
    """Random weights leave int8 without floors; a missing softmax is one all the same."""
    far = answers((0.4, 0.4, 0.2), (0.3, 0.3, 0.4))

    assert held(far, EXPECTED, "w8a8", report_only="random").verdict == MATCH
    assert held(replace(far, faults=("no sum",)), EXPECTED, "w8a8", report_only="random").verdict == MISMATCH
    assert held(replace(far, labels=("a", "b", "d")), EXPECTED, "w8a8", report_only="random").verdict == MISMATCH
    assert held(far, EXPECTED, "w8a8").verdict == MISMATCH


def test_one_probability_too_far_is_a_mismatch_although_the_pooled_noise_is_small() -> None:
    """199 photos as PyTorch has them and one 0.015 off: centred logarithms ±1.5427 and ±0.0300 apart at 0.5, so
    10 log10(199 * 1.5427^2 / 0.03^2) = 57 dB, far above fp16's 40."""
    expected = answers(*[(0.9565, 0.0435)] * 199, (0.5, 0.5), labels=("a", "b"))
    found = answers(*[(0.9565, 0.0435)] * 199, (0.515, 0.485), labels=("a", "b"))

    judged_ = held(found, expected, "fp16")

    assert judged_.judgements["probabilities"].errors.sqnr_db == pytest.approx(57.2, abs=0.1)
    assert judged_.verdict == MISMATCH
    assert judged_.reason == "199.png: a probability differs by 0.015 > 0.01"
    assert judged_.tolerance["max_abs_probability"] == parity.PROBABILITY_TOLERANCES["fp16"] == 1e-2
    assert held(found, expected, "w8").verdict == MATCH


def test_agreement_counts_where_a_hundred_photos_are_judged() -> None:
    """6 of 100 near ties that fall the other way: the noise is small, 94 % are too few; of 99 they are not counted."""
    expected = [(0.97, 0.03)] * 94 + [(0.501, 0.499)] * 6
    found = [(0.97, 0.03)] * 94 + [(0.499, 0.501)] * 6

    def verdict(photos: slice) -> str:
        pair = (answers(*rows[photos], labels=("a", "b")) for rows in (found, expected))
        return held(*pair, "w8").verdict

    assert verdict(slice(0, 100)) == MISMATCH
    assert verdict(slice(1, 100)) == MATCH


def test_the_label_that_a_file_gives_has_to_be_its_most_probable_one() -> None:
    found = held(replace(EXPECTED, chosen=("a", "b")), EXPECTED)

    assert (found.verdict, found.same_label) == (MISMATCH, 1)
    assert found.reason == "the file's label is not its most probable one (1.png, 1 of 2 photos)"
    assert held(replace(EXPECTED, chosen=("a", "c")), EXPECTED).verdict == MATCH


def test_the_best_come_first_and_of_equal_ones_the_earlier() -> None:
    found = classes.top(np.array([0.2, np.nan, 0.3, 0.3, 0.1, 0.1]), "abcdef")

    assert [best["label"] for best in found] == ["c", "d", "a", "e", "f"]
    assert classes.top(np.array([np.nan, 0.5]), (0, 1)) == [
        {"label": 1, "probability": 0.5},
        {"label": 0, "probability": None},
    ]


def test_the_report_is_json_of_every_photo() -> None:
    found = json.loads(json.dumps(held(EXPECTED, EXPECTED).to_json(), allow_nan=False))

    assert (found["verdict"], found["count"], found["same_label"], found["max_abs_probability"]) == ("match", 2, 2, 0)
    first = found["photos"][0]
    assert first["reference"] == [
        {"label": label, "probability": p} for label, p in zip("abc", (0.7, 0.2, 0.1), strict=True)
    ]
    assert (first["name"], first["same_label"], first["margin"]) == ("0.png", True, pytest.approx(0.5))


# Files


def good(path: Path, precision: str, count: int = FEW) -> Good:
    """A file of the sensitive network, with PyTorch's answers on photos of this package."""
    photos = photos_below(PHOTOS).first(count)
    source = reference.from_module(sensitive("xxs", len(LABELS)), color_order=None)
    logits = reference.run(source, photos.prepared(OWN, SIZE))["logits"]
    return Good(path, precision, photos, classes.of_reference({"logits": logits}, LABELS))


@pytest.mark.parametrize("name", QUICK)
def test_every_fault_is_caught_by_the_numbers_of_two_photos_alone(
    labelled: dict[str, Report], tmp_path: Path, name: str
) -> None:
    """Whatever has been edited along with the file, its report for one, cannot hide a fault. The exception changes
    nothing that the file computes, and is one of its interface."""
    sound = good(labelled[name].path, "fp32")
    assert not judged(sound.path, sound)

    found = {fault: judged(path, sound) for fault, path in mutants(sound, tmp_path)}

    inert = {fault for fault in found if fault == "BGR, in the metadata alone"}
    assert len(found) == {"onnx": 15, "tflite": 14, "mlpackage": 13, "mlmodel": 13}[labelled[name].path.suffix[1:]]
    assert all(found.values())
    assert {fault for fault, caught in found.items() if not caught.numbers} == inert
    for fault, caught in found.items():
        assert bool(caught.contract) == bool(FAULTS[fault].contract) or "outputs" in caught.contract[0], fault
        assert FAULTS[fault].contract in "; ".join(caught.contract)


@pytest.mark.parametrize("name", ["onnx fp32", "tflite fp32"])
def test_what_alone_would_undo_a_fault_is_said(labelled: dict[str, Report], tmp_path: Path, name: str) -> None:
    sound = good(labelled[name].path, "fp32")

    found = {fault: judged(path, sound, explain=True).causes for fault, path in mutants(sound, tmp_path)}

    for fault, causes in found.items():
        expected = FAULTS[fault].cause
        assert len(causes) == bool(expected), (fault, causes)
        assert not expected or re.search(re.escape(expected).replace(r"\|", "|"), causes[0]), (fault, causes)


def test_tflite_metadata_that_say_otherwise_are_refused(labelled: dict[str, Report], tmp_path: Path) -> None:
    """What MediaPipe reads, not what this package does: NormalizationOptions and the label file."""
    sound = good(labelled["tflite fp32"].path, "fp32")
    content, path = sound.path.read_bytes(), tmp_path / sound.path.name

    def halved(graph: dict) -> None:
        ((_, options),) = [unit["options"] for unit in graph["input_tensor_metadata"][0]["process_units"]]
        options["std"] = [127.5]

    shuffled = task_metadata_edits.with_label_text(content, "\n".join(LABELS[::-1]) + "\n")
    for wrong in (task_metadata_edits.edited(content, halved), shuffled):
        path.write_bytes(wrong)
        assert "TFLite Metadata say otherwise" in judged(path, sound).refused


def test_a_file_that_does_not_say_how_photos_are_prepared_is_refused(
    labelled: dict[str, Report], tmp_path: Path
) -> None:
    sound = good(labelled["onnx fp32"].path, "fp32")
    path = tmp_path / sound.path.name
    photo_mutants.copied(sound.path, path)
    file = opened(path)
    del file.said["mvit_deploy.preprocessing"]
    file.save()

    assert "does not say how a photo becomes its image" in judged(path, sound).refused


@pytest.mark.parametrize("name", QUICK)
def test_reports_say_what_each_side_finds_on_every_judged_photo(labelled: dict[str, Report], name: str) -> None:
    rows = labelled[name].content["verification"]["labels"]
    pixels = photos_below(PHOTOS).prepared(OWN, SIZE)
    with torch.no_grad():
        expected = sensitive("xxs", 5)(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).softmax(1).numpy()

    assert [row["name"] for row in rows] == sorted(path.name for path in PHOTOS.glob("*.jpg"))
    for row, probabilities in zip(rows, expected, strict=True):
        for side in ("reference", "file"):
            assert [best["label"] for best in row[side]] == [LABELS[i] for i in np.argsort(-probabilities)]
            given = [best["probability"] for best in row[side]]
            assert given == pytest.approx(sorted(probabilities, reverse=True), abs=1e-4)


# mvit-verify --images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("pictures") / "deep", 0, 6).parent


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network of handwritten digits as .onnx, with its report."""
    folder = tmp_path_factory.mktemp("digits")
    options = {"target": "onnx", "weights": DIGITS, "labels": TEN, "image_size": 32, "output": folder}
    (found,) = mvit_deploy.export(None, **options)
    assert found.exit_code == 0
    return found.path


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Iterator[Path]:
    """Without a report, so that nothing but numbers tell."""
    path = tmp_path / digits.name
    path.write_bytes(digits.read_bytes())
    return path


def spoilt(path: Path, fault: str) -> Path:
    file = opened(path)
    FAULTS[fault].edit(file)
    file.save()
    return path


def test_a_sound_file_matches_photo_by_photo(digits: Path, pictures: Path) -> None:
    (found,) = mvit_deploy.verify(digits, images=pictures)

    assert found.exit_code == 0, found.reason
    told = found.content["verification"]["photo_labels"]
    assert (told["verdict"], told["count"], told["same_label"], told["labels_from"]) == ("match", 6, 6, "report")
    assert [photo["name"] for photo in told["photos"]] == [f"deep/{place:02}.png" for place in range(6)]
    assert told["max_abs_probability"] < told["tolerance"]["max_abs_probability"] == 1e-3
    assert told["preprocessing"]["file"] == told["preprocessing"]["reference"]
    json.dumps(found.content, allow_nan=False)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("BGR, in the stem's weights", "it would agree with red and blue exchanged"),
        ("softmax missing", "a probability is outside 0..1"),
        ("resize 304 for 288", "it would agree with photos prepared as PyTorch's"),
        ("two labels exchanged", "it would agree with its labels in another order"),
    ],
)
def test_a_faulty_file_without_a_report_is_a_mismatch_that_says_why(
    copy: Path, pictures: Path, fault: str, words: str
) -> None:
    (found,) = mvit_deploy.verify(spoilt(copy, fault), weights=DIGITS, images=pictures, labels=TEN)

    assert (found.exit_code, found.verdict) == (1, MISMATCH)
    assert words in found.reason
    assert found.content["verification"]["photo_labels"]["verdict"] == MISMATCH


def test_a_file_whose_report_was_edited_along_is_caught_by_the_labels_of_a_person(
    digits: Path, pictures: Path, tmp_path: Path
) -> None:
    path = tmp_path / digits.name
    path.write_bytes(digits.read_bytes())
    said = json.loads(report_path(digits).read_text())
    said["artifact"]["labels"] = [*TEN[1:], TEN[0]]
    report_path(path).write_text(json.dumps(said))
    spoilt(path, "labels one off")

    (found,) = mvit_deploy.verify(path, images=pictures, labels=TEN)

    told = found.content["verification"]["photo_labels"]
    assert (told["verdict"], told["labels_from"]) == (MISMATCH, "person")
    assert told["would_agree_with"] == ["its labels in another order"]


def test_what_the_file_declares_is_held_to_pytorchs_side_even_where_numbers_are_alike(
    copy: Path, pictures: Path
) -> None:
    """int8 may label alike what is not prepared alike; a person's word stands against the file's."""
    spoilt(copy, "nearest for bilinear")
    options = {"weights": DIGITS, "images": pictures, "labels": TEN, "precision": "w8"}

    (found,) = mvit_deploy.verify(copy, **options)
    assert "the file's photos are short side 288, centre 256x256, nearest" in found.reason
    assert "PyTorch's short side 288, centre 256x256, bilinear" in found.reason

    (found,) = mvit_deploy.verify(copy, **options, resampling="nearest")
    assert found.exit_code == 0, found.reason


def test_a_normalization_that_only_the_file_names_is_not_run_until_a_person_does(
    pictures: Path, tmp_path: Path
) -> None:
    options = {"target": "onnx", "weights": DIGITS, "labels": TEN, "image_size": 32, "output": tmp_path}
    (made,) = mvit_deploy.export(None, normalize="imagenet", **options)
    report_path(made.path).unlink()
    said = {"weights": DIGITS, "images": pictures, "labels": TEN}

    (unknown,), (right,), (wrong,) = (
        mvit_deploy.verify(made.path, **said, **more)
        for more in ({}, {"normalize": "imagenet"}, {"normalize": "0.5,0.5"})
    )

    assert (unknown.exit_code, "give --normalize" in unknown.reason) == (3, True)
    assert (right.exit_code, wrong.exit_code) == (0, 1)


def test_a_network_that_gives_no_labels_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no row of logits"):
        classes.of_reference({"features": np.zeros((1, 4, 2, 2))}, None)


def test_labels_that_nobody_but_the_file_names_are_not_run(copy: Path, pictures: Path) -> None:
    """A checkpoint has no names: without a report and --labels there is nothing to hold the file's to."""
    (found,) = mvit_deploy.verify(copy, weights=DIGITS, images=pictures)

    assert (found.exit_code, found.verdict) == (3, NOT_RUN)
    assert "give --labels" in found.reason


def test_the_command_line_shows_photos_and_labels_and_ends_with_1(copy: Path, digits: Path, pictures: Path) -> None:
    spoilt(copy, "BGR, in the stem's weights")
    labels = copy.with_name("labels.txt")
    labels.write_text("\n".join(TEN))

    command = [sys.executable, "-m", "mvit_deploy.cli.verify", "--images", pictures, "--labels", labels]
    result = subprocess.run(
        [*map(str, command), "--weights", str(DIGITS), str(digits), str(copy), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    sound, faulty = (r["verification"]["photo_labels"] for r in json.loads(result.stdout))
    assert (sound["verdict"], faulty["verdict"]) == (MATCH, MISMATCH)
    text = " ".join(result.stderr.split())
    assert "6 of 6 photos get PyTorch's label" in text
    assert f"{faulty['same_label']} of 6 photos get PyTorch's label" in text
    assert "it would agree with red and blue exchanged" in text
    assert result.stderr.count("≠") == 6 - faulty["same_label"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": TEN}, "--labels belongs to --images"),
        ({"images": "nowhere"}, "is not a folder of images"),
        ({"resize": 40}, "--resize belongs to --images"),
        ({"images": PHOTOS, "labels": TEN[1:]}, "9 labels for 10 classes"),
        ({"images": PHOTOS, "resize": 16}, "--resize 16 is smaller than the image"),
    ],
)
def test_wrong_words_are_one_clear_line(digits: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        mvit_deploy.verify(digits, **options)


def test_photos_that_cannot_be_read_are_a_usage_error(
    digits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")

    assert verify(["--images", str(tmp_path), str(digits)]) == 2
    assert "cannot read the image" in capfd.readouterr().err


def test_of_many_photos_those_that_differ_are_shown_first(tmp_path: Path) -> None:
    expected = answers(*[(0.7, 0.2, 0.1)] * 24)
    found = answers(*[(0.7, 0.2, 0.1)] * 21, *[(0.2, 0.7, 0.1)] * 3)
    content = {"verification": {"photo_labels": held(found, expected).to_json()}}
    written = io.StringIO()

    photo_table.show([Report(tmp_path / "x.onnx", 1, content)], Console(file=written, width=120))

    rows = [line.split() for line in written.getvalue().splitlines() if line.strip().endswith("0.700")]
    assert [row[0] for row in rows] == [f"{place}.png" for place in (21, 22, 23, *range(17))]
    assert rows[0] == ["21.png", "a", "0.700", "≠", "b", "0.700"]
    assert rows[3] == ["0.png", "a", "0.700", "a", "0.700"]
    assert "x.onnx: 21 of 24 photos get PyTorch's label; no probability is further than 5.0e-01" in written.getvalue()


# Every format and precision, trained weights


def drawn(place: int) -> Image.Image:
    """A digit in one colour on another, turned a little: what the network has learnt, and no two alike."""
    draw = np.random.default_rng(place)
    back, ink = (tuple(int(level) for level in draw.integers(*ends, 3)) for ends in ((0, 90), (140, 256)))
    image = Image.new("RGB", (96, 80), back)
    font = ImageFont.load_default(int(draw.integers(48, 66)))
    centre = 48 + int(draw.integers(-6, 7)), 40 + int(draw.integers(-5, 6))
    ImageDraw.Draw(image).text(centre, str(place % 10), fill=ink, font=font, anchor="mm")
    return image.rotate(float(draw.uniform(-12, 12)), Image.Resampling.BILINEAR, fillcolor=back)


def planted(folder: Path, places: range) -> Path:
    folder.mkdir()
    for place in places:
        drawn(place).save(folder / f"{place:03}.png")
    return folder


@pytest.fixture(scope="module")
def int8_digits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The trained network with integer activations, for which floors hold, in every format that has such."""
    folder = tmp_path_factory.mktemp("int8")
    options = {"weights": DIGITS, "labels": TEN, "image_size": 64}
    options |= {"calibration": planted(folder / "calibration", range(100, 140))}
    options |= {"verify_images": planted(folder / "photos", range(24))}
    jobs = [("onnx", "float32"), ("coreml", "float32"), ("tflite", "float32"), ("tflite", "uint8"), ("tflite", "int8")]
    paths = []
    with quick_blame():
        for target, io in jobs:
            output = folder / io
            (found,) = mvit_deploy.export(None, target=target, precision="w8a8", io=io, output=output, **options)
            assert found.exit_code == 0, found.reason
            paths.append(found.path)
    return paths


@pytest.mark.slow
def test_every_fault_of_files_with_integer_activations_is_caught(int8_digits: list[Path], tmp_path: Path) -> None:
    photos = photos_below(int8_digits[0].parents[1] / "photos").first(4)
    source = reference.from_weights(None, str(DIGITS), num_classes=None, seed=0)
    logits = reference.run(source, photos.prepared(OWN, (64, 64)))["logits"]

    for path in int8_digits:
        sound = Good(path, "w8a8", photos, classes.of_reference({"logits": logits}, TEN))
        assert not judged(path, sound), path
        found = {fault: judged(mutant, sound) for fault, mutant in mutants(sound, tmp_path)}
        assert len(found) >= 11
        assert [fault for fault, caught in found.items() if not caught] == [], path


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [f"{form} {p}" for form in ("onnx", "tflite", "mlpackage", "mlmodel") for p in ("fp16", "w8")]
)
def test_every_fault_of_half_precision_and_int8_weights_is_caught_by_numbers_alone(
    labelled: dict[str, Report], tmp_path: Path, name: str
) -> None:
    sound = good(labelled[name].path, name.split()[1], 4)
    assert not judged(sound.path, sound)

    found = {fault: judged(path, sound) for fault, path in mutants(sound, tmp_path)}

    assert len(found) >= 13
    assert {fault for fault, caught in found.items() if not caught.numbers} <= {"BGR, in the metadata alone"}
    assert all(found.values())


@pytest.mark.slow
def test_random_weights_leave_int8_without_floors_and_with_labels(tmp_path: Path, pictures: Path) -> None:
    options = {"target": "onnx", "precision": "w8a8", "num_classes": 5, "labels": LABELS, "image_size": 32}
    with quick_blame():
        (made,) = mvit_deploy.export("xxs", calibration=PHOTOS, output=tmp_path, **options)

    (found,) = mvit_deploy.verify(made.path, images=pictures)
    told = found.content["verification"]["photo_labels"]
    assert (found.exit_code, told["verdict"], told["tolerance"]) == (0, MATCH, {})
    assert "without a floor" in told["reason"]

    spoilt(made.path, "softmax missing")
    (found,) = mvit_deploy.verify(made.path, images=pictures)
    assert "a probability is outside 0..1" in found.content["verification"]["photo_labels"]["reason"]
