"""Damaged .mlpackage and .mlmodel files run or are refused clearly: never another exception, never a hang."""

import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from exporters import coreml as exporter
from mvit_deploy import runtimes
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.nn.build import randomize
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.coreml.package import pb, read_specification, specification_path, weights_folder
from mvit_deploy.spec import Contract, Output, Settings
from tests.runtimes.coreml.hand_made import FLOAT_EXTREMES, main_block

import coremltools.optimize.coreml as cto  # isort: skip
from coremltools.models import MLModel  # isort: skip


REFUSED = (DamagedFileError, CannotRunHere)
evaluator_here = pytest.mark.skipif(platform.system() == "Darwin", reason="there Apple's runtime runs what is opened")


# Tiny networks, written by the exporter.

PIXELS = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
FILES = ("program.mlpackage", "compressed.mlpackage", "classic.mlmodel")


class Tiny(nn.Module):
    """A little of everything: convolutions, a pool, padding, resizing, attention, normalisation, slices."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.norm = nn.LayerNorm(4)
        self.qkv = nn.Linear(4, 12)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.conv(x))
        y = y + self.deep(F.max_pool2d(F.pad(y, (1, 1, 1, 1)), 3, 1))
        y = F.interpolate(y, size=(3, 3), mode="bilinear", align_corners=False)
        t = y.flatten(2).transpose(1, 2)  # (B, N, C)
        q, k, v = self.qkv(self.norm(t)).split(4, dim=2)
        t = t + (q @ k.transpose(1, 2)).softmax(-1) @ v
        return self.head(F.gelu(t[:, 1:]).mean(1))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program, one with compressed weights, and a classic network."""
    folder = tmp_path_factory.mktemp("whole")
    contract = Contract("xxs", "classification", "paper", (8, 8), (Output("logits", (5,)),))
    lowered = exporter.lower(randomize(Tiny(), seed=0), contract, Settings("mlpackage", min_ios=16))
    exporter.write(lowered, "fp16", folder / FILES[0])
    exporter.write(replace(lowered, settings=Settings("mlmodel")), "fp32", folder / FILES[2])
    palette = cto.OptimizationConfig(cto.OpPalettizerConfig(mode="uniform", nbits=2, weight_threshold=0))
    whole = MLModel(str(folder / FILES[0]), skip_model_load=True)
    cto.palettize_weights(whole, palette).save(str(folder / FILES[1]))
    return folder


@pytest.fixture
def package(files: Path, tmp_path: Path) -> Path:
    """A copy of the program, to be damaged."""
    return Path(shutil.copytree(files / FILES[0], tmp_path / FILES[0]))


def run(path: Path) -> dict[str, np.ndarray]:
    return runtimes.open_file(path).run(PIXELS)


def runs_or_is_refused(path: Path) -> None:
    """Anything but a result or a refusal comes out as it is."""
    with suppress(*REFUSED):
        run(path)


def edited(path: Path, edit: Callable[["pb.Model"], object]) -> Path:
    """The file with its protobuf changed in place."""
    spec = read_specification(path)
    edit(spec)
    specification_path(path).write_bytes(spec.SerializeToString())
    return path


@evaluator_here
@pytest.mark.parametrize("name", FILES)
def test_the_whole_files_run(files: Path, name: str) -> None:
    assert np.isfinite(run(files / name)["logits"]).all()


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"\xff\xfe garbage",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"rootModelIdentifier": "a", "itemInfoEntries": {}}',
        b'{"rootModelIdentifier": [], "itemInfoEntries": {}}',
        b'{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": 7}}}',
        b'{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "no\\u0000name"}}}',
        b'{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "nowhere"}}}',
        b'{"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": ""}}}',
    ],
)
def test_a_garbage_manifest_is_damage(package: Path, manifest: bytes) -> None:
    (package / "Manifest.json").write_bytes(manifest)

    with pytest.raises(DamagedFileError, match=package.name):
        runtimes.open_file(package)


def test_a_missing_manifest_is_damage(package: Path) -> None:
    (package / "Manifest.json").unlink()

    with pytest.raises(DamagedFileError, match=r"Manifest\.json is missing"):
        runtimes.open_file(package)


@pytest.mark.parametrize("outside", ["../../elsewhere.mlmodel", "/elsewhere.mlmodel"])
def test_a_manifest_that_points_outside_is_damage(package: Path, outside: str) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = outside
    (package / "Manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(DamagedFileError, match="points outside the package"):
        runtimes.open_file(package)


def test_a_link_out_of_the_package_is_damage(package: Path, tmp_path: Path) -> None:
    inside = specification_path(package)
    inside.rename(tmp_path / "elsewhere.mlmodel")
    inside.symlink_to(tmp_path / "elsewhere.mlmodel")

    with pytest.raises(DamagedFileError, match="points outside the package"):
        runtimes.open_file(package)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"<html>not found</html>", bytes(range(256)) * 8])
def test_garbage_for_a_protobuf_is_damage(files: Path, tmp_path: Path, name: str, content: bytes) -> None:
    path = copied(files / name, tmp_path)
    specification_path(path).write_bytes(content)

    with pytest.raises(DamagedFileError):
        runtimes.open_file(path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_protobuf_is_damage(files: Path, tmp_path: Path, name: str) -> None:
    path = copied(files / name, tmp_path)
    specification_path(path).unlink()

    with pytest.raises(DamagedFileError):
        runtimes.open_file(path)


@evaluator_here
def test_a_missing_weight_file_is_damage(package: Path) -> None:
    (weights_folder(package) / "weights" / "weight.bin").unlink()

    with pytest.raises(DamagedFileError, match=r"line \d+ \(const\): cannot read weight\.bin"):
        run(package)


@evaluator_here
@pytest.mark.parametrize(("axis", "factor"), [(0, 2), (1, 0), (2, 10)])
def test_an_input_that_is_described_otherwise_than_the_program_takes_it_is_damage(
    package: Path, axis: int, factor: int
) -> None:
    """The description tells callers what to give: another number of channels or a side ten times larger in either is
    the file's fault, not theirs."""

    def change(spec: "pb.Model") -> None:
        main_block(spec)[0].inputs[0].type.tensorType.dimensions[axis].constant.size *= factor

    with pytest.raises(DamagedFileError, match=r"'image' is described as \(1, 3, 8, 8\)"):
        run(edited(package, change))


@evaluator_here
@pytest.mark.parametrize("name", [FILES[0], FILES[2]])
def test_a_described_image_ten_times_larger_is_damage(files: Path, tmp_path: Path, name: str) -> None:
    def enlarge(spec: "pb.Model") -> None:
        spec.description.input[0].type.imageType.height *= 10

    path = edited(copied(files / name, tmp_path), enlarge)

    with pytest.raises(DamagedFileError):
        run(path)
    with pytest.raises(DamagedFileError):
        runtimes.open_file(path).run(np.zeros((1, 80, 8, 3), np.uint8))


@evaluator_here
def test_another_name_for_the_input_in_the_description_is_damage(package: Path) -> None:
    def rename(spec: "pb.Model") -> None:
        spec.description.input[0].name = "picture"

    with pytest.raises(DamagedFileError, match="'picture'"):
        run(edited(package, rename))


@evaluator_here
def test_an_output_that_is_described_but_not_computed_is_damage(package: Path) -> None:
    def rename(spec: "pb.Model") -> None:
        spec.description.output[0].name = "scores"

    with pytest.raises(DamagedFileError, match="'scores'"):
        run(edited(package, rename))


# Random damage.

FEW = settings(max_examples=80, deadline=None, derandomize=True)
MANY = settings(max_examples=1000, deadline=None)
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=8)
EXTREMES = (-(2**31), -1000, -1, 0, 1, 3, 10, 1000, 46341, 2**24, 2**28, 2**31 - 1, 2**63 - 1, 2**64 - 1)
WORDS = ("", "image", "fp16", "fp32", "int32", "string", "same", "custom", "tile", "concat", "reduce_argmax", "no such")
INSTEAD = {int: EXTREMES, float: FLOAT_EXTREMES, str: WORDS, bytes: (b"", b"\xff", b"\x00" * 7)}


def copied(path: Path, folder: Path) -> Path:
    return Path(shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder / path.name))


def flip(target: Path, flips: Sequence[tuple[float, int]]) -> None:
    """Change bytes at relative places."""
    content = bytearray(target.read_bytes())
    for place, bits in flips:
        content[int(place * len(content))] ^= bits
    target.write_bytes(content)


def leaves(message: object) -> Iterator[tuple[object, object, int | None]]:
    """Every value in a protobuf that is not a message: its message, its field, its place where the field repeats."""
    for field, value in message.ListFields():
        repeated = not isinstance(value, str | bytes) and hasattr(value, "__len__")
        if field.message_type is None:
            yield from ((message, field, place) for place in (range(len(value)) if repeated else [None]))
        elif field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    yield from leaves(value[key])
        else:
            for each in value if repeated else [value]:
                yield from leaves(each)


def replace_leaf(spec: "pb.Model", where: float, which: int) -> None:
    """Put a word in place of a word, an extreme number in place of a number; what protobuf refuses stays."""
    found = list(leaves(getattr(spec, spec.WhichOneof("Type"))))
    message, field, place = found[int(where * len(found))]
    old = getattr(message, field.name)
    old = old if place is None else old[place]
    choices = (not old,) if type(old) is bool else INSTEAD[type(old)]
    new = choices[which % len(choices)]
    try:
        if place is None:
            setattr(message, field.name, new)
        else:
            getattr(message, field.name)[place] = new
    except ValueError:
        assert type(old) is int  # out of the field's range


def fuzz(path: Path, damage: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(path, Path(folder))
        damage(copy)
        runs_or_is_refused(copy)


@evaluator_here
@pytest.mark.parametrize("name", FILES)
@given(flips=FLIPS)
@FEW
def test_changed_bytes_in_the_protobuf_run_or_are_refused(files: Path, name: str, flips: list) -> None:
    fuzz(files / name, lambda copy: flip(specification_path(copy), flips))


@evaluator_here
@pytest.mark.parametrize("name", FILES[:2])
@given(flips=FLIPS)
@FEW
def test_changed_bytes_in_the_weights_run_or_are_refused(files: Path, name: str, flips: list) -> None:
    fuzz(files / name, lambda copy: flip(weights_folder(copy) / "weights" / "weight.bin", flips))


@evaluator_here
@pytest.mark.parametrize("name", FILES)
@given(where=st.floats(0, 1, exclude_max=True), which=st.integers(0, 100))
@FEW
def test_any_value_of_the_protobuf_replaced_runs_or_is_refused(
    files: Path, name: str, where: float, which: int
) -> None:
    fuzz(files / name, lambda copy: edited(copy, lambda spec: replace_leaf(spec, where, which)))


@evaluator_here
@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@given(where=st.floats(0, 1, exclude_max=True), which=st.integers(0, 100), flips=FLIPS, bytewise=st.booleans())
@MANY
def test_much_random_damage_runs_or_is_refused(
    files: Path, name: str, where: float, which: int, flips: list, bytewise: bool
) -> None:
    def damage(copy: Path) -> None:
        if bytewise:
            flip(specification_path(copy), flips)
        else:
            edited(copy, lambda spec: replace_leaf(spec, where, which))

    fuzz(files / name, damage)
