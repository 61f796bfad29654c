"""timm checkpoints: recognised by their tensors, loaded strictly, equal to what was saved."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mvit_deploy.checkpoints import load_checkpoint, timm
from mvit_deploy.errors import CheckpointError, UsageError
from tests.conftest import sensitive


def saved(path: Path, state: object) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def timm_state(mode: str = "xxs", num_classes: int = 5) -> dict[str, torch.Tensor]:
    return timm.state_dict_for(sensitive(mode, num_classes))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("mode", ["xxs", "xs", "s"])
def test_a_saved_checkpoint_gives_its_mode_classes_and_every_weight_back(
    tmp_path: Path, mode: str, suffix: str
) -> None:
    loaded = load_checkpoint(saved(tmp_path / f"x{suffix}", timm_state(mode, 7))).model

    expected = sensitive(mode, 7).state_dict()
    assert (loaded.mode, loaded.num_classes, loaded.training) == (mode, 7, False)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


def test_keys_are_timms() -> None:
    """A few of timm 1.0.31's mobilevit_xxs, one of each kind, and the number of all."""
    keys = timm_state()

    assert len(keys) == 311
    assert {
        "stem.conv.weight",
        "stages.0.0.conv1_1x1.bn.running_var",
        "stages.1.2.conv2_kxk.conv.weight",
        "stages.2.0.conv3_1x1.conv.weight",
        "stages.2.1.conv_kxk.bn.bias",
        "stages.3.1.conv_1x1.weight",
        "stages.3.1.transformer.3.norm1.weight",
        "stages.4.1.transformer.2.attn.qkv.bias",
        "stages.4.1.transformer.0.attn.proj.weight",
        "stages.4.1.transformer.0.mlp.fc2.weight",
        "stages.2.1.norm.weight",
        "stages.2.1.conv_proj.conv.weight",
        "stages.2.1.conv_fusion.bn.num_batches_tracked",
        "final_conv.bn.weight",
        "head.fc.bias",
    } <= set(keys)


def test_half_precision_weights_are_upcast(tmp_path: Path) -> None:
    half = {key: t.half() if t.is_floating_point() else t for key, t in timm_state().items()}

    loaded = load_checkpoint(saved(tmp_path / "x.pth", half)).model

    assert all(parameter.dtype == torch.float32 for parameter in loaded.parameters())


def test_counters_of_batchnorm_may_be_missing(tmp_path: Path) -> None:
    state = {key: t for key, t in timm_state().items() if not key.endswith("num_batches_tracked")}

    assert load_checkpoint(saved(tmp_path / "x.safetensors", state)).model.num_classes == 5


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema"])
def test_a_training_checkpoint_is_unwrapped_and_that_is_said(tmp_path: Path, wrapper: str) -> None:
    content = {"epoch": 3, wrapper: {f"module.{key}": tensor for key, tensor in timm_state().items()}}

    loaded = load_checkpoint(saved(tmp_path / "x.pth", content))

    assert loaded.model.num_classes == 5
    assert any(wrapper in note for note in loaded.notes)
    assert any("module." in note for note in loaded.notes)


@pytest.mark.parametrize(("option", "value"), [("mode", "xs"), ("num_classes", 6)])
def test_a_mode_or_class_count_that_contradicts_the_weights_is_a_usage_error(
    tmp_path: Path, option: str, value: object
) -> None:
    path = saved(tmp_path / "x.pth", timm_state())

    with pytest.raises(UsageError, match=f"{value} contradicts the weights"):
        load_checkpoint(path, **{option: value})


def test_missing_unexpected_and_misshapen_tensors_are_listed_five_at_a_time(tmp_path: Path) -> None:
    state = timm_state()
    for index in range(3):
        del state[f"stages.2.1.transformer.1.{('norm1', 'norm2', 'attn.qkv')[index]}.weight"]
    state |= {f"extra.{i}": torch.zeros(1) for i in range(7)}
    state["stem.conv.weight"] = torch.zeros(16, 4, 3, 3)

    with pytest.raises(CheckpointError) as error:
        load_checkpoint(saved(tmp_path / "x.pth", state))

    message = str(error.value)
    assert "missing: stages.2.1.transformer.1.norm1.weight" in message
    assert "unexpected: extra.0, extra.1, extra.2, extra.3, extra.4 and 2 more" in message
    assert "stem.conv.weight is (16, 4, 3, 3), expected (16, 3, 3, 3)" in message


@pytest.mark.parametrize("keys", [("conv1.weight", "fc.weight"), ("final_conv.conv.weight",)])
def test_another_network_is_refused_with_its_keys(tmp_path: Path, keys: tuple[str, ...]) -> None:
    path = saved(tmp_path / "x.pth", {key: torch.zeros(3, 3) for key in keys})

    with pytest.raises(CheckpointError, match=f"not a MobileViT checkpoint.* {', '.join(keys)}"):
        load_checkpoint(path)


def test_a_width_of_no_mode_is_refused(tmp_path: Path) -> None:
    state = timm_state() | {"final_conv.conv.weight": torch.zeros(100, 80, 1, 1)}

    with pytest.raises(
        CheckpointError, match=r"final_conv.conv.weight is \(100, 80, 1, 1\), expected \(320, 80, 1, 1\)"
    ):
        load_checkpoint(saved(tmp_path / "x.pth", state))


def test_the_trained_checkpoint_is_right_on_its_photos(flowers: Path) -> None:
    """Published of these weights: 93.7 % and more on photos kept apart; these were in training."""
    from mvit_deploy import images

    labels = (flowers / "labels.txt").read_text().split()
    model = load_checkpoint(flowers / "mobilevit_xxs_flowers_timm.pth").model
    photos = images.load_folder(flowers / "calibration", (256, 256))
    with torch.no_grad():
        pixels = torch.from_numpy(photos.pixels).permute(0, 3, 1, 2).float() / 255
        found = torch.cat([model(batch).argmax(1) for batch in pixels.split(20)]).tolist()

    right = [labels[index] == name.split("/")[0] for index, name in zip(found, photos.names, strict=True)]
    assert sum(right) / len(right) >= 0.95
