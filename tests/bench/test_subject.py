"""What a benchmark believes of a file: its report's numbers only where they are about this very file."""

import json
import shutil
from pathlib import Path

import pytest

from mvit_deploy.bench.subject import Subject, check, open_subject
from mvit_deploy.errors import DamagedFileError, UsageError
from mvit_deploy.report import Report, report_path


@pytest.fixture
def file(labelled: dict[str, Report], tmp_path: Path) -> Path:
    """A file with its report, to be spoiled."""
    path = labelled["onnx fp16"].path
    shutil.copy(report_path(path), tmp_path)
    return Path(shutil.copy(path, tmp_path))


def edit_report(file: Path, **changes: object) -> None:
    content = json.loads(report_path(file).read_text())
    report_path(file).write_text(json.dumps(content | changes))


def test_the_numbers_of_the_report_are_those_of_its_photos(file: Path) -> None:
    said = json.loads(report_path(file).read_text())

    found = open_subject(file)

    assert found.sqnr_db == said["verification"]["photos"]["sqnr_db"]
    assert (found.precision, found.target, found.remark) == ("fp16", "onnx", "")
    assert found.size_bytes == file.stat().st_size
    assert found.image_size == (64, 96)


def test_the_report_of_another_file_is_not_believed(file: Path) -> None:
    edit_report(file, artifact={"sha256": "0" * 64, "precision": "w8"})

    found = open_subject(file)

    assert found.sqnr_db is None
    assert "another file" in found.remark
    assert found.precision == "fp16"  # the file's own word


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda path: path.unlink(), "no report"),
        (lambda path: path.write_text("{"), "cannot read the report"),
        (lambda path: path.write_text('{"schema_version": 99}'), "no report of schema 1"),
    ],
)
def test_without_a_readable_report_the_sqnr_is_left_out_and_that_is_said(file: Path, spoil, word: str) -> None:
    spoil(report_path(file))

    found = open_subject(file)

    assert found.sqnr_db is None
    assert word in found.remark


@pytest.mark.parametrize("photos", [None, {"sqnr_db": None}])
def test_a_report_without_an_sqnr_on_photos_is_told_of(file: Path, photos: object) -> None:
    edit_report(file, verification={"photos": photos})

    found = open_subject(file)

    assert found.sqnr_db is None
    assert "none on photos" in found.remark


def test_a_damaged_file_is_given_back_as_what_is_wrong_with_it(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])

    found = open_subject(file)

    assert isinstance(found, DamagedFileError)
    assert not isinstance(found, Subject)


@pytest.mark.parametrize("name", ["mlpackage fp16", "mlmodel fp32"])
def test_core_ml_files_need_a_device(labelled: dict[str, Report], name: str) -> None:
    with pytest.raises(UsageError, match="needs an Apple device"):
        check([labelled["onnx fp32"].path, labelled[name].path])


def test_a_missing_file_a_folder_and_an_unknown_suffix_are_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()

    for name, word in (("x.onnx", "no file"), ("folder.onnx", "no file"), ("x.pt", "not a file of a known target")):
        with pytest.raises(UsageError, match=word):
            check([tmp_path / name])
