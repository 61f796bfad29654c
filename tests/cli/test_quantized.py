"""Quantized files by the command line: which photos, which layers in float, and what of that is refused."""

import json
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from mvit_deploy.cli.export import main
from mvit_deploy.quantization.preparation import Choice, choice_of
from tests.conftest import PHOTOS, quick_blame
from tests.pictures import WITHOUT_IMAGES, crops, folder_without_images, plant

BASE = ["--mode", "xxs", "--num-classes", "5", "--image-size", "64", "--target", "onnx"]
NAME = "mobilevit_xxs_w8a8.onnx"
USAGE = 2
COUNT = 12
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten plain photos. Not to be modified."""
    return plant(tmp_path_factory.mktemp("photos"), 0, 10)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen different readable images of every sort, a copy, and two that cannot be read."""
    folder = plant(tmp_path_factory.mktemp("mixed"), 0, 8)
    shutil.copy(folder / "03.png", folder / "copy of 03.png")
    gray, clear, ink, deep, deeper, turned = islice(crops(), 8, 14)
    gray.convert("L").save(folder / "gray.jpg")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(folder / "clear.png")
    ink.convert("CMYK").save(folder / "ink.jpg")
    for image, name in ((deep, "deep.png"), (deeper, "deep.tiff")):
        image.convert("L").convert("I").point(lambda level: level * 257).convert("I;16").save(folder / name)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1), (200, 10, 30)).save(folder / "one pixel.png")
    Image.new("RGB", (2000, 1), (20, 100, 30)).save(folder / "a line.png")
    (folder / "cut off.jpg").write_bytes((PHOTOS / "cat.jpg").read_bytes()[:3000])
    (folder / "notes.txt").write_text("no image, and nobody expects one")
    (folder / "no picture.jpg").write_text("text")
    return folder


# What works


def exported(output: Path, *arguments: object) -> dict[str, object]:
    code = main([*BASE, "--precision", "w8a8", "--output", str(output), *map(str, arguments)])
    assert code == 0
    return json.loads((output / f"{NAME}.report.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quick_blame():
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, mixed: Path) -> Path:
    """The folder of a file whose plan was searched."""
    folder = tmp_path_factory.mktemp("searched")
    exported(folder, "--calibration", mixed, "--calibration-count", COUNT)
    return folder


def test_a_count_is_taken_of_images_of_every_sort_and_reported(searched: Path) -> None:
    """Every fifth judges and is not calibrated on."""
    found = json.loads((searched / f"{NAME}.report.json").read_text())

    assert found["quantization"]["calibration"]["count"] == COUNT - COUNT // 5
    assert found["verification"]["inputs"]["kinds"]["photo"] == COUNT // 5
    assert found["verification"]["inputs"]["calibration_count"] == COUNT
    assert found["quantization"]["plan"]["chosen_by"] == "search"


def test_a_plan_of_a_report_gives_the_same_file_again(tmp_path: Path, mixed: Path, searched: Path) -> None:
    given = searched / f"{NAME}.report.json"

    again = exported(tmp_path, "--calibration", mixed, "--calibration-count", COUNT, "--plan", given)

    plan, first = again["quantization"]["plan"], json.loads(given.read_text())["quantization"]["plan"]
    assert (plan["chosen_by"], plan["keep_float"]) == ("--plan", first["keep_float"])
    assert (tmp_path / NAME).read_bytes() == (searched / NAME).read_bytes()


def test_what_is_to_stay_float_stays_float_and_nothing_else(tmp_path: Path, photos: Path, capfd: Captured) -> None:
    """In the report and in what the runtime executes. One photo is given to judge on too, where it is left out."""
    judging = plant(tmp_path / "judging", 9, 14)
    kept = [f"backbone.layer_1.0.{name}" for name in ("expand.0", "depthwise.0", "reduce")] + ["head.fc"]

    found = exported(
        tmp_path, "--calibration", photos, "--verify-images", judging, "--keep-float", "head.fc, backbone.layer_1"
    )

    plan, int8 = found["quantization"]["plan"], found["artifact"]["int8"]
    layers = [operation for operation in int8["operations"] if operation["weight_bits"]]
    assert (set(plan["keep_float"]), plan["chosen_by"]) == (set(kept), "--keep-float")
    assert [layer_of(o["name"]) for o in layers if o["kind"] == "float"] == kept
    assert {o["kind"] for o in layers} == {"float", "int8"}
    assert found["quantization"]["calibration"]["count"] == 10
    assert found["verification"]["inputs"]["kinds"]["photo"] == 4
    assert "warning: 1 verification images are also calibration images" in capfd.readouterr().err


def test_a_plan_and_further_layers_are_taken_together(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"keep_float": ["head.fc"]}))

    assert choice_of(("backbone.stem",), plan, "xxs") == Choice(("head.fc", "backbone.stem"), "--plan and --keep-float")


def layer_of(node: str) -> str:
    """The module of an ONNX node: /a/a.0/b/Conv is a.0.b, with the names of a Sequential's parts said twice."""
    parts = node.strip("/").split("/")[:-1]
    return ".".join(part.removeprefix(f"{before}.") for before, part in zip(["", *parts], parts, strict=False))


# What is refused


def ended(tmp_path: Path, capfd: Captured, *arguments: object, precision: str = "w8a8") -> tuple[str, list[str]]:
    """The one line that a refused run ends with, and its warnings; sees that nothing was written."""
    output = tmp_path / "out"
    code = main([*BASE, "--precision", precision, "--output", str(output), *map(str, arguments)])
    captured = capfd.readouterr()
    lines = captured.err.splitlines()
    errors = [line for line in lines if not line.startswith(" ")]
    assert code == USAGE, captured.err
    assert captured.out == ""
    assert len(errors) == 1, captured.err
    assert not output.exists() or not any(output.iterdir())
    return errors[0], [line.partition("warning: ")[2] for line in lines if "warning: " in line]


def refused(tmp_path: Path, capfd: Captured, *arguments: object, precision: str = "w8a8") -> str:
    message, _ = ended(tmp_path, capfd, *arguments, precision=precision)
    return message


@pytest.mark.parametrize("kind", WITHOUT_IMAGES)
def test_a_folder_without_photos_is_refused(tmp_path: Path, capfd: Captured, kind: str) -> None:
    folder = folder_without_images(tmp_path / "photos", kind)
    words = "is not a folder of images" if kind in ("missing", "a file") else "no images below"

    message = refused(tmp_path, capfd, "--calibration", folder)

    assert words in message
    assert str(folder) in message


def test_seven_photos_and_a_broken_one_are_too_few(tmp_path: Path, capfd: Captured) -> None:
    folder = plant(tmp_path / "photos", 0, 7)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not really")

    message = refused(tmp_path, capfd, "--calibration", folder)

    words = f"7 different calibration images found below {folder}, 1 skipped; calibration needs at least 8"
    assert words in message


def test_files_that_cannot_be_read_are_named_and_all_others_taken(tmp_path: Path, mixed: Path, capfd: Captured) -> None:
    """What judges is refused for another reason, right after the photos have been read."""
    arguments = [
        "--calibration",
        mixed,
        "--calibration-count",
        99,
        "--verify-images",
        plant(tmp_path / "judging", 0, 1),
    ]

    _, warnings = ended(tmp_path, capfd, *arguments)

    broken, text, copies, fewer = warnings
    assert f"cannot read the image {mixed / 'cut off.jpg'}: " in broken
    assert f"cannot read the image {mixed / 'no picture.jpg'}: " in text
    assert broken.endswith("; skipped")
    assert copies == f"the calibration image {mixed / 'copy of 03.png'} is a copy of 03.png and is left out"
    assert fewer == "--calibration-count 99: there are 16 different images, all are used"


@pytest.mark.parametrize("count", ["7", "0", "-3"])
def test_a_count_below_8_is_refused(tmp_path: Path, photos: Path, capfd: Captured, count: str) -> None:
    message = refused(tmp_path, capfd, "--calibration", photos, "--calibration-count", count)

    assert f"--calibration-count {count}: calibration needs at least 8" in message


def test_photos_that_were_all_calibrated_on_cannot_judge(tmp_path: Path, photos: Path, capfd: Captured) -> None:
    judging = plant(tmp_path / "judging", 2, 5)

    message = refused(tmp_path, capfd, "--calibration", photos, "--verify-images", judging)

    assert "each of the 3 verification images is also a calibration image" in message


@pytest.mark.parametrize(
    ("precision", "arguments", "words"),
    [
        ("w8a8", ["--calibration-count", 9], "give --calibration DIR"),
        ("w8", ["--calibration-count", 9], "--calibration-count belongs to --calibration"),
        ("fp32", ["--calibration", "photos"], "--calibration belongs to the precisions w8, w8a16, w8a8"),
        ("fp32", ["--keep-float", "head.fc"], "--keep-float belongs to the precisions w8, w8a16, w8a8"),
        ("fp32", ["--plan", "plan.json"], "--plan belongs to the precisions w8, w8a16, w8a8"),
        ("w8", ["--keep-float", "head.fc"], "need --calibration: without it weights alone are rounded"),
        ("w8", ["--plan", "plan.json"], "need --calibration: without it weights alone are rounded"),
        ("w8a8", ["--keep-float", "head.fc"], "give --calibration DIR"),
        ("w8a8", ["--keep-float", " ,"], "--keep-float ' ,': give the names of layers, with commas between them"),
        ("w8a8", ["--plan", "plan.json"], "give --calibration DIR"),
    ],
)
def test_options_of_a_quantization_that_is_not_asked_for_are_refused(
    tmp_path: Path, capfd: Captured, precision: str, arguments: list[object], words: str
) -> None:
    assert words in refused(tmp_path, capfd, *arguments, precision=precision)


def test_a_layer_that_is_not_there_is_named_with_what_was_meant(tmp_path: Path, photos: Path, capfd: Captured) -> None:
    """Whoever says it; here both options together, of which the plan is right."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"keep_float": ["backbone.stem.0"]}))

    message = refused(
        tmp_path, capfd, "--calibration", photos, "--plan", plan, "--keep-float", "backbone.layer_1,head.fcc"
    )

    assert "--plan and --keep-float: the network has no layer 'head.fcc'" in message
    assert "did you mean 'head.fc'?" in message


def test_a_plan_of_another_network_names_a_layer_that_is_not_there(
    tmp_path: Path, photos: Path, capfd: Captured
) -> None:
    report = tmp_path / "report.json"
    plan = {"schema_version": 1, "keep_float": ["head.fc", "backbone.layer_7.0.reduce"]}
    report.write_text(json.dumps({"schema_version": 1, "quantization": {"plan": plan}}))

    message = refused(tmp_path, capfd, "--calibration", photos, "--plan", report)

    assert "--plan: the network has no layer 'backbone.layer_7.0.reduce'" in message


NO_PLANS = {
    "missing": None,
    "a folder": None,
    "nothing": "",
    "no JSON": "keep_float: head.fc",
    "no text": b"\xff\xfe\x00\x80",
    "a list": '["head.fc"]',
    "a number": "3",
    "null": "null",
    "an object": "{}",
    "a report without quantization": '{"schema_version": 1, "verification": {}}',
    "a report with none": '{"quantization": null}',
    "a report with a list": '{"quantization": []}',
    "a report without a plan": '{"quantization": {"plan": null}}',
    "a word": '{"keep_float": "head.fc"}',
    "numbers": '{"keep_float": [1, 2]}',
    "nested too deep": "[" * 100_000,
}


def no_plan(path: Path, kind: str) -> Path:
    content = NO_PLANS[kind]
    if kind == "a folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("kind", NO_PLANS)
def test_a_file_that_is_no_plan_is_named(tmp_path: Path, photos: Path, capfd: Captured, kind: str) -> None:
    plan = no_plan(tmp_path / "plan.json", kind)

    message = refused(tmp_path, capfd, "--calibration", photos, "--plan", plan)

    assert f"{plan} is no quantization plan" in message


@pytest.mark.parametrize("kind", ["missing", "no JSON", "a list", "an object"])
def test_why_a_file_is_no_plan_is_said_in_words(tmp_path: Path, photos: Path, capfd: Captured, kind: str) -> None:
    message = refused(tmp_path, capfd, "--calibration", photos, "--plan", no_plan(tmp_path / "plan.json", kind))

    assert "Error(" not in message


def test_a_plan_that_keeps_nothing_float_is_a_plan(tmp_path: Path, photos: Path) -> None:
    """Not the same as none: another set of photos must not bring another plan."""
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"keep_float": []}))

    found = exported(tmp_path, "--calibration", photos, "--plan", plan)["quantization"]["plan"]

    assert (found["chosen_by"], found["keep_float"]) == ("--plan", [])


@pytest.mark.parametrize("option", ["--keep-float", "--plan", "--calibration", "--verify-images"])
def test_an_option_that_is_said_and_empty_is_refused(
    tmp_path: Path, photos: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """As of a script's variable that is not set: a path of nothing would be the folder where one is.

    A count that is refused later keeps it short.
    """
    monkeypatch.chdir(photos)
    given = {"--calibration": str(photos), "--calibration-count": "7"} | {option: ""}

    words = [word for pair in given.items() for word in pair]
    joined = [f"{name}={value}" for name, value in given.items()]

    message = refused(tmp_path, capfd, *words)
    assert refused(tmp_path, capfd, *joined) == message

    assert f"{option} " in message
    assert "at least 8" not in message


@pytest.mark.parametrize("name", ["photo [red]1.jpg", "[/x].jpg"])
def test_a_file_name_is_printed_as_it_is(tmp_path: Path, capfd: Captured, name: str) -> None:
    """Square brackets are markup to the terminal's library."""
    path = plant(tmp_path / "photos", 0, 7) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("no image")

    code = main([*BASE, "--precision", "w8a8", "--calibration", str(tmp_path / "photos"), "--output", str(tmp_path)])

    assert f"cannot read the image {path}" in capfd.readouterr().err
    assert code == USAGE
