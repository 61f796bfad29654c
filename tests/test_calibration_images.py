"""What a file is calibrated on and what it is judged on never share a photo, whatever the photos are called."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvit_deploy import images
from mvit_deploy.errors import UsageError
from mvit_deploy.images import LEAST_CALIBRATION, ImageSet, calibration_set, split_calibration, without
from tests.pictures import WITHOUT_IMAGES, folder_without_images

SIZE = (32, 32)
grays = st.lists(st.integers(0, 255), max_size=60)


def plain(gray: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (gray, gray, gray))


def plant(folder: Path, values: Iterable[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for place, gray in enumerate(values):
        plain(gray).save(folder / f"{place:03}.png")
    return folder


def gray_set(values: Iterable[int]) -> ImageSet:
    chosen = list(values)
    pixels = np.array(chosen, np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)
    return ImageSet(pixels, ("photo",) * len(chosen), tuple(map(str, chosen)))


def gray_of(found: ImageSet) -> list[int]:
    return sorted(found.pixels[:, 0, 0, 0].tolist())


def calibration(folder: Path, **options: object) -> tuple[ImageSet, list[str]]:
    warnings: list[str] = []
    return calibration_set(folder, SIZE, on_warning=warnings.append, **options), warnings


def test_a_digest_is_that_of_one_image_with_its_shape() -> None:
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)

    digests = ImageSet(pixels, ("photo",) * 2, ("a", "b")).digests

    assert digests == tuple(hashlib.sha256(b"3x4x3\0" + bytes(range(i, i + 36))).hexdigest() for i in (0, 36))


def test_calibration_images_are_found_at_any_depth_in_the_order_of_their_digests(tmp_path: Path) -> None:
    plant(tmp_path, range(5))
    plant(tmp_path / "a" / "b" / "c", range(5, 10))
    (tmp_path / "a" / "notes.txt").write_text("no image")

    found, warnings = calibration(tmp_path)

    assert gray_of(found) == list(range(10))
    assert list(found.digests) == sorted(found.digests)
    assert found.pixels.shape == (10, *SIZE, 3)
    assert set(found.kinds) == {"photo"}
    assert {"004.png", "a/b/c/000.png"} <= set(found.names)
    assert not warnings


def test_a_file_that_cannot_be_read_is_skipped_and_named(tmp_path: Path) -> None:
    plant(tmp_path, range(8))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    (tmp_path / "empty.png").write_bytes(b"")

    found, warnings = calibration(tmp_path)

    assert gray_of(found) == list(range(8))
    assert len(warnings) == 2
    assert "broken.jpg" in warnings[0]
    assert "empty.png" in warnings[1]


def test_copies_are_kept_once_whatever_their_name_and_format(tmp_path: Path) -> None:
    plant(tmp_path, range(9))
    shutil.copy(tmp_path / "003.png", tmp_path / "copy.png")
    plain(3).save(tmp_path / "other.bmp")

    found, warnings = calibration(tmp_path)

    assert gray_of(found) == list(range(9))
    assert len(warnings) == 1
    assert warnings[0].startswith("2 calibration images are copies of others and are left out, ")


@pytest.mark.parametrize("count", [8, 9, 13, 29, 30])
def test_a_count_keeps_that_many_spread_over_the_order(tmp_path: Path, count: int) -> None:
    everything, _ = calibration(plant(tmp_path, range(30)))

    found, warnings = calibration(tmp_path, count=count)

    places = [everything.digests.index(digest) for digest in found.digests]
    assert len(places) == count
    assert set(np.diff([*places, 30 + places[0]])) <= {30 // count, -(-30 // count)}
    assert np.array_equal(found.pixels, everything.pixels[places])
    assert not warnings


def test_a_count_above_what_is_there_takes_all_and_says_so(tmp_path: Path) -> None:
    found, warnings = calibration(plant(tmp_path, range(10)), count=500)

    assert len(found.names) == 10
    assert warnings == ["--calibration-count 500: there are 10 different images, all are used"]


@pytest.mark.parametrize("count", [7, 1, 0, -3])
def test_a_count_below_8_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match=f"--calibration-count {count}: .*at least 8"):
        calibration(plant(tmp_path, range(10)), count=count)


def test_fewer_than_8_are_refused_with_what_was_found(tmp_path: Path) -> None:
    """Copies and broken files do not make up the number."""
    plant(tmp_path, [*range(7), 0, 1, 2])
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("text")

    with pytest.raises(UsageError, match=r"7 different .* 2 skipped; .*at least 8 .*; 100 or more"):
        calibration(tmp_path)


@pytest.mark.parametrize("kind", WITHOUT_IMAGES)
def test_a_folder_without_images_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    folder = folder_without_images(tmp_path / "photos", kind)

    with pytest.raises(UsageError) as caught:
        calibration(folder)

    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("count", "held_out"), [(0, 0), (4, 0), (5, 1), (8, 1), (9, 1), (10, 2), (99, 19), (100, 20), (250, 50)]
)
def test_every_fifth_is_held_out(count: int, held_out: int) -> None:
    shuffled = gray_set(np.random.default_rng(0).permutation(count) % 256)

    calibrated, kept = split_calibration(shuffled)

    digests = sorted(shuffled.digests)
    assert kept.digests == tuple(digests[4::5])
    assert len(kept.names) == held_out
    assert len(calibrated.names) == count - held_out


@given(st.sets(st.integers(0, 255), min_size=LEAST_CALIBRATION))
def test_a_split_loses_nothing_and_shares_nothing(values: set[int]) -> None:
    calibrated, held_out = split_calibration(gray_set(values))

    assert not set(calibrated.digests) & set(held_out.digests)
    assert sorted(gray_of(calibrated) + gray_of(held_out)) == sorted(values)
    assert len(held_out.names) == len(values) // 5 >= 1


@given(grays, grays)
def test_what_calibrated_never_judges(verifying: list[int], calibrating: list[int]) -> None:
    images_, others = gray_set(verifying), gray_set(calibrating)
    rest = [value for value in verifying if value not in calibrating]

    if rest:
        found = without(images_, others)
        assert not set(found.digests) & set(others.digests)
        assert list(found.names) == [str(value) for value in rest]
    else:
        with pytest.raises(UsageError, match=f"each of the {len(verifying)} verification images"):
            without(images_, others)


@given(grays, grays, st.none() | st.integers(8, 20))
@settings(deadline=None, max_examples=15)
def test_whatever_the_folders_are_the_sets_share_no_photo(
    tmp_path_factory: pytest.TempPathFactory, first: list[int], second: list[int], count: int | None
) -> None:
    """The calibration folder lies in the verification folder, as where a data set is given for both."""
    outer = plant(tmp_path_factory.mktemp("photos"), [*second, 0])
    inner = plant(outer / "inner", [*first, *range(8)])

    calibrated, held_out = split_calibration(calibration_set(inner, SIZE, count=count, on_warning=lambda line: None))
    try:
        judged = without(images.load_folder(outer, SIZE), calibrated)
    except UsageError:
        judged = held_out

    assert len(set(calibrated.digests)) == len(calibrated.names)
    assert not set(calibrated.digests) & (set(held_out.digests) | set(judged.digests))
    assert judged.names


def test_quantized_files_are_judged_on_photos_of_their_own_and_the_built_in_ones_are_reported() -> None:
    builtin = images.builtin_photos(SIZE)
    photos = ImageSet(np.full((3, *SIZE, 3), 7, np.uint8), ("any",) * 3, ("a", "b", "c"))

    found = images.quantized_verification_set(SIZE, seed=0, photos=photos)

    rest = ("builtin",) * len(builtin.names) + ("noise",) * images.NOISE_COUNT + ("extreme",) * 3
    assert found.kinds == ("photo",) * 3 + rest
    assert found.names[:4] == ("a", "b", "c", builtin.names[0])
    assert np.array_equal(found.pixels[3 : 3 + len(builtin.names)], builtin.pixels)


def test_without_photos_of_their_own_the_built_in_ones_judge() -> None:
    assert images.quantized_verification_set(SIZE, seed=3, photos=None).sha256 == (
        images.verification_set(SIZE, seed=3).sha256
    )
    assert images.quantized_verification_set(SIZE, seed=3, photos=None).kinds.count("photo") >= 8


def test_a_folder_of_real_photos(flowers: Path) -> None:
    found, warnings = calibration(flowers / "calibration")
    calibrated, held_out = split_calibration(found)

    assert (len(calibrated.names), len(held_out.names), warnings) == (80, 20, [])
    with pytest.raises(UsageError, match="each of the 100"):
        without(images.load_folder(flowers / "calibration", SIZE), found)
