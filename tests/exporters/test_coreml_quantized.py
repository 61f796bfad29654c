"""Quantized Core ML files hold the levels and scales of the form they were made from, and compute with them."""

import copy
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from exporters import coreml
from exporters._coreml_quantized import half_affine
from mvit_deploy import images, parity, report
from mvit_deploy.errors import ConversionError
from mvit_deploy.images import ImageSet
from mvit_deploy.nn.build import randomize
from mvit_deploy.nn.channels_last import centred
from mvit_deploy.nn.fuse import fuse
from mvit_deploy.nn.heads.classification import ClassificationHead
from mvit_deploy.nn.quantized import Affine, QuantizedForm, QuantizedWeight, Range
from mvit_deploy.parity import MATCH, MISMATCH
from mvit_deploy.quantization import equalization, network, ranges
from mvit_deploy.quantization.graph import Graph
from mvit_deploy.quantization.network import Quantized
from mvit_deploy.runtimes.census import census
from mvit_deploy.runtimes.coreml import open_file
from mvit_deploy.runtimes.coreml.package import read_specification, weights_folder
from mvit_deploy.runtimes.coreml.program import Argument, Operation, Program, read_program
from mvit_deploy.spec import Contract, Output, Settings
from mvit_deploy.verification import Expectation, verify
from tests.conftest import LABELS, sensitive
from tests.mutation.package import Package

SIZE = (64, 64)
CONTRACT = Contract("xxs", "classification", "paper", SIZE, (Output("logits", (len(LABELS),)),))
LABELLED = replace(CONTRACT, labels=LABELS, probabilities=True)
KEPT = (
    "stem.0",
    "layer_3.1.fusion.0",
)  # in float in w8a8; head.fc is not, so that softmax stands behind an integer layer
PROGRAMS = {16: "constexpr_affine_dequantize", 17: "constexpr_affine_dequantize", 18: "constexpr_blockwise_shift_scale"}
DATA = {"constexpr_affine_dequantize": "quantized_data", "constexpr_blockwise_shift_scale": "data"}
FILES = [
    ("w8", "mlpackage", 16),
    ("w8", "mlpackage", 18),
    ("w8", "mlmodel", 13),
    ("w8a8", "mlpackage", 17),
    ("w8a8", "mlpackage", 18),
]


class Small(nn.Module):
    """The first parts of xxs up to one transformer block: every kind of layer, once or twice."""

    def __init__(self) -> None:
        super().__init__()
        whole = copy.deepcopy(sensitive("xxs")).backbone
        self.stem, self.layer_1, self.layer_2, self.layer_3 = whole.stem, whole.layer_1, whole.layer_2[0], whole.layer_3
        self.head = ClassificationHead(48, len(LABELS))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.layer_3(self.layer_2(self.layer_1(self.stem(image)))))


@cache
def photos() -> ImageSet:
    return images.builtin_photos(SIZE)


def tensors() -> Tensor:
    return torch.from_numpy(photos().pixels).permute(0, 3, 1, 2).float() / 255


@cache
def original() -> nn.Module:
    return randomize(Small(), seed=0).eval()


@dataclass(frozen=True)
class Case:
    """The network in the integers of a precision, and what PyTorch gives for the photos with them."""

    quantized: Quantized
    form: QuantizedForm
    simulated: np.ndarray  # activations as integers tell them apart
    computed: np.ndarray  # activations in float


@cache
def case(precision: str) -> Case:
    fused = centred(fuse(original()))
    module, equalized = equalization.equalized(fused, Graph(fused, SIZE), tensors())
    graph = Graph(module, SIZE)
    found = network.without_data(graph)
    if precision == "w8a8":
        observed = ranges.observed(graph, tensors(), graph, equalized)
        found = network.fitted(graph, tensors(), observed, bits=8, keep_float=KEPT)
    form = found.form(copy.deepcopy(module), graph).eval()
    return Case(found, form, found.run(graph, tensors()).numpy(), computed(form))


def computed(module: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return module(tensors()).numpy()


def sqnr_db(*, reference: np.ndarray, candidate: np.ndarray) -> float:
    return parity.measure(reference=reference, candidate=candidate).sqnr_db


def lowered(form: QuantizedForm, kind: str, ios: int, contract: Contract = CONTRACT) -> coreml.Lowered:
    return coreml.lower(form, contract, Settings(kind, ios))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantized")


@pytest.fixture(scope="module")
def written(folder: Path) -> Callable[[str, str, int], Path]:
    """A sound file, written once. Not to be modified."""

    @cache
    def write(precision: str, kind: str, ios: int) -> Path:
        path = folder / f"{precision}_{ios}.{kind}"
        coreml.write(lowered(case(precision).form, kind, ios), precision, path)
        return path

    return write


Written = Callable[[str, str, int], Path]


def program_of(path: Path) -> Program:
    return read_program(read_specification(path), weights_folder(path))


def value(program: Program, argument: Argument) -> np.ndarray:
    return (argument.constant or program.constants[argument.name]).value


def logits(path: Path) -> np.ndarray:
    return open_file(path).run(photos().pixels)["logits"]


# What is stored


def stored_weights(program: Program) -> list[tuple[Operation, np.ndarray, np.ndarray]]:
    """The operations that unpack weights, their levels, their scales; no zero point moves them."""
    found = []
    for operation in program.operations:
        if operation.type.startswith("constexpr"):
            given = {key: value(program, argument) for key, (argument,) in operation.inputs.items()}
            assert not np.any(given.get("zero_point", 0))
            assert not np.any(given.get("offset", 0))
            assert given.get("axis", 0) == 0
            found.append((operation, given[DATA[operation.type]], given["scale"].ravel()))
    return found


def weight_operations(program: Program, form: QuantizedForm) -> dict[str, Operation]:
    """What unpacks each layer's weight, found by its levels and its scales in half precision."""
    stored = stored_weights(program)
    assert len(stored) == len(form.weights)
    found = {}
    for name, weight in form.weights.items():
        halves = weight.scale.astype(np.float16).astype(np.float32)
        (found[name],) = [
            operation
            for operation, levels, scale in stored
            if np.array_equal(levels, weight.levels) and np.array_equal(scale, halves)
        ]
    return found


@pytest.mark.parametrize(("precision", "ios"), [(p, ios) for p, kind, ios in FILES if kind == "mlpackage"])
def test_a_program_holds_the_levels_and_scales_of_every_layer(written: Written, precision: str, ios: int) -> None:
    """Scales as the fp16 numbers next to the form's: a program that computes in fp16 has no others."""
    program = program_of(written(precision, "mlpackage", ios))

    found = weight_operations(program, case(precision).form)

    assert {operation.type for operation in found.values()} == {PROGRAMS[ios]}
    assert all(operation.outputs[0][1].dtype == "fp16" for operation in found.values())


def test_a_network_holds_the_codes_and_scales_of_every_layer(written: Written) -> None:
    form = case("w8").form
    layers = read_specification(written("w8", "mlmodel", 13)).neuralNetwork.layers
    fields = [
        getattr(layer, kind).weights
        for layer in layers
        for kind in ("convolution", "innerProduct", "batchedMatmul")
        if layer.WhichOneof("layer") == kind and getattr(layer, kind).HasField("weights")
    ]
    codes = {np.frombuffer(f.rawValue, np.uint8).astype(int).tobytes(): f.quantization for f in fields}

    assert len(fields) == len(codes) == len(form.weights)
    for weight in form.weights.values():
        rule = codes[(weight.levels.astype(int) + 128).tobytes()]
        assert rule.numberOfBits == 8
        assert np.array_equal(np.float32(rule.linearQuantization.scale), weight.scale)
        assert np.array_equal(np.float32(rule.linearQuantization.bias), -128 * weight.scale)


@pytest.mark.parametrize("ios", [17, 18])
def test_every_layer_with_ranges_stands_between_codes_of_just_these_ranges(written: Written, ios: int) -> None:
    form = case("w8a8").form
    program = program_of(written("w8a8", "mlpackage", ios))
    makers = {name: operation for operation in program.operations for name, _ in operation.outputs}
    unpacked = {operation.name: name for name, operation in weight_operations(program, form).items()}

    found = {}
    for operation in program.operations:
        name = unpacked.get(operation.inputs["weight"][0].name) if "weight" in operation.inputs else None
        if name in form.ranges:
            before, (after,) = makers[operation.inputs["x"][0].name], readers(program, operation)
            assert (before.type, after.type) == ("dequantize", "quantize")
            assert code(program, before) == code(program, makers[before.inputs["input"][0].name])
            found[name] = code(program, before), code(program, after)

    assert found == {name: (half_affine(r.input), half_affine(r.output)) for name, r in form.ranges.items()}


def readers(program: Program, operation: Operation) -> list[Operation]:
    return [
        o for o in program.operations if any(a.name == operation.name for given in o.inputs.values() for a in given)
    ]


def code(program: Program, operation: Operation) -> Affine:
    """The code of a quantize or dequantize for levels 0 … 255; int8 levels are 128 less."""
    makers = {name: o for o in program.operations for name, _ in o.outputs}
    levels = operation if operation.type == "quantize" else makers[operation.inputs["input"][0].name]
    shift = {"uint8": 0, "int8": 128}[levels.outputs[0][1].dtype]
    zero = value(program, operation.inputs["zero_point"][0]) if "zero_point" in operation.inputs else 0
    return Affine(float(value(program, operation.inputs["scale"][0])), int(zero) + shift)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-0.27, 6.0), (-8.0, 8.0), (-1e-3, 1e-3), (-3e4, 3e4), (0.0, 0.0)])
def test_the_scale_of_a_range_is_a_half_number_that_leaves_nothing_out(ends: tuple[float, float]) -> None:
    found, exact = half_affine(Range(*ends)), Range(*ends).unsigned(8)

    assert float(np.float16(found.scale)) == found.scale
    assert exact.scale <= found.scale <= exact.scale * (1 + 2**-10) or exact.scale < 2**-14
    low, high = -found.zero_point * found.scale, (255 - found.zero_point) * found.scale
    assert low <= ends[0] + found.scale / 2
    assert high >= ends[1] - found.scale / 2


# What is computed


@pytest.mark.parametrize("ios", [16, 18])
def test_w8_gives_what_the_form_gives_but_for_half_precision(written: Written, ios: int) -> None:
    """Its weights are the form's, rounded as those of any fp16 file, so that precision's floor holds."""
    found = logits(written("w8", "mlpackage", ios))

    assert sqnr_db(reference=case("w8").computed, candidate=found) >= parity.TOLERANCES["fp16"].sqnr_db_photos


def test_a_network_of_w8_gives_what_the_form_gives(written: Written) -> None:
    """The classic format stores the scales in float32, and the evaluator computes in it."""
    found = logits(written("w8", "mlmodel", 13))

    assert sqnr_db(reference=case("w8").computed, candidate=found) >= parity.TOLERANCES["fp32"].sqnr_db_each


def flips_db() -> float:
    """What a w8a8 file may lose against the simulation. fp16 lays values on the other side of a step; did it so for
    every value, both roundings would be independent and differ by twice the noise of one."""
    found = case("w8a8")
    return sqnr_db(reference=found.computed, candidate=found.simulated) - 10 * np.log10(2)


@pytest.mark.parametrize("ios", [17, 18])
def test_w8a8_gives_what_the_simulation_gives_but_for_flips(written: Written, ios: int) -> None:
    found = logits(written("w8a8", "mlpackage", ios))

    assert sqnr_db(reference=case("w8a8").simulated, candidate=found) >= flips_db()


@pytest.mark.parametrize(("precision", "kind", "ios"), FILES)
def test_the_census_says_what_is_integer(written: Written, precision: str, kind: str, ios: int) -> None:
    form, found = case(precision).form, census(written(precision, kind, ios))
    kinds = Counter(operation.kind for operation in found.operations)
    attention = 4  # two products in each of two transformer layers, of activations
    levels = sum(weight.levels.size for weight in form.weights.values())

    if precision == "w8":
        assert kinds == {"weight-only": len(form.weights), "float": attention}
        assert found.int8_macs_fraction == 0
    else:
        assert kinds == {"int8": len(form.ranges), "float": attention + len(KEPT)}
        kept = [operation for operation in found.operations if operation.kind == "float" and operation.weight_bits]
        assert len(kept) == len(KEPT)
        products = [o for o in found.operations if o.kind == "float" and not o.weight_bits]
        assert found.int8_macs == found.macs - sum(operation.macs for operation in (*kept, *products))
    assert found.int8_weight_bytes == levels
    assert found.weight_fraction == levels / sum(weight.elements for weight in found.weights)


def test_a_layer_without_levels_stays_float_among_weights_that_are_not(tmp_path: Path) -> None:
    whole = case("w8").form
    kept = "layer_2.reduce"
    form = QuantizedForm(whole.module, {n: w for n, w in whole.weights.items() if n != kept}, {})
    coreml.write(lowered(form, "mlpackage", 16), "w8", tmp_path / "a.mlpackage")

    (found,) = [o for o in census(tmp_path / "a.mlpackage").operations if o.kind == "float" and o.weight_bits]

    assert (found.weight_bits, found.weight_bytes) == (16, 2 * whole.weights[kept].levels.size)


@pytest.mark.filterwarnings("ignore:Output.*has been renamed")
@pytest.mark.parametrize(("precision", "kind", "ios"), [("w8a8", "mlpackage", 17), ("w8", "mlmodel", 13)])
def test_a_labelled_classifier_keeps_its_softmax_in_float_and_its_labels(
    tmp_path: Path, precision: str, kind: str, ios: int
) -> None:
    path = tmp_path / f"a.{kind}"
    coreml.write(lowered(case(precision).form, kind, ios, LABELLED), precision, path)
    runner = open_file(path)

    found = runner.run(photos().pixels)

    expected = parity.softmax(case(precision).simulated)
    assert runner.interface.labels == LABELS
    assert list(found["classLabel"]) == [LABELS[row.argmax()] for row in found["classLabel_probs"]]
    assert np.abs(found["classLabel_probs"].sum(axis=1) - 1).max() < 5 * 2**-11  # a half-precision rounding each
    assert np.abs(found["classLabel_probs"] - expected).max() < 0.1
    if kind == "mlpackage":
        program = program_of(path)
        softmax = [operation for operation in program.operations if operation.type == "softmax"][-1]
        assert softmax.outputs[0][1].dtype == "fp16"
        assert "quantize" not in {operation.type for operation in readers(program, softmax)}


@pytest.mark.parametrize(("precision", "kind", "ios"), [FILES[0], FILES[2], FILES[3]])
def test_two_files_of_a_form_have_the_same_bytes(
    written: Written, tmp_path: Path, precision: str, kind: str, ios: int
) -> None:
    second = tmp_path / f"second.{kind}"
    coreml.write(lowered(case(precision).form, kind, ios), precision, second)

    assert report.sha256_of(second) == report.sha256_of(written(precision, kind, ios))


# What is refused


def changed(form: QuantizedForm, name: str, **changes: object) -> QuantizedForm:
    """A form that says other integers of a layer than its module computes with."""
    return QuantizedForm(form.module, {**form.weights, name: replace(form.weights[name], **changes)}, form.ranges)


@pytest.mark.parametrize("kind", ["mlpackage", "mlmodel"])
def test_a_weight_that_is_not_what_its_levels_stand_for_is_an_error(kind: str) -> None:
    form, name = case("w8").form, "layer_3.0.reduce"

    with pytest.raises(ConversionError, match=f"the weight of {name} is not what its levels stand for"):
        lowered(changed(form, name, scale=form.weights[name].scale * 2), kind, 16)


@pytest.mark.parametrize("part", ["weights", "ranges"])
def test_a_layer_that_the_network_has_not_is_an_error(part: str) -> None:
    form = copy.copy(case("w8a8").form)
    some = next(iter(form.ranges))
    setattr(form, part, {**getattr(form, part), "layer_9.conv": getattr(form, part)[some]})

    with pytest.raises(ConversionError, match=r"the quantized layer layer_9\.conv is not in the network"):
        lowered(form, "mlpackage", 17)


@pytest.mark.parametrize(
    ("kind", "ios", "what"),
    [("mlpackage", 16, "scales"), ("mlpackage", 18, "scales"), ("mlpackage", 18, "levels"), ("mlmodel", 13, "scales")],
)
def test_a_program_with_other_integers_than_the_forms_is_an_error(
    tmp_path: Path, kind: str, ios: int, what: str
) -> None:
    """As if the converter had changed them."""
    form, name = case("w8").form, "layer_3.1.proj.0"
    weight = form.weights[name]
    change = {"levels": -weight.levels} if what == "levels" else {"scale": weight.scale * np.float32(1.01)}
    sound = lowered(form, kind, ios)

    with pytest.raises(ConversionError, match=f"the int8 weight of {name}"):
        coreml.write(replace(sound, form=changed(form, name, **change)), "w8", tmp_path / f"a.{kind}")


@pytest.mark.parametrize("settings", [Settings("mlmodel", 13), Settings("mlpackage", 16)])
def test_integer_activations_where_core_ml_has_none_are_an_error(settings: Settings) -> None:
    with pytest.raises(ConversionError, match="need an mlpackage for iOS 17"):
        coreml.lower(case("w8a8").form, CONTRACT, settings)


@pytest.mark.parametrize(("kind", "ios"), [("mlpackage", 16), ("mlmodel", 13)])
def test_channels_of_zeros_and_of_almost_nothing_are_no_fault(tmp_path: Path, kind: str, ios: int) -> None:
    """Trained networks have dead channels; a scale below fp16's smallest number becomes that number."""
    form = copy.deepcopy(case("w8").form)
    name = "layer_2.expand.0"
    levels, scale = form.weights[name].levels.copy(), form.weights[name].scale.copy()
    levels[0], scale[0], scale[1] = 0, 1e-12, 1e-9
    form.weights[name] = QuantizedWeight(levels, scale)
    form.module.get_submodule(name).weight.data = torch.from_numpy(form.weights[name].values)
    path = tmp_path / f"a.{kind}"

    coreml.write(lowered(form, kind, ios), "w8", path)

    assert sqnr_db(reference=computed(form), candidate=logits(path)) >= parity.TOLERANCES["fp16"].sqnr_db_photos


@pytest.mark.parametrize(("kind", "ios"), [("mlpackage", 18), ("mlmodel", 13)])
def test_layers_whose_integers_are_alike_are_no_fault(tmp_path: Path, kind: str, ios: int) -> None:
    """As of branches that training begins with zeros."""
    form = copy.deepcopy(case("w8").form)
    for name in [f"layer_3.1.transformer.{place}.attention.out" for place in range(2)]:
        form.weights[name] = replace(form.weights[name], levels=np.zeros_like(form.weights[name].levels))
        form.module.get_submodule(name).weight.data.zero_()
    path = tmp_path / f"a.{kind}"

    coreml.write(lowered(form, kind, ios), "w8", path)

    assert sqnr_db(reference=computed(form), candidate=logits(path)) >= parity.TOLERANCES["fp16"].sqnr_db_photos


# What is seen when a written file is wrong

Fault = Callable[[Package], None]


def unpacking(package: Package, layer: str) -> object:
    start = layer.replace(".", "_") + "_weight"
    (found,) = [operation for operation in package.operations(*DATA) if operation.outputs[0].name.startswith(start)]
    return found


def at(place: int, change: Callable[[np.generic], float]) -> Callable[[np.ndarray], np.ndarray]:
    def changed_there(values: np.ndarray) -> np.ndarray:
        values[place] = change(values[place])
        return values

    return changed_there


def double_a_scale(package: Package) -> None:
    package.edit(unpacking(package, "stem.0"), "scale", at(1, lambda scale: 2 * scale))


def shift_a_zero_point(package: Package) -> None:
    package.edit(unpacking(package, "stem.0"), "zero_point", at(1, lambda zero: zero + 32))


def change_a_level(package: Package) -> None:
    operation = unpacking(package, "stem.0")
    package.edit(operation, DATA[operation.type], at(30, lambda level: level + 64 if level < 64 else level - 64))


def swap_scales(package: Package) -> None:
    first, second = unpacking(package, "layer_1.0.expand.0"), unpacking(package, "layer_1.0.depthwise.0")
    held: list[np.ndarray] = []
    package.edit(first, "scale", lambda scale: held.append(scale) or scale)
    package.edit(second, "scale", lambda scale: held.append(scale) or held[0])
    package.edit(first, "scale", lambda _: held[1])


def middle(package: Package, kind: str) -> object:
    found = package.operations(kind)
    return found[len(found) // 2]


def double_the_scale_of_a_range(package: Package) -> None:
    package.edit(middle(package, "dequantize"), "scale", lambda scale: 2 * scale)


def shift_the_zero_point_of_a_range(package: Package) -> None:
    package.edit(middle(package, "quantize"), "zero_point", lambda zero: zero - 64)


def judged(path: Path, precision: str) -> str:
    return verify(path, Expectation(CONTRACT, precision, photos(), {"logits": computed(original())})).verdict


def spoiled(sound: Path, folder: Path, fault: Fault) -> Path:
    path = shutil.copytree(sound, folder / sound.name)
    package = Package(path)
    fault(package)
    package.save()
    return path


@pytest.mark.parametrize(("precision", "kind", "ios"), FILES)
def test_a_sound_file_matches_the_original_network(written: Written, precision: str, kind: str, ios: int) -> None:
    assert judged(written(precision, kind, ios), precision) == MATCH


@pytest.mark.parametrize(
    ("ios", "fault", "verdict"),
    [
        (16, double_a_scale, MISMATCH),
        (18, double_a_scale, MISMATCH),
        (16, shift_a_zero_point, MISMATCH),
        (16, swap_scales, MISMATCH),
        (18, swap_scales, MISMATCH),
        # One weight is too little for floors that leave room for int8. Against the form it stands out all the same, and
        # a shipped file's digest is not its report's any more.
        (16, change_a_level, MATCH),
        (18, change_a_level, MATCH),
    ],
)
def test_a_fault_in_a_weight_shows(written: Written, tmp_path: Path, ios: int, fault: Fault, verdict: str) -> None:
    sound = written("w8", "mlpackage", ios)
    path = spoiled(sound, tmp_path, fault)

    assert sqnr_db(reference=case("w8").computed, candidate=logits(path)) < parity.TOLERANCES["fp16"].sqnr_db_photos
    assert judged(path, "w8") == verdict
    assert report.sha256_of(path) != report.sha256_of(sound)


@pytest.mark.parametrize("fault", [double_the_scale_of_a_range, shift_the_zero_point_of_a_range])
def test_a_fault_in_a_range_is_a_mismatch(written: Written, tmp_path: Path, fault: Fault) -> None:
    path = spoiled(written("w8a8", "mlpackage", 17), tmp_path, fault)

    assert sqnr_db(reference=case("w8a8").simulated, candidate=logits(path)) < flips_db() - 10
    assert judged(path, "w8a8") == MISMATCH
