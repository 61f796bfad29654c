"""Golden files: what is kept by which rule, the bytes of the archive, and what is refused before it is read."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_deploy import golden, parity
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.golden import LIMIT_VALUES, Golden, Sample, choices, sample_of, take
from mvit_deploy.images import ImageSet

KINDS = ("photo",) * 8 + ("builtin",) * 2 + ("noise",) * 4 + ("extreme",) * 3


def image_set(kinds: tuple[str, ...] = KINDS, size: tuple[int, int] = (2, 3)) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (len(kinds), *size, 3), dtype=np.uint8)
    return ImageSet(pixels, kinds, tuple(f"{kind} {at}" for at, kind in enumerate(kinds)))


def small() -> Golden:
    inputs = image_set(("photo", "noise"))
    outputs = {"logits": np.arange(10, dtype=np.float32).reshape(2, 5)}
    kept = take(inputs, outputs, (0, 1), None)
    return Golden(kept.inputs, kept.reference, kept.samples, {"logits": kept.reference["logits"] + 1})


def written(tmp_path: Path, name: str = "x.golden.npz") -> Path:
    golden.write(tmp_path / name, small())
    return tmp_path / name


def test_first_three_photos_one_noise_and_one_extreme_then_ever_more_photos_then_everything() -> None:
    everything = tuple(range(17))

    assert list(choices(image_set())) == [
        ((0, 1, 2, 10, 16), LIMIT_VALUES),
        ((0, 1, 2, 3, 4, 5, 10, 16), LIMIT_VALUES),
        ((0, 1, 2, 3, 4, 5, 6, 7, 10, 16), LIMIT_VALUES),
        (everything, LIMIT_VALUES),
        (everything, None),
    ]


def test_of_large_images_two_photos_are_enough() -> None:
    assert next(choices(image_set(size=(256, 256))))[0] == (0, 1, 2, 10, 16)
    assert next(choices(image_set(size=(256, 288))))[0] == (0, 1, 10, 16)


def test_without_photos_everything_is_kept() -> None:
    assert next(choices(image_set(("noise", "extreme", "extreme")))) == ((0, 1, 2), LIMIT_VALUES)


@pytest.mark.parametrize(
    ("name", "shape", "axis", "kept"),
    [
        ("logits", (1000,), 0, 1),  # a row is never cut
        ("logits", (200_000,), 0, 1),
        ("logits", (21, 32, 32), 0, 1024),  # 21,504 values, all of them
        ("logits", (21, 512, 512), 0, 2380),  # 50,000 // 21 rows of classes
        ("scores", (3110, 81), 1, 617),
        ("boxes", (3110, 4), None, 12_440),
        ("boxes", (20_000, 4), None, 50_000),
        ("classes", (512, 512), None, 50_000),
        ("features", (640, 8, 8), None, 40_960),
    ],
)
def test_large_outputs_are_kept_in_part(name: str, shape: tuple[int, ...], axis: int | None, kept: int) -> None:
    sample = sample_of(name, shape)

    assert (sample.class_axis, sample.kept) == (axis, kept)


def test_places_are_evenly_spaced_and_rows_of_classes_whole() -> None:
    """10 places, 4 kept: 0, 2, 5 and 7 (i * 10 // 4)."""
    scores = np.arange(2 * 10 * 3).reshape(2, 10, 3)
    maps = np.arange(2 * 3 * 2 * 5).reshape(2, 3, 2, 5)

    assert (Sample((10, 3), 1, 4).pick(scores) == scores[:, [0, 2, 5, 7]]).all()
    by_hand = maps.transpose(0, 2, 3, 1).reshape(2, 10, 3)[:, [0, 2, 5, 7]]
    assert (Sample((3, 2, 5), 0, 4).pick(maps) == by_hand).all()
    assert Sample((2, 5), None, 4).pick(np.arange(20).reshape(2, 2, 5)).tolist() == [
        [[0], [2], [5], [7]],
        [[10], [12], [15], [17]],
    ]


def test_a_row_of_classes_less_may_be_picked_and_another_shape_stays_to_be_refused() -> None:
    """A detector's file gives scores without the background."""
    sample = Sample((10, 3), 1, 4)

    assert sample.pick(np.zeros((2, 10, 2))).shape == (2, 4, 2)
    assert sample.pick(np.zeros((2, 9, 3))).shape == (2, 9, 3)
    assert Sample((5,), 0, 1).pick(np.zeros((2, 6))).shape != (2, 5)


@given(
    name=st.sampled_from(["logits", "scores", "boxes", "features"]),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_where_all_is_kept_the_errors_are_those_of_the_whole(name: str, shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    reference, candidate = (random.normal(size=(3, *shape)).astype(np.float32) for _ in range(2))
    sample = sample_of(name, shape)
    if len(shape) == 1 and sample.class_axis is None:
        return  # a row of values that are no classes: no output of ours

    axes = [parity.class_axis(name, values.ndim) for values in (reference, sample.pick(reference))]
    whole = parity.measure(reference=reference, candidate=candidate, classes=axes[0])
    kept = parity.measure(reference=sample.pick(reference), candidate=sample.pick(candidate), classes=axes[1])

    assert kept.max_abs == whole.max_abs
    assert kept.sqnr_db == pytest.approx(whole.sqnr_db)
    assert kept.top1_agreement == whole.top1_agreement
    assert kept.mean_kl == (None if whole.mean_kl is None else pytest.approx(whole.mean_kl))


def test_the_same_arrays_give_the_same_bytes_and_come_back(tmp_path: Path) -> None:
    first, second = written(tmp_path, "a.npz"), written(tmp_path, "b.npz")

    assert first.read_bytes() == second.read_bytes()
    read, expected = golden.read(first, small().samples), small()
    assert (read.inputs.names, read.inputs.kinds) == (expected.inputs.names, expected.inputs.kinds)
    assert read.inputs.sha256 == expected.inputs.sha256
    assert (read.reference["logits"] == expected.reference["logits"]).all()
    assert (read.measured["logits"] == expected.measured["logits"]).all()


def test_numpy_reads_it_without_pickle(tmp_path: Path) -> None:
    with np.load(written(tmp_path), allow_pickle=False) as archive:
        assert set(archive) == {"pixels", "kinds", "names", "reference/logits", "measured/logits"}
        assert archive["pixels"].shape == (2, 2, 3, 3)


class Bomb:
    """Unpickled it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def with_member(path: Path, name: str, content: bytes) -> None:
    """Replace or add one member of an archive."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()} | {name: content}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each, bytes_ in members.items():
            archive.writestr(each, bytes_)


def refused(path: Path) -> str:
    with pytest.raises(DamagedFileError) as error:
        golden.read(path, small().samples)
    return str(error.value)


def test_an_object_array_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    path, mark = written(tmp_path), tmp_path / "unpickled"
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    with_member(path, "pixels.npy", content.getvalue())

    assert "not a plain array" in refused(path)
    assert not mark.exists()


def test_a_bare_pickle_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    mark = tmp_path / "unpickled"
    (tmp_path / "x.golden.npz").write_bytes(pickle.dumps(Bomb(mark)))

    refused(tmp_path / "x.golden.npz")
    assert not mark.exists()


def test_an_archive_that_would_grow_is_refused_before_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(golden, "LIMIT_BYTES", 10_000_000)
    with_member(path, "measured/more.npy", bytes(20_000_000))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *arguments: pytest.fail("a member was opened"))

    assert "arrays of 2" in refused(path)


@pytest.mark.parametrize("shape", ["(4000000000, 4000000000)", "(-1, 36)", "(2, 2, 3, 4)", "(" * 60])
def test_a_header_that_claims_another_size_is_refused(tmp_path: Path, shape: str) -> None:
    path = written(tmp_path)
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    with_member(path, "pixels.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(36))

    refused(path)


@pytest.mark.parametrize("name", ["pixels.npy", "kinds.npy", "names.npy", "reference/logits.npy"])
def test_an_archive_without_one_of_its_arrays_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path)
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist() if each != name}
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)

    refused(path)


@pytest.mark.parametrize("values", [np.zeros((2, 4), np.float32), np.zeros((3, 5), np.float32), np.zeros((2, 5))])
def test_outputs_of_another_shape_or_type_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    path, content = written(tmp_path), io.BytesIO()
    np.lib.format.write_array(content, values, allow_pickle=False)
    with_member(path, "reference/logits.npy", content.getvalue())

    refused(path)


@given(at=st.integers(0, 2**20), change=st.integers(1, 255), cut=st.booleans())
@settings(deadline=None, max_examples=300)
def test_whatever_is_damaged_is_refused_or_reads_as_before(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: int, cut: bool
) -> None:
    """Bytes that nobody reads (dates, attributes) may change; a checksum guards the rest."""
    path = written(tmp_path_factory.mktemp("damaged"))
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at] ^= change
    path.write_bytes(content[:at] if cut else content)

    try:
        read = golden.read(path, small().samples)
    except DamagedFileError:
        return
    assert not cut
    assert read.inputs.sha256 == small().inputs.sha256
    assert (read.reference["logits"] == small().reference["logits"]).all()


def test_more_than_can_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "LIMIT_BYTES", 50)

    with pytest.raises(ValueError, match="50 bytes"):
        written(tmp_path)
    assert list(tmp_path.iterdir()) == []
