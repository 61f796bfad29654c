"""What ports of the preprocessing are held to: it says what the file says, and what its runtime takes and gives."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageFilter

import mvit_deploy
from mvit_deploy import preprocessing
from mvit_deploy.decoding import decode
from mvit_deploy.errors import UsageError
from mvit_deploy.spec import OWN
from tests.conftest import LABELS, PHOTOS, SIZE, sensitive
from tests.examples.scripts import EXAMPLES, script

make = script("fixtures/make.py")
BEE = PHOTOS / "bee.jpg"
FILTERS = ("box", "hamming", "bicubic", "lanczos")


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, folder = sensitive("xxs", len(LABELS)), tmp_path_factory.mktemp("files")
    (found,) = mvit_deploy.export(model, target="onnx", labels=LABELS, image_size=SIZE, output=folder)
    assert found.exit_code == 0
    return found.path


@pytest.fixture(scope="module")
def fixture(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixture")
    make.make(onnx_file, BEE, folder)
    return folder


def read(folder: Path) -> dict[str, object]:
    return json.loads((folder / "fixture.json").read_text(encoding="utf-8"))


def test_onnx_runtime_takes_the_tensor_as_it_is_and_finds_the_expected_classes(onnx_file: Path, fixture: Path) -> None:
    said = read(fixture)
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    tensor = np.fromfile(fixture / said["tensor"]["name"], "<f4").reshape(said["tensor"]["shape"])

    (logits,) = session.run(None, {said["input"]["name"]: tensor})

    chances = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert [each["index"] for each in said["expected"]] == list(np.argsort(-chances)[:5])
    for each in said["expected"]:
        assert each["probability"] == pytest.approx(chances[each["index"]], abs=1e-6)
        assert each["label"] == LABELS[each["index"]]


def test_the_tensor_is_the_pixels_in_layout_and_range(fixture: Path) -> None:
    said = read(fixture)
    pixels = np.asarray(Image.open(fixture / said["pixels"]["name"]), dtype=np.float32)

    tensor = np.fromfile(fixture / said["tensor"]["name"], "<f4").reshape(said["tensor"]["shape"])

    assert (said["input"]["layout"], said["input"]["range"], said["input"]["color_order"]) == ("NCHW", [0, 1], "RGB")
    np.testing.assert_allclose(tensor[0], pixels.transpose(2, 0, 1) / 255, atol=1e-6)


def test_the_photo_is_upright_and_without_loss(tmp_path: Path, onnx_file: Path) -> None:
    """Orientation 6: the camera was held upright, the rows of the file run from right to left."""
    upright = Image.open(BEE).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)

    make.make(onnx_file, tmp_path / "turned.png", tmp_path)

    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "photo.png")), np.asarray(upright))


def test_digests_and_sizes_are_those_of_the_files(fixture: Path) -> None:
    said = read(fixture)

    for part in ("photo", "pixels", "tensor"):
        content = (fixture / said[part]["name"]).read_bytes()
        assert said[part]["sha256"] == hashlib.sha256(content).hexdigest()
    for part in ("photo", "pixels"):
        picture = Image.open(fixture / said[part]["name"])
        assert picture.size == (said[part]["width"], said[part]["height"])
        assert picture.info["srgb"] == 0  # no decoder has to guess the colours
    assert (said["pixels"]["height"], said["pixels"]["width"]) == SIZE


def test_the_covered_size_and_the_crop_alone_give_the_pixels(fixture: Path) -> None:
    """As a port would do it: cover, keep the proportions, cut the centre."""
    said = read(fixture)
    photo = Image.open(fixture / "photo.png")
    (rows, columns), (height, width) = said["preprocessing"]["covers"], SIZE
    scale = max(rows / photo.height, columns / photo.width)
    sides = round(photo.width * scale), round(photo.height * scale)
    resized = photo.resize(sides, Image.Resampling.BILINEAR)
    left, top = (resized.width - width) // 2, (resized.height - height) // 2

    found = np.asarray(resized.crop((left, top, left + width, top + height)))

    assert (rows, columns) == (72, 108)  # 288 / 256 of 64 and 96
    np.testing.assert_array_equal(found, np.asarray(Image.open(fixture / "expected_pixels.png")))


@pytest.mark.parametrize("name", ["bee", "bridge", "citrus", "dandelion"])
@pytest.mark.parametrize("size", [SIZE, (256, 256)])
def test_the_tolerance_lets_other_filters_pass_and_no_usual_fault(name: str, size: tuple[int, int]) -> None:
    photo = decode(PHOTOS / f"{name}.jpg")
    right = preprocessing.apply(photo, OWN, size)

    sound = [make.difference(preprocessing.apply(photo, replace(OWN, resampling=f), size), right) for f in FILTERS]
    wrong = [make.difference(found, true) for _, found, true in make.faults(photo, OWN, right)]

    assert max(sound) < make.TOLERANCE["pixels_mean"] < min(wrong)
    assert len(wrong) == 6


def test_a_photo_that_hides_faults_is_refused(tmp_path: Path, onnx_file: Path) -> None:
    Image.open(BEE).resize((480, 320)).save(tmp_path / "same.png")  # proportions of the input
    Image.open(BEE).convert("L").save(tmp_path / "gray.png")
    Image.open(BEE).filter(ImageFilter.GaussianBlur(80)).save(tmp_path / "blurred.png")

    for name, fault in {"same": "squeezed", "gray": "swapped colours", "blurred": "nobody would see"}.items():
        with pytest.raises(UsageError, match=fault):
            make.make(onnx_file, tmp_path / f"{name}.png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_does_not_say_how_photos_are_prepared_is_refused(tmp_path: Path, onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    (entry,) = [each for each in model.metadata_props if each.key == "mvit_deploy.preprocessing"]
    model.metadata_props.remove(entry)
    onnx.save(model, tmp_path / "silent.onnx")

    with pytest.raises(UsageError, match="does not say how photos are prepared"):
        make.make(tmp_path / "silent.onnx", BEE, tmp_path / "out")


def test_the_command_line_prints_the_classes_and_errors_in_one_line(tmp_path: Path, onnx_file: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, EXAMPLES / "fixtures" / "make.py", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = run(onnx_file, "--photo", BEE, "--output", tmp_path / "out")
    bad = run(tmp_path / "absent.onnx", "--photo", BEE, "--output", tmp_path / "none")

    assert good.returncode == 0
    assert good.stdout.count("%") == len(LABELS)
    assert (tmp_path / "out" / "fixture.json").is_file()
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: ")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_quantized_input_gets_levels(tmp_path: Path) -> None:
    """With --io uint8 the levels are the pixels."""
    options = {"num_classes": len(LABELS), "image_size": SIZE, "precision": "w8a8", "calibration": PHOTOS}
    (found,) = mvit_deploy.export("xxs", target="tflite", io="uint8", labels=LABELS, output=tmp_path, **options)

    said = make.make(found.path, BEE, tmp_path / "fixture")

    tensor = np.fromfile(tmp_path / "fixture" / "expected_tensor.bin", said["input"]["dtype"])
    pixels = np.asarray(Image.open(tmp_path / "fixture" / "expected_pixels.png"))
    np.testing.assert_array_equal(tensor.reshape(pixels.shape), pixels)
    (detail,) = Interpreter(str(found.path)).get_input_details()
    assert detail["dtype"] == np.dtype(said["input"]["dtype"])
