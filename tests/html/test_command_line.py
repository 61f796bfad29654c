"""--html of mvit-export and mvit-verify, from the words to the page."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mvit_deploy import golden
from mvit_deploy.cli.export import main as export
from mvit_deploy.cli.verify import main as verify
from mvit_deploy.html import verified
from mvit_deploy.report import Report
from mvit_deploy.subject import Options
from tests.conftest import LABELS
from tests.html.made import Page

MISMATCH, USAGE, INTERRUPTED = 1, 2, 130
HOSTILE = "<script>alert(1)</script>"
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with its files: a label and an author that would be a script if they were not escaped."""
    folder = tmp_path_factory.mktemp("html")
    (folder / "labels.txt").write_text("\n".join([HOSTILE, *LABELS[1:]]), encoding="utf-8")
    size = ["--mode", "xxs", "--image-size", "64", "--num-classes", "5", "--labels", str(folder / "labels.txt")]
    words = ["--target", "onnx,tflite", "--output", str(folder / "out"), "--html", str(folder / "new" / "page.html")]
    assert export([*size, *words, "--author", HOSTILE]) == 0
    return folder


def test_an_export_writes_one_page_about_all_of_its_files(folder: Path) -> None:
    text = (folder / "new" / "page.html").read_text(encoding="utf-8")
    page = Page(text)

    assert page.sections == ["verdicts", "pictures", "stages", "operators", "costs"]
    for written in sorted((folder / "out").glob("*.report.json")):
        content = json.loads(written.read_text(encoding="utf-8"))
        assert Path(content["artifact"]["path"]).name in page.joined
        assert f"{content['artifact']['size_bytes'] / 1e6:.2f} MB" in page.text
        assert content["verification"]["verdict"] == "match"
    assert "All 2 files match PyTorch." in page.text
    assert page.count("script") == 0
    assert HOSTILE in page.text
    links = [value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")]
    assert links
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert not re.search(r"https?://|@import|url\(", text)
    assert not list((folder / "new").glob(".*"))


def test_a_second_judgement_writes_a_page_with_the_claims(folder: Path, tmp_path: Path) -> None:
    files = [str(path) for path in sorted((folder / "out").iterdir()) if path.suffix in (".onnx", ".tflite")]

    assert verify([*files, "--html", str(tmp_path / "again.html")]) == 0
    page = Page((tmp_path / "again.html").read_text(encoding="utf-8"))
    assert page.sections == ["verdicts", "pictures", "stages", "operators", "costs", "claims"]
    assert page.text.count("no claim is broken") == 2


def test_a_file_that_fails_is_on_the_page_with_the_reason(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.onnx")
    file.write_bytes(file.read_bytes()[:-1000])

    assert verify([str(file), "--html", str(tmp_path / "page.html")]) == MISMATCH
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "✗ mismatch The file does not match." in page.text
    assert "claims no longer hold" in page.text


@pytest.mark.parametrize("command", [export, verify])
@pytest.mark.parametrize("name", ["page.txt", "page", "folder.html", "file/page.html"])
def test_a_path_that_takes_no_page_is_found_before_anything_is_done(
    command: object, name: str, tmp_path: Path, capfd: Captured
) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").touch()
    words = (
        ["--mode", "xxs", "--target", "onnx", "--output", str(tmp_path / "out")] if command is export else ["x.onnx"]
    )

    assert command([*words, "--html", str(tmp_path / name)]) == USAGE
    assert "error: " in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_breaks_off_leaves_no_older_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Captured
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mvit_deploy.pipeline.run", broken)
    (tmp_path / "page.html").write_text("all is well", encoding="utf-8")
    words = ["--mode", "xxs", "--target", "onnx", "--image-size", "64", "--num-classes", "5"]

    assert export([*words, "--output", str(tmp_path / "out"), "--html", str(tmp_path / "page.html")]) == INTERRUPTED
    assert not (tmp_path / "page.html").exists()


def reports_of(folder: Path) -> list[Report]:
    """As mvit-verify gives them where golden outputs judge."""
    found = []
    for path in sorted((folder / "out").glob("*.report.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        content["verification"]["reference"] = "golden"
        found.append(Report(path.with_name(path.name.removesuffix(".report.json")), 0, content))
    return found


def test_golden_images_are_shown_where_golden_outputs_judged(folder: Path) -> None:
    for each in verified.of_reports(reports_of(folder), Options()):
        kept = golden.read(golden.golden_path(each.path), _samples(each.path))

        assert each.inputs.sha256 == kept.inputs.sha256
        assert each.source is not None


def _samples(path: Path) -> object:
    from mvit_deploy.subject import read_subject

    return read_subject(path, Options()).certificate.samples


def test_without_pytorch_there_are_pictures_and_no_stages(folder: Path, tmp_path: Path) -> None:
    """A machine that only judges has NumPy, a runtime, and what lies beside the file."""
    (file,) = (folder / "out").glob("*.onnx")
    page = tmp_path / "page.html"
    code = (
        "import sys; sys.modules['torch'] = None; from mvit_deploy.cli.verify import main;"
        f"sys.exit(main([{str(file)!r}, '--html', {str(page)!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert Page(page.read_text(encoding="utf-8")).sections == ["verdicts", "pictures", "operators", "costs", "claims"]


def test_a_page_alone_imports_no_heavy_library() -> None:
    heavy = ["torch", "tensorflow", "coremltools", "matplotlib", "onnxruntime", "ai_edge_litert"]
    code = f"import sys, mvit_deploy.html; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
