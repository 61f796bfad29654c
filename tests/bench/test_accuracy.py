"""Accuracy on photos in folders that are named as labels."""

import re
from pathlib import Path

import pytest
from PIL import Image

from mvit_deploy.bench import accuracy
from mvit_deploy.bench.accuracy import Accuracy
from mvit_deploy.errors import UsageError
from tests.bench.players import COLOURS, colourist


def paint(folder: Path, *names: str) -> Path:
    """Plain images; the file's name, up to its first dash, is its colour."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), path.stem.split("-")[0]).save(path)
    return folder


def measured(folder: Path, *subjects: object) -> list[Accuracy]:
    return accuracy.measure(list(subjects), accuracy.find_photos(folder), lambda detail: None)


def test_a_photo_is_right_when_its_folder_is_the_first_class(tmp_path: Path) -> None:
    """Three of four: the blue one lies in the wrong folder."""
    folder = paint(tmp_path, "red/red.png", "red/blue.png", "green/deep/green-1.png", "blue/blue-2.png")

    (found,) = measured(folder, colourist())

    assert (found.right, found.count, found.top1) == (3, 4, 0.75)


def test_photos_in_no_folder_or_in_one_of_another_name_do_not_count(tmp_path: Path) -> None:
    folder = paint(tmp_path, "red/red.png", "yellow/yellow.png", "green.png")

    assert measured(folder, colourist()) == [Accuracy(1, 1)]


def test_each_file_is_held_to_its_own_labels_and_size(tmp_path: Path) -> None:
    folder = paint(tmp_path, "red/red.png", "green/green.png", "blue/blue.png")
    swapped = colourist(labels=("green", "red", "blue"), size=(64, 32))

    found = measured(folder, colourist(), swapped)

    assert found == [Accuracy(3, 3), Accuracy(1, 3)]


def test_more_photos_than_a_batch_are_all_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "BATCH", 2)
    folder = paint(tmp_path, *(f"{colour}/{colour}-{i}.png" for colour in COLOURS for i in range(3)))

    assert measured(folder, colourist()) == [Accuracy(9, 9)]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"labels": None}, "there are no labels in the file"),
        ({"labels": ("cat", "dog", "cow")}, "named as a label"),
        ({"labels": COLOURS, "shape": (1, 5)}, r"\(1, 5\) is not one number"),
        ({"labels": COLOURS, "shape": (1, 8, 8, 3)}, "is not one number"),
    ],
)
def test_a_file_that_cannot_be_judged_says_why_and_the_others_are_judged(
    tmp_path: Path, options: dict[str, object], word: str
) -> None:
    folder = paint(tmp_path, "red/red.png")

    unfit, fit = measured(folder, colourist(**options), colourist())

    assert unfit.top1 is None
    assert re.search(word, unfit.remark)
    assert fit == Accuracy(1, 1)


def test_a_folder_without_sub_folders_gives_no_accuracy(tmp_path: Path) -> None:
    (found,) = measured(paint(tmp_path, "red.png"), colourist())

    assert found.top1 is None
    assert "no sub-folder" in found.remark


def test_a_missing_or_empty_folder_and_a_broken_photo_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        accuracy.find_photos(tmp_path / "nowhere")
    with pytest.raises(UsageError):
        accuracy.find_photos(tmp_path)

    paint(tmp_path, "red/red.png")
    (tmp_path / "red" / "broken.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"broken\.png"):
        measured(tmp_path, colourist())
