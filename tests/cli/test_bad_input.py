"""Bad input: one clear line, the right exit code, and nothing written."""

import pickle
from pathlib import Path

import pytest
import torch

from mvit_deploy.checkpoints import timm
from mvit_deploy.cli.export import main
from tests.conftest import PHOTOS, sensitive, without_library

USAGE, MISSING, CHECKPOINT = 2, 4, 5
BASE = {"--mode": "xxs", "--target": "onnx", "--image-size": "64"}


def run(tmp_path: Path, capfd: pytest.CaptureFixture[str], **changes: object) -> tuple[int, str]:
    """Exit code and stderr of a run with some options changed; sees that nothing was written."""
    options = BASE | {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    options.setdefault("--output", tmp_path / "out")
    words = [str(w) for name, value in options.items() if value is not None for w in (name, value)]
    code = main([word for word in words if word != "True"])
    written = Path(options["--output"])
    assert not written.is_dir() or not any(written.iterdir())
    captured = capfd.readouterr()
    assert captured.out == ""
    return code, captured.err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "xss"}, ["unknown mode 'xss'", "xxs, xs, s", "did you mean"]),
        ({"mode": None}, ["--mode is needed"]),
        ({"target": "corml"}, ["unknown target 'corml'", "onnx, coreml, tflite", "did you mean 'coreml'"]),
        ({"target": None}, ["--target is required"]),
        ({"precision": "fp61"}, ["unknown precision 'fp61'", "did you mean 'fp16'"]),
        ({"precision": "w8a8"}, ["w8a8", "give --calibration DIR"]),
        ({"precision": "int8", "calibration": "nowhere"}, ["nowhere is not a folder of images"]),
        ({"target": "coreml", "precision": "w8a16"}, ["coreml has no precision w8a16", "16-bit integer activations"]),
        ({"task": "detekt"}, ["unknown task", "did you mean 'detection'"]),
        ({"variant": "korni"}, ["unknown variant", "did you mean 'kornia'"]),
        ({"raw_head": True}, ["--raw-head belongs to --task detection, this is classification"]),
        ({"output_stride": 8}, ["--output-stride belongs to --task segmentation, this is classification"]),
        ({"task": "segmentation", "output_stride": 32}, ["output stride 32; a segmenter has: 16, 8"]),
        ({"nms": True}, ["--nms belongs to --task detection, this is classification"]),
        ({"task": "detection", "nms": True, "raw_head": True}, ["--nms works on decoded boxes"]),
        ({"task": "detection", "nms": True, "dynamic_batch": True}, ["--nms finds another number of boxes"]),
        ({"task": "detection", "argmax": True}, ["--argmax belongs to --task segmentation, this is detection"]),
        (
            {"task": "detection", "target": "tflite", "precision": "w8a8", "calibration": PHOTOS, "io": "uint8"},
            ["--io uint8 is for files with one output of logits, this has boxes and scores"],
        ),
        ({"image_size": "250"}, ["250x250", "224x224 and 256x256"]),
        ({"image_size": "256x250"}, ["256x224 and 256x256"]),
        ({"image_size": "0"}, ["32x32"]),
        ({"image_size": ""}, ["--image-size is given without a value"]),
        ({"image_size": "big"}, ["cannot read the image size 'big'"]),
        ({"num_classes": 0}, ["at least one class"]),
        ({"num_classes": "many"}, ["'many' is not a valid integer"]),
        ({"format": "mlmodel"}, ["--format belongs to target coreml"]),
        ({"min_ios": 16}, ["--min-ios belongs to target coreml"]),
        ({"target": "coreml", "format": "mlpakage"}, ["unknown format", "did you mean 'mlpackage'"]),
        ({"target": "coreml", "min_ios": 14}, ["unknown --min-ios 14"]),
        ({"target": "coreml", "format": "mlmodel", "min_ios": 16}, ["--min-ios is for mlpackage"]),
        ({"target": "tflite", "dynamic_batch": True}, ["--dynamic-batch belongs to target onnx"]),
        ({"target": "tflite", "io": "uint"}, ["unknown io 'uint'", "float32, uint8, int8", "did you mean 'uint8'"]),
        ({"target": "tflite", "io": "uint8"}, ["--io uint8 belongs to precision w8a8 of target tflite"]),
        ({"presicion": "fp32"}, ["--presicion", "--precision"]),
        ({"verify_images": "nowhere"}, ["nowhere is not a folder"]),
        ({"labels": "nowhere.txt"}, ["cannot read the labels in nowhere.txt"]),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_wrong_option_says_what_is_allowed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict, words: list[str]
) -> None:
    code, message = run(tmp_path, capfd, **changes)

    assert code == USAGE, message
    assert all(word in message for word in words), message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no labels"),
        (b"\n\n", "holds no labels"),
        (b"\xff\xfe\x00binary\x80", "cannot read the labels"),
        (b"a\nb\n", "2 labels for 3 classes"),
        (b"a\n\nc\n", "label 2 is empty"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes(content)

    code, message = run(tmp_path, capfd, num_classes=3, labels=labels)

    assert (code, words in message) == (USAGE, True), message


def test_labels_that_repeat_are_refused_for_core_ml(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """They are the keys of a dictionary there, so one would hide the other."""
    labels = tmp_path / "labels.txt"
    labels.write_text("crane\nbird\ncrane\n")

    code, message = run(tmp_path, capfd, target="coreml", num_classes=3, labels=labels)

    assert code == USAGE
    assert "crane" in message


def test_unusable_verification_images_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")
    assert run(tmp_path, capfd, verify_images=folder)[0] == USAGE

    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    code, message = run(tmp_path, capfd, verify_images=folder)

    assert code == USAGE
    assert "broken.jpg" in message


@pytest.mark.parametrize("kind", ["file", "below a file", "nowhere"])
def test_an_output_path_that_cannot_be_used_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "file").write_text("mine")
    output = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "x", "nowhere": Path("/proc/nowhere")}[
        kind
    ]

    code, message = run(tmp_path, capfd, output=output)

    assert code == USAGE, message
    assert str(output) in message
    assert (tmp_path / "file").read_text() == "mine"


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.target,)


def bad_checkpoint(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "weights.pth"
    state = timm.state_dict_for(sensitive("xxs", 5))
    if kind == "nan":
        state["stem.conv.weight"] = torch.full_like(state["stem.conv.weight"], float("nan"))
    if kind == "other network":
        state = {f"resnet.layer{i}.weight": torch.zeros(2) for i in range(9)}
    torch.save(Malicious(tmp_path / "was_here") if kind == "malicious" else state, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:100_000])
    if kind == "text":
        path.write_text("not a checkpoint")
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Malicious(tmp_path / "was_here")))
    if kind == "missing":
        path.unlink()
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "NaN or infinity in stem.conv.weight"),
        ("other network", "resnet.layer0.weight, resnet.layer1.weight"),
        ("malicious", "was not opened"),
        ("bare pickle", "weights.pth"),
        ("truncated", "truncated or not a PyTorch checkpoint"),
        ("text", "not a PyTorch checkpoint"),
        ("missing", "no checkpoint at"),
    ],
)
def test_a_bad_checkpoint_is_refused_and_nothing_in_it_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, words: str
) -> None:
    code, message = run(tmp_path, capfd, weights=bad_checkpoint(tmp_path, kind))

    assert code == CHECKPOINT, message
    assert words in message
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize(("option", "value"), [("mode", "xs"), ("num_classes", 7)])
def test_an_option_that_contradicts_the_weights_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], option: str, value: object
) -> None:
    changes = {"weights": bad_checkpoint(tmp_path, "good"), option: value}

    code, message = run(tmp_path, capfd, **changes)

    assert code == USAGE
    assert "contradicts the weights" in message


@pytest.mark.parametrize(
    ("library", "target", "extra"),
    [
        ("onnxruntime", "onnx", "onnx"),
        ("coremltools", "coreml", "coreml"),
        ("onnx2tf", "tflite", "tflite"),
        ("ai_edge_litert", "tflite", "tflite"),
        ("tensorflow", "all", "tflite"),
    ],
)
def test_a_missing_library_names_the_extra_before_anything_is_written(
    tmp_path: Path, library: str, target: str, extra: str
) -> None:
    result = without_library(library, "export", "--mode", "xxs", "--target", target, "--output", tmp_path / "out")

    assert result.returncode == MISSING, result.stderr
    assert f"mvit-deploy[{extra}]" in result.stderr
    assert not (tmp_path / "out").exists()
