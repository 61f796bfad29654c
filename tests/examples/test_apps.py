"""The Swift and Kotlin of examples/ios and examples/android: every name in them is one that an exported file has."""

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tree_sitter
import tree_sitter_kotlin
import tree_sitter_swift
from ai_edge_litert.interpreter import Interpreter

import mvit_deploy
from mvit_deploy.runtimes.coreml.package import read_specification
from tests.conftest import LABELS, PHOTOS, sensitive
from tests.examples.kotlin_stubs import MAIN, STUBS
from tests.examples.scripts import EXAMPLES, script

ANDROID, IOS = EXAMPLES / "android", EXAMPLES / "ios"
KOTLIN, SWIFT = ANDROID / "Contract.kt", IOS / "Sources" / "MobileViT" / "Contract.swift"
SOURCES = [*sorted(ANDROID.glob("*.kt")), *sorted(IOS.rglob("*.swift"))]
LANGUAGES = {".kt": tree_sitter_kotlin, ".swift": tree_sitter_swift}
CONSTANT = re.compile(r'^\s*(?:const val|public static let) (\w+) = (?:"(.*)"|(\d+)f?)$', re.MULTILINE)
DECODABLE = re.compile(r"struct \w+: Decodable \{(.*?)\n\s*\}", re.DOTALL)
NAME = re.compile(r"[\w.]+")
COMPILER = "kotlin-compiler@2.4.20"
make = script("fixtures/make.py")
Constants = dict[str, str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the README of both examples exports. Names alone are looked at, so nothing is verified."""
    folder, model = tmp_path_factory.mktemp("exported"), sensitive("xxs", len(LABELS))
    found = mvit_deploy.export(model, target="coreml,tflite", labels=LABELS, output=folder, verify=False)
    return {report.path.suffix: report.path for report in found}


@pytest.fixture(scope="module")
def fixtures(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What make.py makes of each file."""
    folders = {suffix: tmp_path_factory.mktemp("fixture") for suffix in files}
    for suffix, path in files.items():
        make.make(path, PHOTOS / "bee.jpg", folders[suffix])
    return folders


def constants(text: str) -> Constants:
    """Names and values of a Contract. What it declares in another form than the others is an error."""
    found = {name: word or number for name, word, number in CONSTANT.findall(text)}
    assert len(found) == len(re.findall(r"\b(?:const val|static let)\b", text))
    return found


def in_tflite(path: Path, fixture: Path) -> Constants:
    """What a Contract.kt has to say, read with LiteRT and the standard library."""
    interpreter = Interpreter(str(path))
    ((signature, names),) = interpreter.get_signature_list().items()
    (detail,) = interpreter.get_input_details()
    _, height, width, _ = map(str, detail["shape"])
    assert detail["dtype"] == np.float32
    with zipfile.ZipFile(path) as archive:
        (label_file,) = archive.namelist()
        assert archive.read(label_file).decode().splitlines() == list(LABELS)
    said = json.loads((fixture / "fixture.json").read_text(encoding="utf-8"))
    covered = said["preprocessing"]["covers"]
    assert (said["input"]["layout"], said["input"]["color_order"]) == ("NHWC", "RGB")
    return {
        "MODEL": path.name,
        "SIGNATURE": signature,
        "INPUT": names["inputs"][0],
        "OUTPUT": names["outputs"][0],
        "LABEL_FILE": label_file,
        "HEIGHT": height,
        "WIDTH": width,
        "COVERED_HEIGHT": str(covered[0]),
        "COVERED_WIDTH": str(covered[1]),
        "LOW": f"{said['input']['range'][0]:g}",
        "HIGH": f"{said['input']['range'][1]:g}",
    }


def in_classifier(path: Path) -> Constants:
    """What a Contract.swift has to say of a classifier, read from the specification's own fields."""
    description = read_specification(path).description
    (key,) = [key for key in description.metadata.userDefined if key.endswith("preprocessing")]
    return {
        "input": description.input[0].name,
        "label": description.predictedFeatureName,
        "probabilities": description.predictedProbabilitiesName,
        "preprocessing": key,
    }


def in_segmenter_and_detector(folder: Path) -> Constants:
    options = {"target": "coreml", "num_classes": 4, "image_size": 64, "output": folder, "verify": False}
    (segmenter,) = mvit_deploy.export("xxs", task="segmentation", **options)
    (detector,) = mvit_deploy.export("xxs", task="detection", nms=True, **options)
    (map_,) = read_specification(segmenter.path).description.output
    optional = [each.name for each in read_specification(detector.path).description.input if each.type.isOptional]
    found = {"map": map_.name}
    return found | {name: name for name in optional}


def differing(said: Constants, there: Constants) -> list[str]:
    return sorted(name for name in said.keys() | there.keys() if said.get(name) != there.get(name))


def literals(path: Path) -> Iterator[str]:
    """String literals that are names, not sentences."""
    for text in re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text(encoding="utf-8")):
        if NAME.fullmatch(text):
            yield text


def words_in(value: object) -> Iterator[str]:
    """Every key and every string of a JSON value."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from words_in(each)
    if isinstance(value, str):
        yield value


def faulty(text: str, suffix: str) -> bool:
    language = tree_sitter.Language(LANGUAGES[suffix].language())
    return tree_sitter.Parser(language).parse(text.encode()).root_node.has_error


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_every_source_is_sound_swift_or_kotlin(path: Path) -> None:
    """By the grammar alone: types and libraries are checked by the compiler test below, for Kotlin."""
    text = path.read_text(encoding="utf-8")
    last = text.rindex(")" if path.name == "Package.swift" else "}")

    assert not faulty(text, path.suffix)
    assert faulty(text[:last], path.suffix)
    assert max(map(len, text.splitlines())) <= 120


def test_every_constant_of_kotlin_is_that_of_the_exported_file(
    files: dict[str, Path], fixtures: dict[str, Path]
) -> None:
    there = in_tflite(files[".tflite"], fixtures[".tflite"])
    text = KOTLIN.read_text(encoding="utf-8")

    assert differing(constants(text), there) == []
    for name, value in constants(text).items():
        wrong = re.sub(rf'({name} = "?){re.escape(value)}', rf"\g<1>{value}9", text)
        assert differing(constants(wrong), there) == [name]


def test_every_constant_of_swift_is_that_of_an_exported_file(files: dict[str, Path]) -> None:
    there = in_classifier(files[".mlpackage"])
    said = constants(SWIFT.read_text(encoding="utf-8"))

    assert differing({name: said[name] for name in there}, there) == []
    assert set(said) - set(there) == {"map", "iouThreshold", "confidenceThreshold"}


@pytest.mark.slow
def test_the_constants_of_swift_for_other_tasks_are_those_of_exported_files(tmp_path: Path) -> None:
    there = in_segmenter_and_detector(tmp_path)
    said = constants(SWIFT.read_text(encoding="utf-8"))

    assert {name: said[name] for name in ("map", "iouThreshold", "confidenceThreshold")} == there


def test_every_constant_is_used() -> None:
    for contract in (KOTLIN, SWIFT):
        rest = "".join(path.read_text(encoding="utf-8") for path in SOURCES if path.suffix == contract.suffix)
        for name in constants(contract.read_text(encoding="utf-8")):
            assert f"Contract.{name}" in rest, name


def test_other_names_in_kotlin_are_those_of_the_fixture(fixtures: dict[str, Path]) -> None:
    known = set(words_in(json.loads((fixtures[".tflite"] / "fixture.json").read_text(encoding="utf-8"))))
    known |= {path.name for path in fixtures[".tflite"].iterdir()}
    used = {word for path in ANDROID.glob("*.kt") if path != KOTLIN for word in literals(path)}

    assert used - known == set()
    assert {"covers", "expected", "probability", "fixture.json"} <= used


def test_other_names_in_swift_are_those_of_the_fixture_and_the_metadata(
    files: dict[str, Path], fixtures: dict[str, Path]
) -> None:
    """A Decodable names the keys of its JSON by its own properties."""
    said = json.loads((fixtures[".mlpackage"] / "fixture.json").read_text(encoding="utf-8"))
    key = constants(SWIFT.read_text(encoding="utf-8"))["preprocessing"]
    how = json.loads(read_specification(files[".mlpackage"]).description.metadata.userDefined[key])
    known = set(words_in(said)) | {path.name for path in fixtures[".mlpackage"].iterdir()}
    known |= set(re.findall(r"MVIT_\w+", (IOS / "README.md").read_text(encoding="utf-8")))
    for path in (IOS / "Sources" / "MobileViT" / "PhotoModel.swift", *IOS.glob("Tests/**/*.swift")):
        text = path.read_text(encoding="utf-8")
        members = {name for block in DECODABLE.findall(text) for name in re.findall(r"let (\w+):", block)}

        assert members
        assert members <= (set(how) if path.name == "PhotoModel.swift" else set(words_in(said)))
        assert set(literals(path)) <= known
    assert said["tensor"] is None  # Core ML takes the pixels


@pytest.mark.parametrize("folder", [ANDROID, IOS], ids=lambda folder: folder.name)
def test_readmes_name_files_that_are_there(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")

    for path in (path for path in SOURCES if path.is_relative_to(folder)):
        assert f"`{path.name}`" in text
    for command in re.findall(r"python (examples/\S+)", text):
        assert (EXAMPLES.parent / command).is_file()


@pytest.fixture(scope="session")
def kotlinc(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The Kotlin compiler: KOTLINC, or the one that npm has."""
    if "KOTLINC" in os.environ:
        return [os.environ["KOTLINC"]]
    if shutil.which("npm") is None or shutil.which("java") is None:
        pytest.skip("no Kotlin compiler: neither KOTLINC, nor npm and java to take one from the registry")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, COMPILER]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if result.returncode:
        pytest.skip(f"no Kotlin compiler: npm cannot install {COMPILER}: {result.stderr.strip()[:200]}")
    return ["bash", str(folder / "node_modules" / "kotlin-compiler" / "bin" / "kotlinc-jvm")]


@pytest.mark.slow
def test_kotlin_compiles_against_the_documented_libraries_and_prepares_the_photo(
    kotlinc: list[str], files: dict[str, Path], fixtures: dict[str, Path], tmp_path: Path
) -> None:
    """The preprocessing needs no Android: it runs here, and is at most a rounding away from the expected tensor."""
    for package, text in STUBS.items():
        (tmp_path / f"{package}.kt").write_text(f"package {package}\n{text}", encoding="utf-8")
    (tmp_path / "Main.kt").write_text(MAIN, encoding="utf-8")
    sources = [*ANDROID.glob("*.kt"), *tmp_path.glob("*.kt")]
    compiled = subprocess.run(
        [*kotlinc, *map(str, sources), "-include-runtime", "-d", str(tmp_path / "app.jar")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr

    photo = fixtures[".tflite"] / "photo.png"
    command = ["java", "-cp", str(tmp_path / "app.jar"), "mobilevit.MainKt", str(photo), str(files[".tflite"])]
    ran = subprocess.run(command, capture_output=True, check=True, timeout=120)

    found = np.frombuffer(ran.stdout, "<f4")
    expected = np.fromfile(fixtures[".tflite"] / "expected_tensor.bin", "<f4")
    np.testing.assert_allclose(found, expected, atol=1.01 / 255)
    assert np.mean(found != expected) < 0.02
    assert ran.stderr.decode().splitlines() == list(LABELS)
