"""What holds for every target, format and precision alike."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mvit_deploy
from exporters import TARGETS
from mvit_deploy import images, reference, report, runtimes, targets
from mvit_deploy.errors import ConversionError
from mvit_deploy.nn.build import randomize
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.parity import MATCH
from mvit_deploy.report import Report
from mvit_deploy.spec import Contract, Output, Settings
from tests.conftest import LABELS, SIZE, sensitive

FORMATS = [name for target in TARGETS.values() for name in target.formats]
FLOAT = [f"{name} {precision}" for name in FORMATS for precision in ("fp32", "fp16")]
QUANTIZED = [f"{name} {p}" for t in TARGETS.values() for name in t.formats for p in t.precisions if p[0] == "w"]
QUANTIZED.remove("mlmodel w8a8")  # the format has no integer activations
FILES = FLOAT + QUANTIZED


def test_every_format_and_precision_of_the_table_is_covered(labelled: dict[str, Report]) -> None:
    """A new target, format or precision fails here until the fixture has it."""
    offered = {f"{name} {p}" for t in TARGETS.values() for name in t.formats for p in t.precisions}

    assert set(labelled) == set(FILES) == offered - {"mlmodel w8a8"}


@pytest.mark.parametrize("name", FILES)
def test_every_file_matches_on_any_machine(labelled: dict[str, Report], name: str) -> None:
    found = labelled[name]

    assert (found.verdict, found.exit_code) == (MATCH, 0), found.reason


@pytest.mark.parametrize("name", FILES)
def test_the_file_says_what_it_was_asked_to_be(labelled: dict[str, Report], name: str) -> None:
    interface = runtimes.open_file(labelled[name].path).interface

    (image,) = interface.inputs
    assert image.name == "image"
    assert image.shape == ((1, 3, *SIZE) if image.layout == "NCHW" else (1, *SIZE, 3))
    assert (image.range, image.color_order) == ((0.0, 1.0), "RGB")
    assert interface.labels == LABELS
    outputs = {"onnx": {"logits"}, "tflite": {"probabilities"}}
    assert {o.name for o in interface.outputs} == outputs.get(
        name.split(maxsplit=1)[0], {"classLabel", "classLabel_probs"}
    )


@pytest.mark.parametrize("name", FILES)
def test_the_report_beside_the_file_is_the_one_returned_and_its_digest_is_the_files(
    labelled: dict[str, Report], name: str
) -> None:
    found = labelled[name]

    written = json.loads(report.report_path(found.path).read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(found.content))
    assert written["artifact"]["sha256"] == report.sha256_of(found.path)
    assert written["artifact"]["size_bytes"] == report.size_of(found.path)


@pytest.mark.parametrize("name", FLOAT)
def test_a_file_gives_the_logits_of_the_original_module(labelled: dict[str, Report], name: str) -> None:
    """Judged here with NumPy alone, not with the project's own numbers."""
    pixels = np.random.default_rng(7).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = sensitive("xxs", 5)(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).numpy()

    outputs = runtimes.open_file(labelled[name].path).run(pixels)
    if "classLabel" in outputs:  # Core ML's classifier
        assert list(outputs.pop("classLabel")) == [LABELS[i] for i in expected.argmax(1)]
    ((output, found),) = outputs.items()
    if output != "logits":
        expected = torch.from_numpy(expected).softmax(-1).numpy()

    assert np.abs(found - expected).max() / np.abs(expected).max() < (1e-5 if "fp32" in name else 3e-2)


@pytest.mark.parametrize("name", FLOAT)
def test_fp16_stores_half_the_bytes(labelled: dict[str, Report], name: str) -> None:
    form, precision = name.split()
    if precision == "fp32":
        parameters = labelled[name].content["model"]["parameters"]
        assert report.size_of(labelled[name].path) > 4 * parameters * 0.95
        return

    assert report.size_of(labelled[name].path) < 0.6 * report.size_of(labelled[f"{form} fp32"].path)


@pytest.mark.parametrize("name", FILES)
def test_no_date_and_no_path_of_the_machine_is_in_a_file(labelled: dict[str, Report], name: str) -> None:
    path = labelled[name].path
    content = b"".join(p.read_bytes() for p in ([path] if path.is_file() else sorted(path.rglob("*"))) if p.is_file())

    year = labelled[name].content["created"][:5].encode()
    assert year not in content
    for folder in {Path(mvit_deploy.__file__).parent.parent, Path.home(), path.parent}:
        assert str(folder).encode() not in content


@pytest.mark.slow
def test_a_second_run_gives_the_same_bytes(labelled: dict[str, Report], tmp_path: Path) -> None:
    options = {"labels": LABELS, "image_size": SIZE, "output": tmp_path, "precision": "fp32,fp16"}
    again = mvit_deploy.export(sensitive("xxs", 5), target="all", **options)
    again += mvit_deploy.export(sensitive("xxs", 5), target="coreml", format="mlmodel", **options)

    for second in again:
        first = labelled[f"{second.path.suffix[1:]} {second.content['artifact']['precision']}"]
        assert report.sha256_of(second.path) == report.sha256_of(first.path), second.path.name


@pytest.mark.parametrize("size", [(160, 288), pytest.param((224, 224), marks=pytest.mark.slow)])
def test_odd_maps_are_resized_in_every_file(tmp_path: Path, size: tuple[int, int]) -> None:
    """The paper's bilinear resize inside the block, where stage 5 is 7x7 or 5x9."""
    found = mvit_deploy.export(sensitive("xxs", 5), target="all", precision="fp32", image_size=size, output=tmp_path)

    assert [r.verdict for r in found] == [MATCH] * 3


@pytest.mark.parametrize("library", ["mvit_deploy", pytest.param("kornia.models.vit_mobile", marks=pytest.mark.slow)])
def test_a_users_own_sequential_around_the_backbone_exports_to_every_target(tmp_path: Path, library: str) -> None:
    """The sentence in Kornia's documentation."""
    backbone = pytest.importorskip(library).MobileViT(mode="xxs")
    model = nn.Sequential(backbone, nn.AvgPool2d(256 // 32, 1), nn.Flatten(), nn.Linear(320, 1000))
    randomize(model, seed=0).train()
    before = reference.state_sha256(model)

    found = mvit_deploy.export(model, target="all", precision="fp32", output=tmp_path)

    assert [r.verdict for r in found] == [MATCH] * 3, [r.reason for r in found]
    assert model.training
    assert reference.state_sha256(model) == before


@pytest.mark.parametrize(
    "origin",
    [
        "kornia",
        pytest.param("kornia, adaptive pool", marks=pytest.mark.slow),
        pytest.param("kornia alone", marks=pytest.mark.slow),
        "transformers",
    ],
)
def test_modules_of_other_libraries_export_to_every_target(tmp_path: Path, origin: str) -> None:
    model = foreign(origin)

    found = mvit_deploy.export(model, target="all", precision="fp32", image_size=64, output=tmp_path)

    assert [r.verdict for r in found] == [MATCH] * 3, [r.reason for r in found]
    assert all(("_kornia" in r.path.name) == ("kornia" in origin) for r in found)
    colors = {r.content["artifact"]["inputs"][0]["color_order"] for r in found}
    assert colors == ({"BGR"} if origin == "transformers" else {"RGB"})


def foreign(origin: str) -> nn.Module:
    """Another library's MobileViT with sensitive weights."""
    if origin == "transformers":
        transformers = pytest.importorskip("transformers")
        return randomize(transformers.MobileViTForImageClassification(transformers.MobileViTConfig()), seed=0)
    vit_mobile = pytest.importorskip("kornia.models.vit_mobile")
    backbone = vit_mobile.MobileViT(mode="xxs")
    if origin == "kornia alone":
        return randomize(backbone, seed=0)
    pool = nn.AdaptiveAvgPool2d(1) if "adaptive" in origin else nn.AvgPool2d(2, 1)
    return randomize(nn.Sequential(backbone, pool, nn.Flatten(), nn.Linear(320, 10)), seed=0)


def test_bgr_is_declared_and_fed(tmp_path: Path) -> None:
    """A module that takes BGR gets a file that says so; what is judged is the same photo through both."""
    found = mvit_deploy.export(sensitive("xxs", 5), target="onnx", color_order="BGR", image_size=64, output=tmp_path)
    declared = runtimes.open_file(found[0].path).interface.inputs[0]

    assert declared.color_order == "BGR"
    assert found[0].verdict == MATCH


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["xxs", "xs", "s"])
@pytest.mark.parametrize("size", [(256, 256), (224, 224), (192, 320)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("seed", [0, 1])
def test_the_whole_matrix_of_modes_and_sizes(tmp_path: Path, mode: str, size: tuple[int, int], seed: int) -> None:
    found = mvit_deploy.export(mode, target="all", precision="fp32,fp16", image_size=size, seed=seed, output=tmp_path)

    assert [r.verdict for r in found] == [MATCH] * 6, [r.reason for r in found]


def test_verification_inputs_are_the_same_for_every_target(labelled: dict[str, Report]) -> None:
    digests = {labelled[name].content["verification"]["inputs"]["sha256"] for name in FLOAT}
    quantized = {
        labelled[name].content["verification"]["inputs"]["sha256"] for name in QUANTIZED if "mlmodel" not in name
    }

    assert digests == {images.verification_set(SIZE, seed=0).sha256}
    assert len(quantized) == 1


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_report_says_what_really_is_int8(labelled: dict[str, Report], name: str) -> None:
    """Counted from the file: nearly all weights are integers, and only w8a8 computes in int8."""
    int8 = labelled[name].content["artifact"]["int8"]

    assert int8["weight_fraction"] > (
        0.1 if name.endswith("w8a8") else 0.9
    )  # a plan keeps much of random weights float
    assert (int8["int8_macs_fraction"] > 0.1) == name.endswith("w8a8")


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_file_stays_near_the_module_even_with_random_weights(
    labelled: dict[str, Report], name: str
) -> None:
    photos = labelled[name].content["verification"]["photos"]

    assert photos["sqnr_db"] > (5 if name.endswith("w8a8") else 20)


@pytest.mark.parametrize("name", [name for name in QUANTIZED if not name.endswith("w8a8")])
def test_int8_weights_take_less_than_half_the_bytes(labelled: dict[str, Report], name: str) -> None:
    float_size = report.size_of(labelled[f"{name.split(maxsplit=1)[0]} fp32"].path)

    assert report.size_of(labelled[name].path) < 0.4 * float_size


@cache
def lowered_in_float(form: str) -> tuple[object, object]:
    """An exporter and the float network that it has lowered."""
    target = next(target for target in TARGETS.values() if form in target.formats)
    exporter = targets.exporter(target)
    contract = Contract("xxs", "classification", "paper", SIZE, (Output("logits", (5,)),))
    return exporter, exporter.lower(fuse(sensitive("xxs", 5)), contract, Settings(form, min_ios=17))


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_float_module_is_not_written_under_the_name_of_a_quantized_precision(tmp_path: Path, name: str) -> None:
    """Nothing would be int8 in it."""
    form, precision = name.split()
    exporter, lowered = lowered_in_float(form)

    with pytest.raises(ConversionError, match=f"{precision} needs a QuantizedForm"):
        exporter.write(lowered, precision, tmp_path / "file")
    assert not any(tmp_path.iterdir())
