"""A damaged Core ML file gives DamagedFileError, or "cannot run here" for what is merely unknown: never another
exception, never a hang, never more memory than a network could need.

Two kinds of files: tiny networks that the exporter writes, opened as anyone opens them, and programs of a few lines
made by hand, with a weight.bin made by hand, in which the line at fault is known.
"""

import json
import os
import platform
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.errors import UnknownOperationError
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.package import pb, read_specification, specification_path, weights_folder
from mvit_deploy.runtimes.coreml.program import read_program
from mvit_deploy.spec import Contract, Settings
from tests.conftest import ROOT

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
    contract = Contract("xxs", "classification", "paper", (8, 8), "logits", (5,))
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


def main_block(spec: "pb.Model") -> tuple[object, object]:
    function = spec.mlProgram.functions["main"]
    return function, function.block_specializations[function.opset]


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
def test_an_input_that_is_described_otherwise_than_the_program_takes_it_is_damage(package: Path) -> None:
    """The description tells callers what to give: a side ten times larger in either is the file's fault, not theirs."""

    def enlarge(spec: "pb.Model") -> None:
        main_block(spec)[0].inputs[0].type.tensorType.dimensions[2].constant.size *= 10

    with pytest.raises(DamagedFileError, match=r"'image' is described as \(8, 8\)"):
        run(edited(package, enlarge))


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
FLOAT_EXTREMES = (0.0, -1.0, 1e9, 1e30, float("inf"), float("nan"))
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


# Programs of a few lines.

MIL_TYPES = {"bool": 1, "string": 2, "fp16": 10, "fp32": 11, "int8": 21, "int32": 23, "uint8": 31}
BLOB_CODES = {"fp16": 1, "fp32": 2, "uint8": 3}
IMMEDIATE = {"fp32": "floats", "int32": "ints", "bool": "bools"}
OPSET = "CoreML7"
Shape = tuple[int | None, ...]
X = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
WEIGHT = np.random.default_rng(1).standard_normal((4, 4, 3, 3)).astype(np.float32)


class Name(str):
    """A reference to a value, as an argument."""

    __slots__ = ()


@dataclass(frozen=True)
class At:
    """A constant in weight.bin, as an argument."""

    offset: int
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Line:
    """An operation: its arguments are names or constants, its outputs a name, an element type and a shape each."""

    type: str
    arguments: Mapping[str, object]
    outputs: tuple[tuple[str, str, Shape], ...]


def declare(proto: object, dtype: str, shape: Shape) -> None:
    tensor = proto.tensorType
    tensor.dataType, tensor.rank = MIL_TYPES[dtype], len(shape)
    for side in shape:
        dimension = tensor.dimensions.add()
        if side is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = side


def put(proto: object, value: object) -> None:
    """Write a constant."""
    if isinstance(value, At):
        declare(proto.type, value.dtype, value.shape)
        proto.blobFileValue.fileName = "@model_path/weights/weight.bin"
        proto.blobFileValue.offset = value.offset
        return
    array = np.asarray(value)
    dtype = {"f": "fp32", "i": "int32", "b": "bool", "u": "uint8", "U": "string"}[array.dtype.kind]
    declare(proto.type, dtype, array.shape)
    tensor = proto.immediateValue.tensor
    if dtype == "uint8":
        tensor.bytes.values = array.tobytes()
    else:
        field = getattr(tensor, IMMEDIATE.get(dtype, "strings"))
        field.SetInParent()
        field.values.extend(array.ravel().tolist())


def hand_made(*lines: Line) -> "pb.Model":
    """A program of these lines on x, fp32 (1, 4, 8, 8); it returns the last line's first output."""
    spec = pb.Model(specificationVersion=8)
    function = spec.mlProgram.functions["main"]
    function.opset = OPSET
    declare(function.inputs.add(name="x").type, "fp32", X.shape)
    block = function.block_specializations[OPSET]
    for line in lines:
        operation = block.operations.add(type=line.type)
        for key, value in line.arguments.items():
            if line.type == "const":
                put(operation.attributes[key], value)
                continue
            for each in value if isinstance(value, list) else [value]:
                binding = operation.inputs[key].arguments.add()
                if isinstance(each, Name):
                    binding.name = each
                else:
                    put(binding.value, each)
        for name, dtype, shape in line.outputs:
            declare(operation.outputs.add(name=name).type, dtype, shape)
    block.outputs.append(lines[-1].outputs[0][0])
    return spec


def evaluate(spec: "pb.Model", folder: Path, mode: str = "fp32") -> object:
    """The output, after the protobuf has been bytes."""
    again = pb.Model.FromString(spec.SerializeToString())
    return Evaluator(read_program(again, folder), mode).run({"x": X})


LINES = (
    Line("const", {"val": At(64, "fp32", (4, 4, 3, 3))}, (("weight", "fp32", (4, 4, 3, 3)),)),
    Line(
        "conv",
        {"x": Name("x"), "weight": Name("weight"), "strides": np.ones(2, np.int32), "pad_type": "same"},
        (("a", "fp32", (1, 4, 8, 8)),),
    ),
    Line("relu", {"x": Name("a")}, (("b", "fp32", (1, 4, 8, 8)),)),
    Line("tile", {"x": Name("b"), "reps": np.array([1, 1, 2, 1], np.int32)}, (("c", "fp32", (1, 4, 16, 8)),)),
    Line("add", {"x": Name("c"), "y": Name("c")}, (("y", "fp32", (1, 4, 16, 8)),)),
)


def weight_bin(*, kind: int = 2, size: int = 576, start: int = 128, padding: int = 0, sentinel: int = 0xDEADBEEF,
               version: int = 2) -> bytes:  # fmt: skip
    """weight.bin as its documentation says, with one entry; or with a fault."""
    header = struct.pack("<II56x", 1, version)
    return header + struct.pack("<IIQQQ32x", sentinel, kind, size, start, padding) + WEIGHT.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with weight.bin, as a program calls it @model_path."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "weight.bin").write_bytes(weight_bin())
    return tmp_path


def test_the_program_made_by_hand_runs(folder: Path) -> None:
    assert evaluate(hand_made(*LINES), folder)["y"].shape == (1, 4, 16, 8)


def test_every_cut_through_the_weights_is_damage(folder: Path) -> None:
    spec, whole = hand_made(*LINES), weight_bin()

    for cut in range(len(whole)):
        (folder / "weights" / "weight.bin").write_bytes(whole[:cut])
        with pytest.raises(DamagedFileError, match=r"line 1 \(const\): .*weight\.bin"):
            read_program(spec, folder)


def test_every_cut_through_the_protobuf_runs_or_is_damage(folder: Path) -> None:
    """A cut between two fields leaves a protobuf that can be read and says less."""
    whole = hand_made(*LINES).SerializeToString()
    path = folder / "cut.mlmodel"

    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(REFUSED):
            Evaluator(read_program(read_specification(path), folder))


@pytest.mark.parametrize(
    "fault",
    [
        {"sentinel": 0},
        {"kind": 0},
        {"kind": 1},
        {"kind": 99},
        {"size": 0},
        {"size": 575},
        {"size": 2**63},
        {"size": 2**64 - 1},
        {"start": 0, "size": 577},
        {"start": 129},
        {"start": 2**64 - 1},
        {"version": 1},
    ],
    ids=str,
)
def test_a_faulty_entry_of_the_weights_is_damage(folder: Path, fault: dict[str, int]) -> None:
    (folder / "weights" / "weight.bin").write_bytes(weight_bin(**fault))

    with pytest.raises(DamagedFileError, match=r"line 1 \(const\): .*weight\.bin"):
        evaluate(hand_made(*LINES), folder)


@pytest.mark.parametrize("offset", [0, 1, 63, 65, 128, 640, 704, 2**31, 2**64 - 1])
def test_an_offset_that_is_no_entrys_is_damage(folder: Path, offset: int) -> None:
    elsewhere = replace(LINES[0], arguments={"val": At(offset, "fp32", (4, 4, 3, 3))})

    with pytest.raises(DamagedFileError, match=r"line 1 \(const\): .*weight\.bin"):
        evaluate(hand_made(elsewhere, *LINES[1:]), folder)


@pytest.mark.parametrize(
    "name", ["weight.bin", "@model_path/../weight.bin", "/weight.bin", "@model_path/weights/..", "@model_path/weights/"]
)
def test_weights_outside_the_package_are_damage(folder: Path, name: str) -> None:
    spec = hand_made(*LINES)
    main_block(spec)[1].operations[0].attributes["val"].blobFileValue.fileName = name

    with pytest.raises(DamagedFileError, match=r"line 1 \(const\)"):
        evaluate(spec, folder)


def changed(line: int, **changes: object) -> tuple[Line, ...]:
    """The lines with one of them changed; lines count from 1."""
    return (*LINES[: line - 1], replace(LINES[line - 1], **changes), *LINES[line:])


def argument(line: int, key: str, value: object) -> tuple[Line, ...]:
    return changed(line, arguments={**LINES[line - 1].arguments, key: value})


def without(line: int, key: str) -> tuple[Line, ...]:
    return changed(line, arguments={k: v for k, v in LINES[line - 1].arguments.items() if k != key})


def declared(line: int, dtype: str, shape: Shape, name: str | None = None) -> tuple[Line, ...]:
    return changed(line, outputs=((name or LINES[line - 1].outputs[0][0], dtype, shape),))


FAULTS = {
    "an argument that is missing": (without(2, "weight"), "line 2: .*conv.*weight"),
    "an argument that no line gives": (argument(3, "x", Name("nobody")), r"line 3 \(relu\): .*'nobody'"),
    "an argument of a later line": (argument(3, "x", Name("c")), r"line 3 \(relu\): .*'c'"),
    "two arguments where one is due": (argument(3, "x", [Name("a"), Name("a")]), "line 3: 2 values for x of relu"),
    "a string for numbers": (argument(4, "reps", "many"), "line 4: .*tile"),
    "a string for a number": (argument(2, "groups", "two"), "line 2: .*conv"),
    "floats where there is a string": (argument(5, "y", "c"), "line 5: .*add"),
    "fp16 declared for an fp32 result": (declared(3, "fp16", (1, 4, 8, 8)), "line 3: .*relu.* fp16"),
    "int32 declared for an fp32 result": (declared(3, "int32", (1, 4, 8, 8)), "line 3: .*relu.* int32"),
    "a string declared for a result": (declared(3, "string", ()), "line 3: .*relu.* string"),
    "another shape declared": (declared(3, "fp32", (1, 4, 8, 9)), r"line 3: .*relu.*shape \[1, 4, 8, 8\]"),
    "another rank declared": (declared(3, "fp32", (4, 8, 8)), r"line 3: .*relu.*shape \[1, 4, 8, 8\]"),
    "a result ten times larger declared": (declared(2, "fp32", (1, 40, 8, 8)), r"line 2: .*conv.*shape \[1, 4, 8, 8\]"),
    "an absurd result declared": (declared(2, "fp32", (2**20, 2**20)), r"line 2 \(conv\): .*implausibly large"),
    "an empty result with an absurd side": (declared(2, "fp32", (0, 2**63)), r"line 2 \(conv\): .*implausibly large"),
    "two outputs of one name": (declared(3, "fp32", (1, 4, 8, 8), "a"), r"line 3 \(relu\): .*'a' already exists"),
    "an output named as the input": (declared(3, "fp32", (1, 4, 8, 8), "x"), r"line 3 \(relu\): .*'x' already exists"),
    "more outputs than the operation has": (
        changed(3, outputs=(("b", "fp32", X.shape), ("b2", "fp32", X.shape))),
        "line 3: .*relu.*2 outputs are declared",
    ),
    "no output": (changed(3, outputs=()), r"line 3 \(relu\): it has no output"),
    "a constant ten times larger": (
        changed(1, arguments={"val": At(64, "fp32", (40, 4, 3, 3))}),
        r"line 1 \(const\): .*does not hold fp32\[40, 4, 3, 3\]",
    ),
    "an absurd constant": (
        changed(1, arguments={"val": At(64, "fp32", (10**6, 10**6))}),
        r"line 1 \(const\): .*implausibly large",
    ),
    "a constant of another type": (
        changed(1, arguments={"val": At(64, "fp16", (8, 4, 3, 3))}),
        r"line 1 \(const\): .*is fp32, the program says fp16",
    ),
    "a constant of strings in weight.bin": (
        changed(1, arguments={"val": At(64, "string", (4,))}),
        r"line 1 \(const\): .*string",
    ),
    "a constant without a value": (changed(1, arguments={}), r"line 1 \(const\): .*no attribute val"),
    "a weight that does not fit": (argument(2, "weight", np.ones((4, 5, 3, 3))), "line 2: .*conv.*does not fit"),
    "operands that do not fit": (argument(5, "y", np.ones((7,))), "line 5: .*add.*cannot be done"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_message_names_the_line_and_the_operation_at_fault(folder: Path, fault: str) -> None:
    lines, message = FAULTS[fault]

    with pytest.raises(DamagedFileError, match=message):
        evaluate(hand_made(*lines), folder)


def test_what_is_merely_unknown_is_not_run(folder: Path) -> None:
    """A newer file may be whole: unknown is not damaged."""
    unknown = {
        "line 3: .*does not know frobnicate": changed(3, type="frobnicate"),
        "line 3: .*does not know the parameter 'speed' of relu": argument(3, "speed", np.int32(2)),
        "line 2: .*pad_type 'polar'": argument(2, "pad_type", "polar"),
    }

    for message, lines in unknown.items():
        with pytest.raises(UnknownOperationError, match=message):
            evaluate(hand_made(*lines), folder)


def test_operands_of_two_float_types_are_damage(folder: Path) -> None:
    cast = Line("cast", {"x": Name("x"), "dtype": "fp16"}, (("h", "fp16", X.shape),))
    mixed = Line("add", {"x": Name("x"), "y": Name("h")}, (("y", "fp32", X.shape),))

    with pytest.raises(DamagedFileError, match=r"line 2: .*add.*mixes fp16 and fp32"):
        evaluate(hand_made(cast, mixed), folder)


@pytest.mark.parametrize(
    ("dtype", "field", "values"),
    [("int8", "ints", [300]), ("int32", "floats", [1.5]), ("bool", "ints", [7]), ("int32", "ints", [1, 2])],
)
def test_an_immediate_value_that_is_not_of_its_type_is_damage(
    folder: Path, dtype: str, field: str, values: list[float]
) -> None:
    spec = hand_made(*argument(4, "reps", np.int32(1)))
    value = main_block(spec)[1].operations[3].inputs["reps"].arguments[0].value
    value.type.tensorType.dataType = MIL_TYPES[dtype]
    getattr(value.immediateValue.tensor, field).values[:] = values

    with pytest.raises(DamagedFileError, match=r"line 4 \(tile\)"):
        evaluate(spec, folder)


@pytest.mark.parametrize("dtype", ["string", "uint8"])
def test_an_input_that_cannot_be_given_is_refused(folder: Path, dtype: str) -> None:
    spec = hand_made(*LINES)
    main_block(spec)[0].inputs[0].type.tensorType.dataType = MIL_TYPES[dtype]

    with pytest.raises(DamagedFileError):
        evaluate(spec, folder)


def test_a_program_without_its_parts_is_damage(folder: Path) -> None:
    def remove_main(spec: "pb.Model") -> None:
        del spec.mlProgram.functions["main"]

    def rename_opset(spec: "pb.Model") -> None:
        spec.mlProgram.functions["main"].opset = "CoreML99"

    def return_nothing(spec: "pb.Model") -> None:
        del main_block(spec)[1].outputs[:]

    def return_unknown(spec: "pb.Model") -> None:
        main_block(spec)[1].outputs[0] = "nobody"

    for damage, message in (
        (remove_main, "no function main"),
        (rename_opset, "'CoreML99'"),
        (return_nothing, "returns nothing"),
        (return_unknown, "'nobody'"),
    ):
        spec = hand_made(*LINES)
        damage(spec)
        with pytest.raises(DamagedFileError, match=message):
            evaluate(spec, folder)


def test_many_large_tensors_are_refused_before_the_memory_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is small enough, all of them are not; whether they are computed or folded while the file is opened."""
    monkeypatch.setattr(kernels, "MAX_BYTES", 2**16)
    fills = [
        Line("fill", {"shape": np.array([64, 64], np.int32), "value": np.float32(1)}, ((f"f{i}", "fp32", (64, 64)),))
        for i in range(9)
    ]
    copies = [
        Line("tile", {"x": Name("x"), "reps": np.array([1, 1, 2, 4], np.int32)}, ((f"t{i}", "fp32", (1, 4, 16, 32)),))
        for i in range(9)
    ]
    joined = Line(
        "concat", {"values": [Name(f"t{i}") for i in range(9)], "axis": np.int32(1)}, (("y", "fp32", (1, 36, 16, 32)),)
    )

    with pytest.raises(DamagedFileError, match=r"line 5: .*fill.* bytes of tensors"):
        evaluate(hand_made(*fills), folder)
    with pytest.raises(DamagedFileError, match=r"line 8: .*tile.* bytes of tensors"):
        evaluate(hand_made(*copies, joined), folder)


# Numbers that would make an operation grow without bound, in a process of limited memory.

_I, _F = np.int32, np.float32


def _ints(*values: int) -> np.ndarray:
    return np.array(values, _I)


_POOL = {"x": Name("x"), "kernel_sizes": _ints(2, 2), "strides": _ints(2, 2)}
_CONV = {"x": Name("x"), "weight": WEIGHT, "strides": _ints(1, 1), "dilations": _ints(1, 1), "groups": _I(1)}
_CUSTOM = {"pad_type": "custom", "pad": _ints(0, 0, 0, 0)}
GROWING: list[tuple[str, dict[str, object]]] = [
    ("max_pool", {**_POOL, "pad_type": "same"}),
    ("max_pool", {**_POOL, **_CUSTOM, "ceil_mode": np.True_}),
    ("avg_pool", {**_POOL, **_CUSTOM, "exclude_padding_from_average": np.True_}),
    ("avg_pool", {**_POOL, "pad_type": "same_lower"}),
    ("conv", {**_CONV, **_CUSTOM}),
    ("conv", {**_CONV, "pad_type": "same"}),
    ("conv", {**_CONV, "weight": WEIGHT[:, :1], "groups": _I(4), "pad_type": "same"}),
    ("conv_transpose", {**_CONV, **_CUSTOM}),
    ("conv_transpose", {**_CONV, **_CUSTOM, "output_shape": _ints(1, 4, 10, 10)}),
    ("pad", {"x": Name("x"), "pad": _ints(1, 1, 1, 1), "mode": "constant", "constant_val": _F(0)}),
    ("pad", {"x": Name("x"), "pad": _ints(1, 1, 1, 1), "mode": "reflect"}),
    ("tile", {"x": Name("x"), "reps": _ints(1, 1, 2, 2)}),
    ("fill", {"shape": _ints(1, 4, 2, 2), "value": _F(1)}),
    ("range_1d", {"start": _F(0), "end": _F(5), "step": _F(1)}),
    ("one_hot", {"indices": _ints(1, 2), "one_hot_vector_size": _I(4), "on_value": _F(1), "off_value": _F(0)}),
    ("reshape", {"x": Name("x"), "shape": _ints(1, 4, 64)}),
    ("transpose", {"x": Name("x"), "perm": _ints(0, 2, 3, 1)}),
    ("expand_dims", {"x": Name("x"), "axes": _ints(0)}),
    ("slice_by_index", {"x": Name("x"), "begin": _ints(0, 0, 0, 0), "end": _ints(1, 2, 2, 2)}),
    ("slice_by_size", {"x": Name("x"), "begin": _ints(0, 0, 0, 0), "size": _ints(1, 2, 2, 2)}),
    ("split", {"x": Name("x"), "axis": _I(1), "num_splits": _I(1)}),
    ("concat", {"values": [Name("x"), Name("x")], "axis": _I(1)}),
    ("stack", {"values": [Name("x"), Name("x")], "axis": _I(1)}),
    ("upsample_nearest_neighbor", {"x": Name("x"), "scale_factor_height": _I(2), "scale_factor_width": _I(2)}),
    ("upsample_bilinear", {"x": Name("x"), "scale_factor_height": _F(2), "scale_factor_width": _F(2)}),
    ("resize_bilinear", {"x": Name("x"), "target_size_height": _I(5), "target_size_width": _I(7)}),
    ("resize_nearest_neighbor", {"x": Name("x"), "target_size_height": _I(16), "target_size_width": _I(16)}),
    ("resize", {"x": Name("x"), "shape": _ints(5, 7), "resized_dims": _I(2), "sampling_mode": "UNALIGN_CORNERS"}),
    ("crop", {"x": Name("x"), "crop_height": _ints(1, 1), "crop_width": _ints(1, 1)}),
    ("pixel_shuffle", {"x": Name("x"), "upscale_factor": _I(2)}),
    ("pixel_unshuffle", {"x": Name("x"), "downscale_factor": _I(2)}),
    ("topk", {"x": Name("x"), "k": _I(2), "axis": _I(1), "return_indices": np.False_}),
    ("gather", {"x": Name("x"), "indices": _ints(0, 1), "axis": _I(1), "batch_dims": _I(0)}),
    ("reduce_mean", {"x": Name("x"), "axes": _ints(2, 3), "keep_dims": np.True_}),
    ("cumsum", {"x": Name("x"), "axis": _I(1)}),
    ("softmax", {"x": Name("x"), "axis": _I(1)}),
    ("layer_norm", {"x": Name("x"), "axes": _ints(3), "epsilon": _F(1e-5)}),
    ("local_response_norm", {"x": Name("x"), "size": _I(3)}),
    ("flatten2d", {"x": Name("x"), "axis": _I(1)}),
    ("constexpr_lut_to_dense", {"indices": np.uint8([228]), "lut": np.arange(4, dtype=_F), "shape": _ints(2, 2)}),
    ("constexpr_sparse_to_dense", {"nonzero_data": np.ones(2, _F), "mask": np.uint8([5]), "shape": _ints(2, 2)}),
]
SLOWEST_S = 10.0  # of processor time
FLOATS_AT_A_TIME = 4  # of the largest size: input, padding, columns and result of a convolution


def extreme_variants(arguments: Mapping[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
    """Each number of each argument, and all of them together, replaced by each extreme."""
    for key, value in arguments.items():
        if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "if" or value.size > 8:
            continue
        extremes = (-(2**31), -1, 0, 10, 1000, 2**20, 2**28, 2**31 - 1) if value.dtype.kind == "i" else FLOAT_EXTREMES
        for extreme in extremes:
            for place in [slice(None), *range(value.size if value.size > 1 else 0)]:
                flat = np.array(value).reshape(-1)
                flat[place] = extreme
                new = flat.reshape(value.shape)
                yield f"{key}={new.tolist()}", {**arguments, key: new}


def sweep(max_elements: int) -> None:
    """Run by the test below in a process of its own; prints what broke the rule."""
    kernels.MAX_ELEMENTS = max_elements
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + FLOATS_AT_A_TIME * 4 * max_elements,) * 2)
    for kind, arguments in GROWING:
        ranks = [rank for rank in range(1, 7) if _refusal(kind, arguments, rank) is None]
        if len(ranks) != 1:
            print(f"{kind} does not run with its plain arguments")
            continue
        for what, extreme in extreme_variants(arguments):
            started = time.process_time()
            message = _refusal(kind, extreme, ranks[0])
            took = time.process_time() - started
            if took > SLOWEST_S:
                print(f"{kind} {what}: took {took:.0f} s")
            if message is not None and (not message.startswith("line 1: ") or kind not in message):
                print(f"{kind} {what}: no line in {message}")
            if message is not None and "allocate" in message:
                print(f"{kind} {what}: {message}")


def _refusal(kind: str, arguments: Mapping[str, object], rank: int) -> str | None:
    """Why a program of one line is refused, None where it runs. The sides of its result are left open."""
    spec = hand_made(Line(kind, arguments, (("y", "fp32", (None,) * rank),)))
    try:
        evaluate(spec, Path())
    except REFUSED as error:
        return str(error)
    return None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit of memory is set from Linux's /proc")
@pytest.mark.parametrize("max_elements", [2**24, pytest.param(kernels.MAX_ELEMENTS, marks=pytest.mark.slow)])
def test_no_number_makes_an_operation_grow_or_hang(max_elements: int) -> None:
    """Every refusal names its line, and comes before the memory is asked for: with a limit as it is, 4 GiB are enough,
    with a lower one that much less."""
    command = f"from tests.runtimes.coreml import test_damaged_files; test_damaged_files.sweep({max_elements})"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
