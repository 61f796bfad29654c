"""A verifier is judged by what it catches: whatever changes of a file, its report or its golden file breaks a claim."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

import mvit_deploy
from mvit_deploy import certificate, golden, verification
from mvit_deploy.errors import UsageError
from mvit_deploy.evidence import measured
from mvit_deploy.golden import golden_path
from mvit_deploy.html.page import render
from mvit_deploy.images import ImageSet
from mvit_deploy.parity import MATCH, MISMATCH
from mvit_deploy.report import Report, dump, report_path
from mvit_deploy.spec import Contract, Output
from mvit_deploy.verification import Expectation, Verification
from tests.conftest import SIZE, sensitive, without_library
from tests.html.made import Page

PLAIN = "onnx fp32"
FORMS = [PLAIN, "tflite fp32", "mlpackage fp16", "mlmodel fp32", "onnx w8a8", "tflite w8", "mlpackage w8a8"]
ALWAYS = ["certificate", "file", "size", "interface", "labels", "metadata", "tolerance", "verdict", "golden file",
          "golden inputs", "errors at export", "outputs"]  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with other weights, exported as the labelled one."""
    folder = tmp_path_factory.mktemp("other")
    (report,) = mvit_deploy.export(sensitive("xxs", 6), target="onnx", image_size=SIZE, output=folder)
    assert report.exit_code == 0
    return report.path


@pytest.fixture
def copy(labelled: dict[str, Report], tmp_path: Path) -> Callable[[str], Path]:
    """A file with its companions, in a folder of its own."""
    return lambda form: with_companions(labelled[form].path, tmp_path / labelled[form].path.name)


def with_companions(source: Path, target: Path) -> Path:
    for path in (lambda file: file, report_path, golden_path):
        (shutil.copytree if path(source).is_dir() else shutil.copy)(path(source), path(target))
    return target


def judged(path: Path, **options: object) -> tuple[Report, dict[str, bool | None]]:
    (found,) = mvit_deploy.verify(path, **options)
    claims = found.content["verification"]["claims"]
    assert all(claim["detail"] for claim in claims if claim["holds"] is not True)
    return found, {claim["claim"]: claim["holds"] for claim in claims}


def refused(path: Path, **options: object) -> tuple[Report, set[str]]:
    """The report on a file that is no match any more, and the claims that no longer hold; each is in the reason."""
    found, claims = judged(path, **options)
    failed = {claim for claim, holds in claims.items() if holds is False}
    assert (found.verdict, found.exit_code) == (MISMATCH, 1)
    assert all(f"{claim}: " in found.reason for claim in failed)
    return found, failed


def broken(path: Path, **options: object) -> set[str]:
    return refused(path, **options)[1]


def edited(path: Path, change: Callable[[dict], None], *, sealed: bool = False) -> Path:
    """Change a report, by hand or, sealed, by somebody who knows the digest."""
    content = json.loads(report_path(path).read_text())
    change(content)
    if sealed:
        certificate.seal(content)
    report_path(path).write_text(dump(content))
    return path


def rewritten(path: Path, change: Callable[[golden.Golden], golden.Golden]) -> Path:
    """Change a golden file, which stays readable."""
    samples = certificate.read(json.loads(report_path(path).read_text())).samples
    golden.write(golden_path(path), change(golden.read(golden_path(path), samples)))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_claim_holds_of_a_file_in_another_folder(copy: Callable[[str], Path], form: str) -> None:
    found, claims = judged(copy(form))

    assert (found.verdict, found.exit_code) == (MATCH, 0)
    assert found.content["verification"]["reference"] == "golden"
    integers = ["int8"] if "w8" in form else []
    assert {claim: holds for claim, holds in claims.items() if claim != "weights"} == dict.fromkeys(
        ALWAYS + integers, True
    )
    assert claims.get("weights") is None


def test_a_file_renamed_with_its_companions_is_the_same(labelled: dict[str, Report], tmp_path: Path) -> None:
    path = with_companions(labelled["mlpackage fp16"].path, tmp_path / "Flowers.mlpackage")

    assert judged(path)[0].verdict == MATCH


@pytest.mark.parametrize("form", [PLAIN, "tflite fp32", "mlpackage fp32", "mlmodel fp32"])
def test_a_flipped_weight_changes_the_file_and_its_outputs(copy: Callable[[str], Path], form: str) -> None:
    path = copy(form)
    inner = path if path.is_file() else path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    content = bytearray(inner.read_bytes())
    middle = len(content) // 2
    for place in range(middle, middle + 4096):  # signs and exponents of a thousand weights, wherever they start
        content[place] ^= 0x80
    inner.write_bytes(content)

    found, failed = refused(path)

    assert failed == {"file", "outputs"}
    assert found.content["verification"]["outputs"][0]["rel_max"] > 1e-2
    assert "gave other values" in found.reason


def test_one_bit_that_hardly_counts_changes_the_file(copy: Callable[[str], Path]) -> None:
    path = copy(PLAIN)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert "file" in broken(path)


def test_a_file_under_the_companions_of_another_is_caught(copy: Callable[[str], Path], other: Path) -> None:
    path = copy(PLAIN)
    shutil.copy(other, path)

    assert broken(path) >= {"file", "interface", "metadata"}


def test_a_report_of_another_file_is_caught(copy: Callable[[str], Path], other: Path) -> None:
    path = copy(PLAIN)
    shutil.copy(report_path(other), report_path(path))

    assert broken(path) >= {"file", "metadata", "golden file"}


def test_another_files_golden_outputs_are_caught(copy: Callable[[str], Path], labelled: dict[str, Report]) -> None:
    """Same images, same names and shapes; w8a8 is of other weights by its mode."""
    path = copy(PLAIN)
    shutil.copy(golden_path(labelled["onnx fp16"].path), golden_path(path))

    assert broken(path) == {"golden file", "errors at export"}


def replaced(kept: golden.Golden, **changes: object) -> golden.Golden:
    """With other images, kinds and so on."""
    return dataclasses.replace(kept, inputs=dataclasses.replace(kept.inputs, **changes))


def test_an_edited_golden_output_is_caught(copy: Callable[[str], Path]) -> None:
    def change(kept: golden.Golden) -> golden.Golden:
        return dataclasses.replace(kept, reference={"logits": np.float32(1.01) * kept.reference["logits"]})

    found, failed = refused(rewritten(copy(PLAIN), change))

    assert failed == {"golden file", "errors at export", "outputs"}
    assert "never was near PyTorch" in found.reason


def test_edited_golden_images_are_caught(copy: Callable[[str], Path]) -> None:
    path = rewritten(copy(PLAIN), lambda kept: replaced(kept, pixels=255 - kept.inputs.pixels))

    assert broken(path) == {"golden file", "golden inputs", "outputs"}


def test_photos_that_are_called_noise_are_caught(copy: Callable[[str], Path]) -> None:
    """Noise has a looser floor in half precision."""
    path = rewritten(copy("onnx fp16"), lambda kept: replaced(kept, kinds=("noise",) * 5))

    assert broken(path) >= {"golden file", "golden inputs", "outputs"}


def test_a_changed_measurement_at_export_is_caught(copy: Callable[[str], Path]) -> None:
    def change(kept: golden.Golden) -> golden.Golden:
        return dataclasses.replace(kept, measured={name: values + 1 for name, values in kept.measured.items()})

    assert broken(rewritten(copy(PLAIN), change)) == {"golden file", "errors at export"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04N."])
def test_a_golden_file_that_is_none_is_caught(copy: Callable[[str], Path], content: bytes) -> None:
    path = copy(PLAIN)
    golden_path(path).write_bytes(content)

    found, failed = refused(path)

    assert failed == {"golden file"}
    assert found.content["verification"]["outputs"] == []
    assert "no archive of golden arrays" in found.reason


def test_a_truncated_golden_file_is_caught(copy: Callable[[str], Path]) -> None:
    path = copy(PLAIN)
    golden_path(path).write_bytes(golden_path(path).read_bytes()[:-100])

    assert broken(path) == {"golden file"}


def set_to(*keys: str, value: object) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


EDITS = {  # what is changed in the report of an fp16 file -> the claim that this breaks, even with a new digest
    "sha256": (set_to("artifact", "sha256", value="0" * 64), "file"),
    "size": (set_to("artifact", "size_bytes", value=1), "size"),
    "format": (set_to("artifact", "format", value="tflite"), "interface"),
    "opset": (set_to("artifact", "opset_or_spec", value="17"), "interface"),
    "input": (lambda c: c["artifact"]["inputs"][0].update(color_order="BGR"), "interface"),
    "output": (lambda c: c["artifact"]["outputs"][0].update(name="scores"), "interface"),
    "contract's size": (set_to("certificate", "contract", "image_size", value=[96, 64]), "interface"),
    "labels": (lambda c: c["artifact"]["labels"].reverse(), "labels"),
    "contract's labels": (lambda c: c["certificate"]["contract"]["labels"].reverse(), "labels"),
    "mean": (lambda c: c["artifact"]["declared"].update(task="detection"), "metadata"),
    "precision": (set_to("artifact", "precision", value="w8"), "metadata"),
    "both precisions": (
        lambda c: (c["artifact"].update(precision="w8"), c["certificate"].update(precision="w8")),
        "metadata",
    ),
    "variant": (set_to("model", "variant", value="kornia"), "metadata"),
    "model's size": (set_to("model", "image_size", value=[96, 64]), "metadata"),
    "weights": (set_to("model", "weights", "sha256", value="0" * 64), "metadata"),
    "tolerance": (set_to("verification", "tolerance", "sqnr_db_photos", value=10.0), "tolerance"),
    "no tolerance": (set_to("verification", "tolerance", value={}), "tolerance"),
    "an output's tolerance": (
        lambda c: c["verification"]["outputs"][0]["tolerance"].update(rel_max_synthetic=1.0),
        "tolerance",
    ),
    "verdict": (set_to("verification", "verdict", value="mismatch"), "verdict"),
    "numbers": (lambda c: c["verification"]["outputs"][0]["photos"].update(sqnr_db=30.0), "verdict"),
    "no number": (lambda c: c["verification"]["outputs"][0]["photos"].update(sqnr_db=None), "verdict"),
    "no outputs": (set_to("verification", "outputs", value=[]), "verdict"),
    "errors": (lambda c: c["certificate"]["golden"]["outputs"][0].update(sqnr_db=60.0), "errors at export"),
    "golden sha256": (set_to("certificate", "sha256", "golden", value="0" * 64), "golden file"),
    "golden images": (set_to("certificate", "sha256", "golden_inputs", value="0" * 64), "golden inputs"),
    "golden names": (lambda c: c["certificate"]["golden"]["names"].reverse(), "golden inputs"),
    "golden kinds": (lambda c: c["certificate"]["golden"]["kinds"].reverse(), "golden inputs"),
}


@pytest.mark.parametrize("sealed", [False, True], ids=["by hand", "with a new digest"])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_report_is_caught(copy: Callable[[str], Path], edit: str, sealed: bool) -> None:
    change, claim = EDITS[edit]
    path = edited(copy("onnx fp16"), change, sealed=sealed)

    found = broken(path)

    assert claim in found
    assert ("certificate" in found) >= (not sealed)


@pytest.mark.parametrize("key", ["command", "created", "timings_s", "tools"])
def test_what_no_other_claim_is_about_is_under_the_digest(copy: Callable[[str], Path], key: str) -> None:
    assert broken(edited(copy(PLAIN), set_to(key, value="another"))) == {"certificate"}


def places(content: object, at: tuple = ()) -> Iterator[tuple]:
    """Every place in a report at which a value stands."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield (*at, key)
        yield from places(value, (*at, key))


@pytest.mark.parametrize("sealed", [False, True], ids=["by hand", "with a new digest"])
def test_nothing_can_be_put_anywhere_in_a_report_unseen(copy: Callable[[str], Path], sealed: bool) -> None:
    """With a new digest it may be seen or not, but is never an internal error."""
    path, random = copy(PLAIN), Random(0)
    original = json.loads(report_path(path).read_text())
    everywhere = [at for at in places(original) if at[0] != "certificate" or len(at) > 1]
    for at in random.sample(everywhere, 20):
        content = json.loads(json.dumps(original))
        set_to(*at, value=random.choice([None, [], {}, "x", -1, True, [[]], {"a": []}]))(content)
        if sealed:
            certificate.seal(content)
        report_path(path).write_text(dump(content))

        try:
            (found,) = mvit_deploy.verify(path)
        except UsageError:
            continue
        assert sealed or content == original or found.verdict == MISMATCH, at


def test_a_digest_is_sha256_of_sorted_json(copy: Callable[[str], Path]) -> None:
    """As another program computes it: jq -cS 'del(.certificate.digest)', but for how numbers are written."""
    content = json.loads(report_path(copy(PLAIN)).read_text())
    digest = content["certificate"].pop("digest")

    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_int8_that_is_not_there_is_caught(copy: Callable[[str], Path]) -> None:
    change = set_to("artifact", "int8", "weight_fraction", value=1.0)

    assert broken(edited(copy("onnx w8a8"), change, sealed=True)) == {"int8"}


@pytest.mark.parametrize(
    "change",
    [
        set_to("certificate", value="sealed"),
        set_to("certificate", "version", value=2),
        set_to("certificate", "contract", value={}),
        set_to("certificate", "precision", value="fp8"),
        set_to("certificate", "golden", "samples", value={}),
        lambda c: c["certificate"]["golden"]["samples"]["logits"].update(kept=0),
        lambda c: c["certificate"]["golden"]["samples"]["logits"].update(kept=10**12),
        lambda c: c["certificate"]["contract"]["outputs"].clear(),
        lambda c: c["certificate"]["contract"].update(labels=[1, 2]),
        lambda c: c["certificate"]["contract"].update(suppression={"kept": 3}),
        lambda c: c["certificate"]["contract"].update(more=1),
    ],
)
def test_a_senseless_certificate_is_a_usage_error(copy: Callable[[str], Path], change: Callable[[dict], None]) -> None:
    with pytest.raises(UsageError, match="certificate cannot be read"):
        mvit_deploy.verify(edited(copy(PLAIN), change))


def test_a_missing_golden_file_leaves_live_pytorch(copy: Callable[[str], Path]) -> None:
    """w8a8 by its mode has random weights, which can be drawn again; a module of one's own has none to be had."""
    path = copy("onnx w8")
    golden_path(path).unlink()
    found, claims = judged(path)
    assert (found.verdict, found.content["verification"]["reference"]) == (MATCH, "weights")
    assert claims["golden file"] is None

    path = copy(PLAIN)
    golden_path(path).unlink()
    found, claims = judged(path)
    assert (found.exit_code, claims["outputs"]) == (3, None)
    assert "give --weights" in found.reason


def test_without_certificate_a_report_is_judged_by_live_pytorch(copy: Callable[[str], Path]) -> None:
    """As reports of older versions."""
    path = edited(copy("onnx w8"), lambda content: content.pop("certificate"))

    found, claims = judged(path)

    assert (found.verdict, found.content["verification"]["reference"]) == (MATCH, "weights")
    assert claims == {"file": True, "outputs": True}


def test_without_its_report_there_is_nothing_to_hold_a_file_to(copy: Callable[[str], Path]) -> None:
    path = copy(PLAIN)
    report_path(path).unlink()

    assert judged(path)[0].exit_code == 3


def test_a_package_that_was_zipped_in_passing(copy: Callable[[str], Path], tmp_path: Path) -> None:
    """Unpacked as it was it is the same file; what a Mac adds to folders, and the archive itself, are not."""
    path = copy("mlpackage fp16")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", path)
    shutil.rmtree(path)
    shutil.unpack_archive(archive, path)
    assert judged(path)[0].verdict == MATCH

    (path / "Data" / ".DS_Store").write_bytes(b"\0")
    assert broken(path) == {"file", "size"}

    shutil.rmtree(path)
    shutil.copy(archive, path)
    assert zipfile.is_zipfile(path)
    assert broken(path) >= {"file", "outputs"}


def test_live_pytorch_looks_at_the_certificate_too(copy: Callable[[str], Path]) -> None:
    path = edited(copy("onnx w8"), lambda content: content.update(command="another"))

    assert broken(path, live=True) == {"certificate"}


def test_several_files_share_nothing(copy: Callable[[str], Path]) -> None:
    sound, bad = copy("tflite fp32"), edited(copy(PLAIN), lambda content: content.update(command="another"))

    assert [found.exit_code for found in mvit_deploy.verify([sound, bad])] == [0, 1]


def test_no_library_of_training_or_conversion_is_loaded(labelled: dict[str, Report]) -> None:
    """Nor may PyTorch be there at all."""
    files = [str(labelled[form].path) for form in (PLAIN, "tflite w8", "mlpackage fp16", "mlmodel fp32")]
    heavy = ("torch", "safetensors", "tensorflow", "tf_keras", "onnx2tf", "coremltools", "matplotlib", "transformers")
    code = (
        f"import sys; from mvit_deploy.cli.verify import main; assert main({files!r}) == 0;"
        f"print([m for m in sys.modules if m.split('.')[0] in {heavy!r}])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr

    result = without_library("torch", "verify", *files)
    assert result.returncode == 0, result.stderr
    assert f"{len(ALWAYS)} of {len(ALWAYS)} claims of its report hold" in result.stderr


def test_where_pytorch_is_needed_and_missing_it_is_said(copy: Callable[[str], Path]) -> None:
    path = copy(PLAIN)
    asked = without_library("torch", "verify", "--live", path)
    assert asked.returncode == 4
    assert "pip install torch" in asked.stderr

    golden_path(path).unlink()
    left = without_library("torch", "verify", path)
    assert left.returncode == 3
    assert "there is no golden file" in " ".join(left.stderr.split())


def test_what_is_not_verified_has_golden_outputs_and_no_measurement(tmp_path: Path) -> None:
    options = {"target": "onnx", "image_size": 64, "output": tmp_path, "verify": False}
    (written,) = mvit_deploy.export(sensitive("xxs", 5), **options)
    said = written.content["certificate"]["golden"]
    assert (written.verdict, said["runtime"], said["outputs"]) == ("not_run", None, [])

    found, claims = judged(written.path)

    assert found.verdict == MATCH
    assert "errors at export" not in claims


def test_a_golden_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, kept: golden.Golden) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(golden, "write", full)

    (report,) = mvit_deploy.export(sensitive("xxs", 5), target="onnx", image_size=64, output=tmp_path)

    assert report.exit_code == 6
    assert [path.name for path in tmp_path.iterdir()] == [report.path.name + ".failed.json"]


def test_a_refused_export_removes_older_companions(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copy(PLAIN)
    monkeypatch.setattr(verification, "verify", lambda *arguments: Verification(MISMATCH, "wrong"))

    (report,) = mvit_deploy.export(sensitive("xxs", 5), target="onnx", image_size=64, output=path.parent)

    assert report.path == path
    assert [each.name for each in path.parent.iterdir()] == [path.name + ".failed.json"]


def expectation(photos: int) -> Expectation:
    kinds = ("photo",) * photos + ("noise", "extreme")
    inputs = ImageSet(np.zeros((len(kinds), 32, 32, 3), np.uint8), kinds, tuple(map(str, range(len(kinds)))))
    contract = Contract("xxs", "classification", "paper", (32, 32), (Output("logits", (2,)),))
    return Expectation(contract, "fp32", inputs, {"logits": np.ones((len(kinds), 2), np.float32)})


def test_more_photos_are_taken_until_the_verdict_is_that_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floors on pooled photos may hold on all of them and not on the first three."""

    def on_few(path: Path, expected: Expectation) -> Verification:
        enough = expected.inputs.kinds.count("photo") >= 10
        return Verification(MATCH if enough else MISMATCH, "", outputs=expected.outputs)

    monkeypatch.setattr(verification, "verify", on_few)

    found, evidence = measured(Path("x.onnx"), expectation(20), Verification(MATCH, ""))

    assert found.verdict == MATCH
    assert evidence.golden.inputs.kinds.count("photo") == 12


def test_a_file_that_gives_now_this_now_that_is_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "verify", lambda *arguments: Verification(MISMATCH, "rel_max 1 > 0.0001"))

    found, _ = measured(Path("x.onnx"), expectation(4), Verification(MATCH, ""))

    assert found.verdict == MISMATCH
    assert "run twice on the same images" in found.reason


ENDINGS = {
    "detections": {"task": "detection", "nms": True},
    "boxes": {"task": "detection"},
    "a map of classes": {"task": "segmentation", "upsample": True, "argmax": True},
    "logits of every pixel": {"task": "segmentation", "upsample": True},
}


@pytest.mark.parametrize("target", ["onnx", *(pytest.param(t, marks=pytest.mark.slow) for t in ("coreml", "tflite"))])
@pytest.mark.parametrize("ending", ENDINGS)
def test_detectors_and_segmenters_are_judged_so_too(tmp_path: Path, ending: str, target: str) -> None:
    """Of detections boxes and scores before the suppression; of large maps a part of the values."""
    options = ENDINGS[ending] | {"num_classes": 4, "image_size": SIZE, "output": tmp_path}
    (written,) = mvit_deploy.export("xxs", target=target, **options)
    assert written.exit_code == 0, written.reason

    found, claims = judged(written.path)
    assert (found.verdict, found.reason, set(claims)) == (MATCH, "", set(ALWAYS))

    def change(kept: golden.Golden) -> golden.Golden:
        return dataclasses.replace(kept, reference={name: values[::-1] for name, values in kept.reference.items()})

    assert broken(rewritten(written.path, change)) == {"golden file", "errors at export", "outputs"}


def test_a_rule_of_suppression_that_the_report_does_not_have_is_caught(tmp_path: Path) -> None:
    options = {"task": "detection", "nms": True, "num_classes": 4, "image_size": 64, "output": tmp_path}
    (written,) = mvit_deploy.export("xxs", target="onnx", **options)

    def change(content: dict) -> None:
        content["certificate"]["contract"]["suppression"]["iou_threshold"] = 0.9

    assert broken(edited(written.path, change, sealed=True)) == {"metadata"}


def test_the_plan_of_integers_is_told_again_of_a_report_that_is_whole(copy: Callable[[str], Path]) -> None:
    """Nobody measures it a second time; of an edited report nothing is taken on trust."""
    path = copy("onnx w8a8")
    said = json.loads(report_path(path).read_text())["quantization"]

    found, _ = judged(path)
    assert found.content["quantization"] == said
    assert "quantization" in Page(render([found])).sections

    edited(path, lambda content: content["quantization"]["plan"].update(keep_float=["stem"]))
    assert "quantization" not in judged(path)[0].content
