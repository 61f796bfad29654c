"""Core ML files through the runner: pictures in as ImageType says, labels and probabilities out as ClassifierConfig."""

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import exporters.coreml  # noqa: F401  keeps coremltools from importing TensorFlow
from mvit_deploy import runtimes
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.metadata import PREFIX
from mvit_deploy.runtimes import coreml
from mvit_deploy.runtimes.coreml.package import read_specification, specification_path

HEIGHT, WIDTH = 4, 6
LABELS = ["cat", "dog", "owl"]
FORMATS = ["mlprogram", "neuralnetwork"]


class Mix(nn.Module):
    """Three values of a picture that tell channels and places apart. Shapes: (1, C, 4, 6) -> (1, 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels * HEIGHT * WIDTH, 3)
        nn.init.normal_(self.fc.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def converted(tmp_path: Path, form: str, layout: str, *, labels: list[str] | None = None) -> tuple[Path, Mix]:
    """A file as plain coremltools writes it, with the metadata that the runner needs."""
    import coremltools as ct

    channels = 1 if layout == "GRAYSCALE" else 3
    module = Mix(channels).eval()
    traced = torch.jit.trace(module, torch.ones(1, channels, HEIGHT, WIDTH), check_trace=False)
    bias = 0.25 if channels == 1 else [0.25, -0.5, 0.125]
    image = ct.ImageType(
        name="image",
        shape=(1, channels, HEIGHT, WIDTH),
        scale=1 / 64,
        bias=bias,
        color_layout=getattr(ct.colorlayout, layout),
    )
    model = ct.convert(
        traced,
        inputs=[image],
        convert_to=form,
        outputs=[ct.TensorType("logits")] if labels is None else None,
        classifier_config=None if labels is None else ct.ClassifierConfig(labels),
        skip_model_load=True,
        **({"compute_precision": ct.precision.FLOAT32} if form == "mlprogram" else {}),
    )
    entries = {"color_order": "RGB" if layout == "GRAYSCALE" else layout, "value_range": "[0.0, 1.0]"}
    if labels is not None:
        entries["labels"] = str(labels).replace("'", '"')
    for key, value in entries.items():
        model.user_defined_metadata[PREFIX + key] = value
    path = tmp_path / ("m.mlpackage" if form == "mlprogram" else "m.mlmodel")
    model.save(str(path))
    return path, module


def pictures(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def expected(module: Mix, pixels: np.ndarray, layout: str) -> np.ndarray:
    """By Apple's rule: channels in the declared order, then pixel * scale + bias."""
    if layout == "GRAYSCALE":
        weights = np.array([299, 587, 114])
        channels = np.round((pixels @ weights) / 1000)[..., None]  # ITU-R 601-2, as an 8-bit picture
        bias = np.array([0.25])
    else:
        channels, bias = pixels[..., ::-1] if layout == "BGR" else pixels, np.array([0.25, -0.5, 0.125])
    values = channels / 64 + bias
    with torch.no_grad():
        return module(torch.from_numpy(values.transpose(0, 3, 1, 2).copy()).float()).numpy()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("layout", ["RGB", "BGR"])
def test_a_picture_arrives_ordered_scaled_and_shifted_as_the_file_declares(
    tmp_path: Path, form: str, layout: str
) -> None:
    path, module = converted(tmp_path, form, layout)

    runner = runtimes.open_file(path)
    found = next(v for v in runner.run(pictures()).values() if v.dtype.kind == "f")

    assert runner.interface.inputs[0].color_order == layout
    np.testing.assert_allclose(found, expected(module, pictures(), layout), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMATS)
def test_a_gray_picture_is_the_luma(tmp_path: Path, form: str) -> None:
    """Within the rounding of one 8-bit step, which is 1/64 of a unit here."""
    path, module = converted(tmp_path, form, "GRAYSCALE")

    found = next(v for v in runtimes.open_file(path).run(pictures()).values() if v.dtype.kind == "f")

    step = module.fc.weight.abs().sum(1).max().item() / 64
    np.testing.assert_allclose(found, expected(module, pictures(), "GRAYSCALE"), atol=step)


@pytest.mark.parametrize("form", FORMATS)
def test_a_classifier_gives_the_label_of_the_largest_value_and_each_labels_value(tmp_path: Path, form: str) -> None:
    path, module = converted(tmp_path, form, "RGB", labels=LABELS)

    outputs = runtimes.open_file(path).run(pictures())

    logits = expected(module, pictures(), "RGB")
    label = next(v for v in outputs.values() if v.dtype == object)
    values = next(v for v in outputs.values() if v.dtype != object)
    assert list(label) == [LABELS[i] for i in logits.argmax(1)]
    np.testing.assert_allclose(values, logits, rtol=1e-4, atol=1e-4)  # classify takes whatever it is given


@pytest.mark.parametrize("form", FORMATS)
def test_probabilities_follow_their_labels_when_a_file_shuffles_them(tmp_path: Path, form: str) -> None:
    """A shuffled list of classes is found by the numbers, not by comparing lists."""
    path, module = converted(tmp_path, form, "RGB", labels=LABELS)
    shuffle_classes(path)

    outputs = runtimes.open_file(path).run(pictures())

    values = next(v for v in outputs.values() if v.dtype != object)
    logits = expected(module, pictures(), "RGB")
    np.testing.assert_allclose(values, logits[:, [2, 0, 1]], rtol=1e-4, atol=1e-4)


def shuffle_classes(path: Path) -> None:
    """cat, dog, owl become dog, owl, cat."""
    spec = read_specification(path)
    if spec.WhichOneof("Type") == "neuralNetworkClassifier":
        names = spec.neuralNetworkClassifier.stringClassLabels.vector
        names[:] = [*names[1:], names[0]]
    else:
        (function,) = spec.mlProgram.functions.values()
        (block,) = function.block_specializations.values()
        classify = next(o for o in block.operations if o.type == "classify")
        bound = classify.inputs["classes"].arguments[0]
        values = bound.value.immediateValue.list.values
        if bound.WhichOneof("binding") == "name":
            const = next(o for o in block.operations if o.outputs[0].name == bound.name)
            values = const.attributes["val"].immediateValue.list.values
        texts = [v.immediateValue.tensor.strings.values[0] for v in values]
        for value, text in zip(values, [*texts[1:], texts[0]], strict=True):
            value.immediateValue.tensor.strings.values[0] = text
    specification_path(path).write_bytes(spec.SerializeToString())


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    path, _ = converted(tmp_path, "mlprogram", "RGB")

    with pytest.raises(DamagedFileError, match="declared"):
        runtimes.open_file(path).run(np.zeros((1, HEIGHT + 1, WIDTH, 3), np.uint8))


def test_off_a_mac_the_evaluator_says_that_it_is_not_apples_runtime(tmp_path: Path) -> None:
    path, _ = converted(tmp_path, "mlprogram", "RGB")

    runner = runtimes.open_file(path)

    if platform.system() == "Darwin":
        pytest.skip("this is a Mac: Apple's runtime judges")
    assert runner.kind == "evaluator"
    assert "program evaluator, not Apple's runtime" in runner.name


def test_on_a_mac_apples_runtime_judges_and_the_evaluator_is_compared_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = converted(tmp_path, "mlprogram", "RGB")
    evaluated = runtimes.open_file(path).run(pictures())
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(
        coreml.CoreMLRunner, "_predict", lambda self, pixels: {"logits": evaluated["logits"] * np.float32(1.5)}
    )

    runner = runtimes.open_file(path)
    outputs = runner.run(pictures())

    assert runner.kind == "runtime"
    assert runner.name == "Core ML"
    assert runner.findings(pictures(), outputs)["evaluator_rel_max"] == {"logits": pytest.approx(1 / 3, rel=1e-5)}
