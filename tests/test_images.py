"""Resizing, and the sets on which files are calibrated and judged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvit_deploy import images
from mvit_deploy.errors import UsageError
from mvit_deploy.preprocessing import apply
from mvit_deploy.spec import OWN

RED = (200, 30, 10)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("size", [(256, 256), (192, 320), (320, 192), (32, 32)])
@pytest.mark.parametrize("source", [(1, 1), (1000, 300), (300, 1000), (33, 64)])
def test_any_image_fills_any_size(size: tuple[int, int], source: tuple[int, int]) -> None:
    pixels = apply(Image.new("RGB", source, RED), OWN, size)

    assert pixels.shape == (*size, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == RED).all()


def test_the_short_side_goes_to_288_and_the_centre_256_is_kept() -> None:
    """The specification's preprocessing, by Pillow itself."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)

    expected = Image.fromarray(noise).resize((384, 288), Image.Resampling.BILINEAR).crop((64, 16, 320, 272))

    assert np.array_equal(apply(Image.fromarray(noise), OWN, (256, 256)), np.asarray(expected))


@pytest.mark.parametrize(("width", "height"), [(1, 60_000), (60_000, 1), (3, 50_000)])
def test_a_strip_does_not_grow_without_bound(width: int, height: int) -> None:
    """288 / 1 times 60000 pixels would be 17 million rows."""
    strip = Image.new("RGB", (width, height), (9, 9, 9))
    strip.paste(RED, ((width - 5) // 2, (height - 5) // 2, (width + 5) // 2 + 1, (height + 5) // 2 + 1))

    pixels = apply(strip, OWN, (256, 256))

    assert pixels.shape == (256, 256, 3)
    assert (pixels[128, 128] == RED).all()


@pytest.mark.parametrize("length", [99, 100])
def test_the_middle_of_a_strip_is_what_resizing_all_of_it_gives(length: int) -> None:
    strip = Image.fromarray(np.random.default_rng(0).integers(0, 256, (length, 1, 3), dtype=np.uint8))
    top = (length * 36 - 32) // 2

    whole = strip.resize((36, length * 36), Image.Resampling.BILINEAR).crop((2, top, 34, top + 32))

    assert np.array_equal(apply(strip, OWN, (32, 32)), np.asarray(whole))


def test_the_verification_set_has_photos_noise_and_extremes() -> None:
    found = images.verification_set((64, 96), seed=0)

    assert found.pixels.shape[1:] == (64, 96, 3)
    assert found.kinds.count("photo") >= 8
    assert found.kinds.count("noise") >= 3
    assert {"all 0", "all 255", "checkerboard"} <= set(found.names)
    assert len(np.unique(found.pixels[found.names.index("checkerboard")])) == 2


def test_noise_depends_on_the_seed_alone_and_seeds_differ() -> None:
    first, again, other = (images.verification_set((32, 32), seed=seed) for seed in (1, 1, 9))

    assert first.sha256 == again.sha256
    assert first.sha256 != other.sha256


def test_the_digest_tells_shapes_apart() -> None:
    pixels = np.zeros((1, 32, 64, 3), np.uint8)
    wide = images.ImageSet(pixels, ("noise",), ("a",))
    high = images.ImageSet(pixels.reshape(1, 64, 32, 3), ("noise",), ("a",))

    assert wide.sha256 != high.sha256


def test_a_folder_joins_the_set_at_any_depth_in_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    save(tmp_path / "b" / "x.png", Image.new("RGB", (40, 40), RED))
    save(tmp_path / "a.jpg", Image.new("RGB", (40, 40), RED))
    (tmp_path / "notes.txt").write_text("not an image")

    found = images.verification_set((32, 32), seed=0, folder=tmp_path)

    assert found.names[-2:] == ("a.jpg", "b/x.png")
    assert found.kinds[-2:] == ("photo", "photo")


def test_a_folder_without_images_and_no_folder_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images"):
        images.list_images(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        images.list_images(tmp_path / "missing")


def test_every_built_in_photo_has_its_origin_beside_it() -> None:
    folder = Path(images.__file__).parent / "photos"
    origins = (folder / "ORIGINS.md").read_text(encoding="utf-8")

    assert all(f"| `{photo.name}` |" in origins for photo in folder.glob("*.jpg"))
    assert origins.count("| `") == len(list(folder.glob("*.jpg")))
    assert all(
        ".jpg` |" in line and ("Public domain" in line or "CC0" in line)
        for line in origins.splitlines()
        if line.startswith("| `")
    )
