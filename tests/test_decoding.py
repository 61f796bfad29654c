"""Whatever lies in a folder of photos: right pixels, by hand, or one error that names the file."""

import contextlib
import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvit_deploy.decoding import decode
from mvit_deploy.errors import UsageError

RED = (200, 30, 10)
ORIENTATION, MAKE, IMAGE_LENGTH = 0x0112, 0x010F, 0x0101
# What a viewer shows of the rows 123, 456, by the EXIF standard's "0th row, 0th column" of each orientation.
UPRIGHT = {
    1: [[1, 2, 3], [4, 5, 6]],  # top, left
    2: [[3, 2, 1], [6, 5, 4]],  # top, right
    3: [[6, 5, 4], [3, 2, 1]],  # bottom, right
    4: [[4, 5, 6], [1, 2, 3]],  # bottom, left
    5: [[1, 4], [2, 5], [3, 6]],  # left, top
    6: [[4, 1], [5, 2], [6, 3]],  # right, top
    7: [[6, 3], [5, 2], [4, 1]],  # right, bottom
    8: [[3, 6], [2, 5], [1, 4]],  # left, bottom
}
SAVED_AS = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "GIF": ".gif", "WEBP": ".webp", "TIFF": ".tif", "PPM": ".ppm"}


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def first(path: Path) -> tuple[int, ...]:
    return decode(path).getpixel((0, 0))


def exif(**tags: object) -> Image.Exif:
    found = Image.Exif()
    for tag, value in tags.items():
        found[{"orientation": ORIENTATION, "make": MAKE}[tag]] = value
    return found


def noisy(file_format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


def png(width: int, height: int, depth: int, color: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG by hand. rows begin with their filter, 0. chunks: PLTE, tRNS."""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [("IHDR", head), *chunks.items(), ("IDAT", zlib.compress(rows)), ("IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name.encode() + body + struct.pack(">I", zlib.crc32(name.encode() + body))
        for name, body in parts
    )


def tiff(pixels: bytes, *, bits: int, photometric: int = 1) -> bytes:
    """A gray TIFF of one row of two pixels, little-endian."""
    tags = [(256, 2), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 1)]
    tags.append((279, len(pixels)))
    pixels += b"\0" * (-len(pixels) % 2)
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    return head + pixels + struct.pack("<H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "RGB"])
@pytest.mark.parametrize("size", [(40, 30), (1, 1)])
def test_every_mode_of_an_image_becomes_rgb(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    source = Image.new("I;16", size, 40000) if mode == "I;16" else Image.new("RGB", size, RED).convert(mode)

    decoded = decode(save(tmp_path / f"x{suffix}", source))

    assert (decoded.mode, decoded.size) == ("RGB", size)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".gif", ".webp"])
def test_gray_is_the_same_in_all_channels(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"x{suffix}", Image.new("L", (16, 16), 77), **options)

    assert first(path) == (77, 77, 77)


def test_a_phones_jpeg_with_a_second_picture_gives_the_first(tmp_path: Path) -> None:
    """MPO, as of depth and motion photos, under the name of a JPEG."""
    shown, second = Image.new("RGB", (8, 8), (255, 255, 255)), Image.new("RGB", (4, 4))
    path = tmp_path / "x.jpg"
    shown.save(path, "MPO", save_all=True, append_images=[second])

    assert (decode(path).size, first(path)) == ((8, 8), (255, 255, 255))


@pytest.mark.parametrize(("cmyk", "rgb"), [((51, 102, 0, 51), (163, 122, 204)), ((255, 0, 0, 0), (0, 255, 255))])
@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_ink_leaves_255_less_ink_times_255_less_black(
    tmp_path: Path, suffix: str, cmyk: tuple[int, ...], rgb: tuple[int, ...]
) -> None:
    """(255 - 51) (255 - 51) / 255 = 163.2. A JPEG holds the inverse of the ink, as Adobe's do, a TIFF the ink."""
    options = {"quality": 100} if suffix == ".jpg" else {}

    assert first(save(tmp_path / f"x{suffix}", Image.new("CMYK", (8, 8), cmyk), **options)) == rgb


def test_a_cmyk_jpeg_without_adobes_mark_is_read_as_one_with_it(tmp_path: Path) -> None:
    marked = save(tmp_path / "x.jpg", Image.new("CMYK", (8, 8), (51, 102, 0, 51)), quality=100).read_bytes()
    start = marked.index(b"\xff\xee\0\x0eAdobe")

    assert first(write(tmp_path / "y.jpg", marked[:start] + marked[start + 16 :])) == (163, 122, 204)


def test_adobes_ycck_is_undone_too(tmp_path: Path) -> None:
    """Neutral Cb and Cr (255 - 127) leave C = M = Y = 255 - 200 of ink: 200 * (255 - 51) / 255 = 160."""
    plain = save(tmp_path / "x.jpg", Image.new("CMYK", (8, 8), (200, 127, 127, 51)), quality=100, subsampling=0)
    content = bytearray(plain.read_bytes())
    content[content.index(b"\xff\xee\0\x0eAdobe") + 15] = 2  # the transform: 0 none, 2 YCCK

    assert first(write(tmp_path / "y.jpg", bytes(content))) == (160, 160, 160)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_keep_their_upper_8(tmp_path: Path, suffix: str, order: str) -> None:
    values = np.array([[0, 255, 256, 40000, 65535]], order)
    path = save(tmp_path / f"x{suffix}", Image.fromarray(values))

    assert np.asarray(decode(path))[0, :, 0].tolist() == [0, 0, 1, 156, 255]


def test_16_bits_of_color_keep_their_upper_8(tmp_path: Path) -> None:
    content = png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 40000, 256, 65535))

    assert first(write(tmp_path / "x.png", content)) == (156, 1, 255)


def test_a_tiff_of_12_bits_and_one_whose_white_is_zero(tmp_path: Path) -> None:
    """12 bits, packed: 0xfff is white, 0x800 is 128."""
    twelve = write(tmp_path / "x.tif", tiff(b"\xff\xf8\x00", bits=12))
    inverted = write(tmp_path / "y.tif", tiff(struct.pack("<2H", 0, 40000), bits=16, photometric=0))

    assert np.asarray(decode(twelve))[0, :, 0].tolist() == [255, 128]
    assert np.asarray(decode(inverted))[0, :, 0].tolist() == [255, 255 - 156]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_whose_white_is_not_known_are_refused(tmp_path: Path, dtype: type) -> None:
    """A float's white may be 1 or 255: a guess would calibrate on black images."""
    path = save(tmp_path / "x.tif", Image.fromarray(np.ones((4, 4), dtype)))

    with pytest.raises(UsageError, match=r"x\.tif: .*what is white is not known"):
        decode(path)


@pytest.mark.parametrize(("alpha", "rgb"), [(0, (0, 0, 0)), (128, (100, 50, 25)), (255, (200, 100, 50))])
def test_transparency_is_laid_on_black(tmp_path: Path, alpha: int, rgb: tuple[int, ...]) -> None:
    """200 * 128 / 255 = 100.4; a palette says the same by its tRNS."""
    palette = png(1, 1, 8, 3, b"\0\0", PLTE=bytes([200, 100, 50]), tRNS=bytes([alpha]))

    assert first(save(tmp_path / "x.png", Image.new("RGBA", (4, 4), (200, 100, 50, alpha)))) == rgb
    assert first(write(tmp_path / "p.png", palette)) == rgb


@pytest.mark.parametrize(
    ("depth", "color", "pixel", "key"),
    [(8, 0, bytes([200]), b"\0\xc8"), (16, 0, b"\x9c\x40", b"\x9c\x40"), (8, 2, bytes(RED), b"\0\xc8\0\x1e\0\x0a")],
)
def test_the_transparent_color_of_a_png_is_black(
    tmp_path: Path, depth: int, color: int, pixel: bytes, key: bytes
) -> None:
    """And no other: the same pixels without a key, and a key of another color, keep them."""
    plain = first(write(tmp_path / "plain.png", png(1, 1, depth, color, b"\0" + pixel)))
    other = first(write(tmp_path / "other.png", png(1, 1, depth, color, b"\0" + pixel, tRNS=b"\0\1" * (len(key) // 2))))
    keyed = first(write(tmp_path / "keyed.png", png(1, 1, depth, color, b"\0" + pixel, tRNS=key)))

    assert plain == other == (RED if color == 2 else (156,) * 3 if depth == 16 else (200,) * 3)
    assert keyed == (0, 0, 0)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_brings_an_image_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = Image.fromarray(np.array(UPRIGHT[1], np.uint8))
    path = save(tmp_path / f"x{suffix}", stored, exif=exif(orientation=orientation))

    assert np.asarray(decode(path))[..., 0].tolist() == UPRIGHT[orientation]


def test_exif_brings_a_jpeg_upright(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.new("RGB", (40, 20), RED), exif=exif(orientation=6))

    assert decode(path).size == (20, 40)


def test_odd_exif_does_not_spoil_a_sound_photo(tmp_path: Path) -> None:
    """ImageLength that is text: Pillow's exif_transpose fails to write it anew."""
    path = save(tmp_path / "x.jpg", Image.new("RGB", (40, 20), RED), exif=exif(make="maker", orientation=6))
    content = path.read_bytes()
    assert content.count(struct.pack(">HH", MAKE, 2)) == 1

    path.write_bytes(content.replace(struct.pack(">HH", MAKE, 2), struct.pack(">HH", IMAGE_LENGTH, 2)))

    assert decode(path).size == (20, 40)


def test_warnings_of_the_library_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.new("RGB", (40, 20), RED), exif=b"Exif\0\0II*\0\x08\0\0\0\x05")
    with warnings.catch_warnings(record=True, action="always") as seen:
        decode(path)

    assert not seen


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", b"\xff\xd8\xff\xe0" + b"\0" * 30, "Grüße, ein Text\n".encode() * 99, b"%!PS-Adobe-3.0 EPSF"],
    ids=["zero bytes", "text", "a broken header", "long text", "PostScript"],
)
def test_what_is_not_an_image_is_a_usage_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"broken\.jpg"):
        decode(write(tmp_path / "broken.jpg", content))


@pytest.mark.parametrize("file_format", SAVED_AS)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_image_is_an_error(tmp_path: Path, file_format: str, share: float) -> None:
    """The part that is there would be half a photo and half gray."""
    content = noisy(file_format)
    path = write(tmp_path / f"cut{SAVED_AS[file_format]}", content[: int(share * len(content))])

    with pytest.raises(UsageError, match=r"cut\."):
        decode(path)


@pytest.mark.parametrize("side", [100_000, 12_000], ids=["above Pillow's limit", "below it"])
def test_a_header_of_enormous_sides_takes_no_memory(tmp_path: Path, side: int) -> None:
    """18 kB of sound PNG, 12000 x 12000 in black and white, would be 576 MB of RGB."""
    rows = b"\0" * (side * (side // 8 + 1)) if side < 20_000 else b""
    path = write(tmp_path / "bomb.png", png(side, side, 1, 0, rows))
    code = (
        "import resource, sys; from pathlib import Path; from mvit_deploy.decoding import decode;"
        "from mvit_deploy.errors import UsageError; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try: decode(Path(sys.argv[1]))\n"
        "except UsageError as error: print(error, '; grown by', (peak() - before) // 1024)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)

    assert "bomb.png" in result.stdout
    assert "pixels" in result.stdout
    assert int(result.stdout.split()[-1]) < 50


@given(st.sampled_from(list(SAVED_AS)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6))
@settings(deadline=None, max_examples=200)
def test_whatever_the_bytes_it_is_an_image_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, file_format: str, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(noisy(file_format))
    for place, value in changes:
        content[place % len(content)] = value
    path = write(tmp_path_factory.getbasetemp() / f"fuzzed{SAVED_AS[file_format]}", bytes(content))

    with contextlib.suppress(UsageError):
        assert decode(path).mode == "RGB"
