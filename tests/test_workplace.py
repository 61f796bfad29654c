"""What stands on the disk before, during and after; failures are injected."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from mvit_deploy.errors import UsageError
from mvit_deploy.workplace import check_output, check_space, remove, temporary_folder, write_text


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_temporary_folder_is_hidden_inside_the_output_folder(tmp_path: Path) -> None:
    """On the same disk, so that a rename out of it is one step."""
    with temporary_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert folder.parent == tmp_path
        assert folder.name.startswith(".")


def test_a_temporary_folder_goes_with_all_it_holds(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        (folder / "x.mlpackage" / "Data").mkdir(parents=True)
        (folder / "x.mlpackage" / "Data" / "weights.bin").write_bytes(b"1")

    assert tree(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_temporary_folder_goes_on_an_error_and_lets_it_pass(tmp_path: Path, error: type[BaseException]) -> None:
    def fail_halfway() -> None:
        with temporary_folder(tmp_path) as folder:
            (folder / "half.onnx").write_bytes(b"1")
            raise error

    with pytest.raises(error):
        fail_halfway()
    assert tree(tmp_path) == []


@pytest.mark.parametrize("older", [None, "a much longer older text"])
def test_a_text_is_written_whole_and_alone(tmp_path: Path, older: str | None) -> None:
    path = tmp_path / "r.json"
    if older is not None:
        path.write_text(older)

    write_text(path, "Ähre\n")

    assert path.read_bytes() == b"\xc3\x84hre\n"
    assert tree(tmp_path) == ["r.json"]


def test_a_text_is_whole_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(os, "replace", lambda source, final: seen.append((Path(source).read_text(), Path(final))))

    write_text(tmp_path / "r.json", "new")

    assert seen == [("new", tmp_path / "r.json")]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize("older", [None, "older"])
def test_a_text_that_cannot_be_put_in_place_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, older: str | None
) -> None:
    path = tmp_path / "r.json"
    if older is not None:
        path.write_text(older)

    def fail(*paths: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)

    with pytest.raises(type(error)):
        write_text(path, "new")
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == ({"r.json": older} if older else {})


def test_a_text_that_cannot_be_encoded_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("older")

    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "r.json", "a lone surrogate: \udcff")
    assert (tmp_path / "r.json").read_text() == "older"
    assert tree(tmp_path) == ["r.json"]


def test_an_output_folder_that_can_be_made_is_made_when_something_is_written(tmp_path: Path) -> None:
    """A run that ends before that leaves no empty folder."""
    check_output(tmp_path / "a" / "b")
    assert tree(tmp_path) == []

    with temporary_folder(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_an_output_folder_with_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"1")

    check_output(tmp_path)

    assert tree(tmp_path) == ["x.onnx"]


@pytest.mark.parametrize(("below", "reason"), [("", "is a file"), ("b", "through a file"), ("b/c", "through a file")])
def test_an_output_path_at_or_through_a_file_is_a_usage_error(tmp_path: Path, below: str, reason: str) -> None:
    (tmp_path / "x").write_bytes(b"1")

    with pytest.raises(UsageError, match=f"{reason}; give a folder"):
        check_output(tmp_path / "x" / below)
    assert tree(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"1"


@pytest.mark.parametrize("new", ["", "a", "a/b", "a/../b"])
def test_an_output_folder_in_which_no_file_can_be_made_is_a_usage_error_and_goes_if_it_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: str
) -> None:
    def refuse(*, dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    with pytest.raises(UsageError, match=f"{tmp_path / new}: Permission denied"):
        check_output(tmp_path / new)
    assert tree(tmp_path) == []
    assert tmp_path.is_dir()


@pytest.mark.parametrize("name", ["x" * 300, "nul\0", "\0/below"])
@pytest.mark.parametrize("parent", ["", "new", "new/newer"])
def test_an_output_folder_that_cannot_be_made_is_a_usage_error_and_leaves_no_parents(
    tmp_path: Path, parent: str, name: str
) -> None:
    with pytest.raises(UsageError, match="cannot write to the output folder"):
        check_output(tmp_path / parent / name)
    assert tree(tmp_path) == []


def test_what_stood_on_the_way_to_an_unusable_output_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    with pytest.raises(UsageError):
        check_output(tmp_path / "mine" / "new" / ("x" * 300))
    assert tree(tmp_path) == ["mine"]


def test_remove_takes_a_file_or_a_folder_if_it_is_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x.mlpackage" / "Data").mkdir(parents=True)
    (tmp_path / "x.mlpackage" / "Data" / "w").write_bytes(b"1")
    (tmp_path / "x.onnx").write_bytes(b"1")
    (tmp_path / "x").write_bytes(b"1")

    for name in ("x.mlpackage", "x.onnx", "missing"):
        remove(tmp_path / name)

    assert tree(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_remove_takes_a_link_and_leaves_what_it_leads_to(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / kind)

    remove(tmp_path / "link")

    assert tree(tmp_path) == ["file", "folder", "folder/kept"]


@pytest.mark.parametrize("free", [0, 1, 4096])
def test_a_full_disk_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", {tmp_path: SimpleNamespace(free=free)}.__getitem__)

    with pytest.raises(OSError, match=tmp_path.name) as caught:
        check_space(tmp_path)

    assert caught.value.errno == errno.ENOSPC


def test_a_disk_with_room_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", {tmp_path: SimpleNamespace(free=10**9)}.__getitem__)

    assert check_space(tmp_path) is None
