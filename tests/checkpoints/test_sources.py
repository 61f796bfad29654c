"""Every source, in every task: its own keys, its own colour order, and each weight back."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_deploy.checkpoints import cvnets, huggingface, kornia, layouts, load_checkpoint, timm
from mvit_deploy.errors import CheckpointError, UsageError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.heads.segmentation import segmenter
from tests.checkpoints.samples import CASES, CLASSES, model_for, module_of, published_shapes, saved, state

PUBLISHED = [case for case in CASES if case != ("huggingface", "backbone")]  # whose keys are those without "mobilevit."
STEMS = {"cvnets": "conv_1.block.conv.weight", "huggingface": "conv_stem.convolution.weight"}


@pytest.mark.parametrize(("source", "task"), PUBLISHED)
def test_keys_and_shapes_are_those_that_the_source_saves(source: str, task: str) -> None:
    classes = {"classification": 1000, "detection": 81, "segmentation": 21}.get(task)
    expected = layouts.Layout(source, task).expected("xxs", classes)

    assert {key: tuple(tensor.shape) for key, tensor in expected.items()} == published_shapes(source, task)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(("source", "task"), CASES)
def test_source_task_mode_classes_and_every_weight_come_back(
    tmp_path: Path, source: str, task: str, suffix: str
) -> None:
    loaded = load_checkpoint(saved(tmp_path / f"x{suffix}", state(source, task)))

    expected = model_for(source, task).state_dict()
    assert (loaded.source, loaded.task, loaded.mode) == (source, task, "xxs")
    assert loaded.num_classes == CLASSES[task]
    assert type(loaded.model) is type(model_for(source, task))
    assert loaded.variant == ("kornia" if source == "kornia" else "paper")
    assert not loaded.model.training
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.model.state_dict().items())


@pytest.mark.parametrize(("source", "task"), CASES)
def test_saving_back_gives_the_files_tensors_bit_by_bit(tmp_path: Path, source: str, task: str) -> None:
    original = state(source, task)

    again = module_of(source).state_dict_for(load_checkpoint(saved(tmp_path / "x.pt", original)).model)

    assert list(again) == list(original)
    assert all(torch.equal(tensor, original[key]) for key, tensor in again.items())


@pytest.mark.parametrize("mode", ["xs", "s"])
@pytest.mark.parametrize(("source", "task"), CASES)
def test_modes_are_told_apart_by_shapes(source: str, task: str, mode: str) -> None:
    found = layouts.recognise(state(source, task, mode))

    assert (str(found.layout), found.mode, found.num_classes) == (f"{source} {task}", mode, CLASSES[task])


@pytest.mark.parametrize(("source", "task"), [case for case in CASES if case[0] in STEMS])
def test_the_first_convolution_of_bgr_sources_is_turned_round_and_that_is_said(
    tmp_path: Path, source: str, task: str
) -> None:
    content = state(source, task)
    stem = next(key for key in content if key.endswith(STEMS[source]))

    loaded = load_checkpoint(saved(tmp_path / "x.pt", content))

    ours = next(t for key, t in loaded.model.state_dict().items() if key.endswith("stem.conv.weight"))
    assert torch.equal(ours[:, 0], content[stem][:, 2])
    assert torch.equal(ours[:, 1], content[stem][:, 1])
    assert torch.equal(ours[:, 2], content[stem][:, 0])
    assert loaded.preprocessing.color_order == "BGR"
    assert any("BGR" in note and "turned round" in note for note in loaded.notes)


@pytest.mark.parametrize(("source", "task", "stem"), [
    ("timm", "classification", "stem.conv.weight"), ("kornia", "backbone", "conv1.0.weight"),
])  # fmt: skip
def test_the_first_convolution_of_rgb_sources_is_copied(tmp_path: Path, source: str, task: str, stem: str) -> None:
    content = state(source, task)

    loaded = load_checkpoint(saved(tmp_path / "x.pt", content))

    ours = next(t for key, t in loaded.model.state_dict().items() if key.endswith("stem.conv.weight"))
    assert torch.equal(ours, content[stem])
    assert loaded.notes == ()


def test_what_a_source_has_not_cannot_be_saved_for_it() -> None:
    paper, variant = model_for("cvnets", "detection"), model_for("kornia", "backbone")
    for module, model in [
        (timm, paper),
        (huggingface, paper),
        (kornia, paper),
        (huggingface, variant),
        (timm, variant),
    ]:
        with pytest.raises(UsageError, match="has no keys for"):
            module.state_dict_for(model)
    with pytest.raises(UsageError, match="Linear is none of"):
        cvnets.state_dict_for(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(("module", "model"), [
    (cvnets, lambda: segmenter("xxs", 3, output_stride=8)), (huggingface, lambda: MobileViT("xxs", in_channels=4)),
    (huggingface, lambda: MobileViT("xxs", patch_size=(4, 4))),
    (huggingface, lambda: MobileViT("xxs", last_conv=False)),
], ids=["stride", "channels", "patch", "no last convolution"])  # fmt: skip
def test_what_would_load_as_another_network_is_not_saved(
    module: ModuleType, model: Callable[[], torch.nn.Module]
) -> None:
    with pytest.raises(UsageError, match="other than the published one"):
        module.state_dict_for(model())


@given(st.sampled_from(CASES), st.data())
@settings(max_examples=40, deadline=None)
def test_a_missing_key_is_named(case: tuple[str, str], data: st.DataObject) -> None:
    content = state(*case)
    key = data.draw(st.sampled_from([key for key in content if not key.endswith("num_batches_tracked")]))
    del content[key]

    message = refusal(content)

    assert f"missing: {key}" in message
    assert " ".join(case) in message


@given(st.sampled_from(CASES), st.data())
@settings(max_examples=40, deadline=None)
def test_a_renamed_key_is_named_both_ways(case: tuple[str, str], data: st.DataObject) -> None:
    content = state(*case)
    key = data.draw(st.sampled_from([key for key in content if not key.endswith("num_batches_tracked")]))
    position = data.draw(st.integers(0, len(key)))
    renamed = key[:position] + "~" + key[position:]
    content[renamed] = content.pop(key)

    message = refusal(content)

    assert f"missing: {key}" in message
    assert f"unexpected: {renamed}" in message


@given(st.sampled_from(CASES), st.text("abc.123", min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_an_added_key_is_named(case: tuple[str, str], name: str) -> None:
    assert f"unexpected: {name}" in refusal(state(*case) | {name: torch.zeros(1)})


@given(st.sampled_from(CASES), st.data())
@settings(max_examples=40, deadline=None)
def test_a_wrong_shape_is_named_with_both_shapes(case: tuple[str, str], data: st.DataObject) -> None:
    """But of the bias that counts the classes, whose shape is the number of classes."""
    content = state(*case)
    key = data.draw(st.sampled_from([key for key in content if content[key].dim()]))
    shape = tuple(content[key].shape)
    content[key] = torch.zeros(2 * shape[0], *shape[1:])

    message = refusal(content)

    assert "wrong shape:" in message
    assert key in message or key.endswith("bias")
    assert str(shape) in message or key.endswith("bias")


def refusal(content: dict[str, torch.Tensor]) -> str:
    """The message with which a state dict is refused."""
    with pytest.raises(CheckpointError) as error:
        layouts.load(content, layouts.recognise(content))
    return str(error.value)


def test_a_file_that_fits_two_sources_is_refused_with_keys_of_both() -> None:
    message = refusal(state("cvnets", "classification") | state("timm", "classification"))

    assert "fits 2 networks" in message
    assert "cvnets classification: conv_1.block.conv.weight, " in message
    assert "timm classification: stem.conv.weight, " in message


def test_a_file_with_the_heads_of_two_tasks_is_refused_with_keys_of_both() -> None:
    message = refusal(state("cvnets", "detection") | state("cvnets", "segmentation"))

    assert "cvnets detection: extra_layers.os_64" in message
    assert "cvnets segmentation: seg_head.aspp" in message


def test_a_half_renamed_file_lists_the_first_five_of_both_halves() -> None:
    theirs, timms = state("cvnets", "classification"), state("timm", "classification")
    half = len(theirs) // 2

    message = refusal(dict(list(theirs.items())[:half]) | dict(list(timms.items())[half:]))

    assert "missing: " in message
    assert "unexpected: " in message
    assert message.count(" more") == 2


@pytest.mark.parametrize(("source", "block"), [
    ("cvnets", "layer_4.1.global_rep.3."), ("timm", "stages.3.1.transformer.3."),
    ("huggingface", "mobilevit.encoder.layer.3.transformer.layer.3."),
])  # fmt: skip
def test_a_wrong_number_of_layers_is_refused(source: str, block: str) -> None:
    content = state(source, "classification")
    fewer = {key: tensor for key, tensor in content.items() if not key.startswith(block)}
    more = content | {key.replace(".3.", ".9.", 2): t for key, t in content.items() if key.startswith(block)}

    assert f"missing: {block}" in refusal(fewer)
    assert "unexpected: " in refusal(more)


@pytest.mark.parametrize("key", ["seg_head.classifier.block.conv.weight", "seg_head.aux_head.0.block.conv.weight"])
def test_the_later_segmentation_recipe_is_refused_in_words(key: str) -> None:
    message = refusal(state("cvnets", "segmentation") | {key: torch.zeros(21, 512, 1, 1)})

    assert "ml-cvnets v0.2 or later" in message
    assert "output stride 8" in message


def test_integers_for_floats_are_refused() -> None:
    content = state("timm", "classification")
    content["head.fc.weight"] = content["head.fc.weight"].to(torch.int8)

    assert "not floating point: head.fc.weight is int8" in refusal(content)


@pytest.mark.parametrize(("added", "refused"), [
    ({"5.weight": (5, 5), "5.bias": (5,)}, "unexpected: 5.weight, 5.bias"),
    ({"3.running_mean": (5,)}, "unexpected: 3.running_mean"), ({"head.weight": (5, 5)}, "unexpected: head.weight"),
])  # fmt: skip
def test_more_than_one_layer_behind_kornias_class_is_refused(
    tmp_path: Path, added: dict[str, tuple[int, ...]], refused: str
) -> None:
    content = state("kornia", "classification") | {key: torch.zeros(shape) for key, shape in added.items()}

    with pytest.raises(CheckpointError, match=refused):
        load_checkpoint(saved(tmp_path / "x.pt", content))


def test_a_layer_behind_kornias_class_without_bias_is_refused(tmp_path: Path) -> None:
    content = {
        key.replace("3.w", "7.w") if key == "3.weight" else key: t
        for key, t in state("kornia", "classification").items()
    }
    del content["3.bias"]

    with pytest.raises(CheckpointError, match=r"missing: 3\.bias"):
        load_checkpoint(saved(tmp_path / "x.pt", content))


def test_a_detectors_backbone_alone_lacks_a_head(tmp_path: Path) -> None:
    content = {key: t for key, t in state("cvnets", "detection").items() if key.startswith("encoder.")}

    with pytest.raises(CheckpointError, match=r"missing: conv_1x1_exp.block.conv.weight, .* and 2 more"):
        load_checkpoint(saved(tmp_path / "x.pt", content))


def test_a_classifier_kept_as_encoder_loads_and_that_is_said(tmp_path: Path) -> None:
    content = {f"encoder.{key}": tensor for key, tensor in state("timm", "classification").items()}

    assert "took the prefix 'encoder.' off the keys" in load_checkpoint(saved(tmp_path / "x.pt", content)).notes


@pytest.mark.parametrize("task", ["detection", "segmentation"])
@pytest.mark.parametrize(("option", "value"), [("mode", "s"), ("num_classes", 81)])
def test_options_that_contradict_the_weights_are_usage_errors(
    tmp_path: Path, task: str, option: str, value: object
) -> None:
    path = saved(tmp_path / "x.pt", state("cvnets", task))

    with pytest.raises(UsageError, match=f"{value} contradicts the weights"):
        load_checkpoint(path, **{option: value})


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_kinds_of_floats_become_float32(tmp_path: Path, kind: torch.dtype) -> None:
    content = {key: t.to(kind) if t.is_floating_point() else t for key, t in state("timm", "classification").items()}

    model = load_checkpoint(saved(tmp_path / "x.pt", content)).model

    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert torch.equal(model.state_dict()["head.fc.bias"], content["head.fc.bias"].float())
