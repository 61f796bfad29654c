"""Programs that make no sense are refused, with the line and the operation at fault."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mvit_deploy.errors import DamagedFileError
from mvit_deploy.runtimes import CannotRunHere
from mvit_deploy.runtimes.coreml import kernels
from mvit_deploy.runtimes.coreml.errors import UnknownOperationError
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.package import pb, read_specification
from mvit_deploy.runtimes.coreml.program import read_program
from tests.runtimes.coreml.hand_made import (
    LINES,
    MIL_TYPES,
    At,
    Line,
    Name,
    Shape,
    X,
    evaluate,
    hand_made,
    main_block,
    weight_bin,
)

REFUSED = (DamagedFileError, CannotRunHere)


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


def test_an_operation_younger_than_the_programs_opset_is_damage(folder: Path) -> None:
    attention = Line(
        "scaled_dot_product_attention", dict.fromkeys(("query", "key", "value"), Name("x")), (("y", "fp32", X.shape),)
    )

    with pytest.raises(DamagedFileError, match=r"line 1: .*CoreML8 is the first to have it, this is CoreML7"):
        evaluate(hand_made(attention), folder)


def test_a_tensor_of_rank_6_is_damage(folder: Path) -> None:
    """Core ML's compiler refuses it; nothing on Linux would."""
    wide = (1, 1, *X.shape)
    line = Line("expand_dims", {"x": Name("x"), "axes": np.array([0, 1], np.int32)}, (("y", "fp32", wide),))

    with pytest.raises(DamagedFileError, match=r"line 1: .*rank 5 is the highest"):
        evaluate(hand_made(line), folder)


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
