"""Folders as transformers saves them: settings are held to the weights, and say what weights cannot."""

import json
from pathlib import Path

import pytest
import torch

from mvit_deploy.checkpoints import load_checkpoint
from mvit_deploy.errors import CheckpointError
from mvit_deploy.preprocessing import Preprocessing
from tests.checkpoints.samples import model_for, saved, state

LABELS = {"0": "daisy", "1": "dandelion", "2": "rose", "3": "sunflower", "4": "tulip"}
CONFIG = {
    "model_type": "mobilevit", "hidden_sizes": [64, 80, 96], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320],
    "expand_ratio": 2.0, "id2label": LABELS, "output_stride": 32,
}  # fmt: skip
# As apple/mobilevit-xx-small has it.
PREPROCESSOR = {
    "crop_size": {"height": 256, "width": 256}, "do_center_crop": True, "do_flip_channel_order": True,
    "do_rescale": True, "do_resize": True, "resample": 2, "rescale_factor": 1 / 255, "size": {"shortest_edge": 288},
}  # fmt: skip


def folder(
    path: Path, config: dict | None = None, preprocessor: dict | None = None, task: str = "classification"
) -> Path:
    saved(path / "model.safetensors", state("huggingface", task))
    for name, content in [("config.json", config), ("preprocessor_config.json", preprocessor)]:
        if content is not None:
            (path / name).write_text(json.dumps(content))
    return path


def test_a_complete_folder_gives_labels_and_preprocessing(tmp_path: Path) -> None:
    loaded = load_checkpoint(folder(tmp_path, CONFIG, PREPROCESSOR))

    assert loaded.labels == tuple(LABELS.values())
    assert loaded.preprocessing == Preprocessing(288, (256, 256), "bilinear", "BGR")
    assert len(loaded.notes) == 1
    assert "preprocessor_config.json" in loaded.notes[0]


def test_without_settings_the_weights_decide_and_what_is_assumed_is_said(tmp_path: Path) -> None:
    loaded = load_checkpoint(folder(tmp_path))

    assert (loaded.mode, loaded.task, loaded.num_classes, loaded.labels) == ("xxs", "classification", 5, None)
    assert any("no config.json" in note for note in loaded.notes)
    assert any("BGR are assumed" in note for note in loaded.notes)


def test_weights_that_take_rgb_are_left_as_they_are(tmp_path: Path) -> None:
    loaded = load_checkpoint(folder(tmp_path, CONFIG, PREPROCESSOR | {"do_flip_channel_order": False}))

    stem = state("huggingface", "classification")["mobilevit.conv_stem.convolution.weight"]
    assert torch.equal(loaded.model.backbone.stem.conv.weight, stem)
    assert loaded.preprocessing.color_order == "RGB"
    assert loaded.notes == ()


@pytest.mark.parametrize(("changes", "expected"), [
    ({"size": 288, "crop_size": 256}, Preprocessing(288, (256, 256), "bilinear", "BGR")),
    ({"size": {"height": 200, "width": 300}, "do_center_crop": False},
     Preprocessing((200, 300), None, "bilinear", "BGR")),
    ({"resample": 3, "do_resize": False}, Preprocessing(None, (256, 256), "bicubic", "BGR")),
])  # fmt: skip
def test_older_and_other_forms_of_the_preprocessor_are_understood(
    tmp_path: Path, changes: dict, expected: Preprocessing
) -> None:
    assert load_checkpoint(folder(tmp_path, CONFIG, PREPROCESSOR | changes)).preprocessing == expected


@pytest.mark.parametrize("changes", [
    {"do_normalize": True}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}, {"rescale_factor": "1/255"},
    {"size": {"longest_edge": 288}}, {"size": 0}, {"resample": 17}, {"crop_size": [256, "x"]},
])  # fmt: skip
def test_a_preprocessor_that_cannot_be_followed_is_refused(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        load_checkpoint(folder(tmp_path, CONFIG, PREPROCESSOR | changes))


@pytest.mark.parametrize(("key", "value"), [
    ("hidden_sizes", [96, 120, 144]), ("neck_hidden_sizes", [16, 32, 48, 64, 80, 96, 384]), ("num_labels", 1000),
    ("id2label", {"0": "cat", "1": "dog"}), ("model_type", "mobilevitv2"), ("expand_ratio", 4.0),
    ("output_stride", 16), ("num_attention_heads", 8), ("hidden_act", "relu"), ("patch_size", 4),
    ("layer_norm_eps", 1e-6),
])  # fmt: skip
def test_a_config_that_contradicts_the_weights_is_refused(tmp_path: Path, key: str, value: object) -> None:
    """Heads, activation and the like change what is computed and no weight shows them."""
    with pytest.raises(CheckpointError, match=f"contradicts the weights.* {key} "):
        load_checkpoint(folder(tmp_path, CONFIG | {key: value}, PREPROCESSOR))


@pytest.mark.parametrize(("key", "value"), [("output_stride", 32), ("atrous_rates", [12, 24, 36])])
def test_another_segmenter_with_the_same_shapes_is_refused(tmp_path: Path, key: str, value: object) -> None:
    config = CONFIG | {"output_stride": 16, "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}
    assert load_checkpoint(folder(tmp_path, config, task="segmentation")).task == "segmentation"

    with pytest.raises(CheckpointError, match=f"contradicts the weights.* {key} "):
        load_checkpoint(folder(tmp_path, config | {key: value}, task="segmentation"))


def test_a_segmenter_of_output_stride_8_has_dilations_of_its_own(tmp_path: Path) -> None:
    """transformers has 6, 12 and 18 unless told otherwise; DeepLabv3 doubles them with half the stride."""
    config = CONFIG | {"output_stride": 8, "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}

    with pytest.raises(CheckpointError, match=r"contradicts the weights.* atrous_rates \[6, 12, 18\]"):
        load_checkpoint(folder(tmp_path, config, task="segmentation"))
    loaded = load_checkpoint(folder(tmp_path, config | {"atrous_rates": [12, 24, 36]}, task="segmentation"))
    assert loaded.model.backbone.output_stride == 8


def test_placeholder_labels_are_no_labels(tmp_path: Path) -> None:
    config = CONFIG | {"id2label": {str(index): f"LABEL_{index}" for index in range(5)}}

    assert load_checkpoint(folder(tmp_path, config)).labels is None


def test_labels_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    config = CONFIG | {"id2label": dict(reversed(LABELS.items()))}

    assert load_checkpoint(folder(tmp_path, config)).labels == tuple(LABELS.values())


def test_labels_with_other_numbers_are_refused(tmp_path: Path) -> None:
    config = CONFIG | {"id2label": {str(index + 1): name for index, name in enumerate(LABELS.values())}}

    with pytest.raises(CheckpointError, match="no name for class 0"):
        load_checkpoint(folder(tmp_path, config))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe\x00"])
def test_settings_that_are_no_json_object_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (folder(tmp_path) / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(tmp_path)


def test_older_weights_of_pytorch_are_found(tmp_path: Path) -> None:
    saved(tmp_path / "pytorch_model.bin", state("huggingface", "classification"))

    assert load_checkpoint(tmp_path).source == "huggingface"


def test_a_folder_without_weights_is_refused_with_the_names_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor pytorch_model.bin"):
        load_checkpoint(tmp_path)


def test_weights_of_timm_in_a_folder_are_not_held_to_its_config(tmp_path: Path) -> None:
    """timm's config.json has settings of its own."""
    saved(tmp_path / "model.safetensors", state("timm", "classification"))
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "mobilevit_xxs", "num_classes": 5}))

    loaded = load_checkpoint(tmp_path)

    assert (loaded.source, loaded.num_classes) == ("timm", 5)
    assert loaded.model.mode == model_for("timm", "classification").mode
