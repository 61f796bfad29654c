"""A model's folder as Hugging Face saves it: weights, config.json and preprocessor_config.json, held to each other."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mvit_deploy.checkpoints.layouts import Recognised
from mvit_deploy.checkpoints.networks import OUTPUT_STRIDES, PATCH_SIZE
from mvit_deploy.checkpoints.strict import first_five
from mvit_deploy.errors import CheckpointError
from mvit_deploy.nn.config import CONFIGS, HEADS, NORM_EPS
from mvit_deploy.nn.heads.segmentation import PYRAMID_CHANNELS, RATES
from mvit_deploy.preprocessing import RESAMPLING
from mvit_deploy.spec import Preprocessing

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # transformers' label of a class that nobody named
_FILTERS = {int(filter): name for name, filter in RESAMPLING.items()}  # Pillow's numbers, which transformers writes
# What transformers takes where a setting is not in the file: class MobileViTImageProcessor, 4.x, whose filter is the
# published one (5.x has bicubic).
_SHORT_SIDE, _CROP, _RESAMPLING = 224, 256, RESAMPLING["bilinear"]

_DEFAULTS = {"atrous_rates": list(RATES[16])}  # of MobileViTConfig, at every output stride


@dataclass(frozen=True)
class Folder:
    """The file with the weights, and what the settings beside it say; None where there is no such file."""

    weights: Path
    config: dict | None
    preprocessor: dict | None


def open_folder(path: Path) -> Folder:
    """What a folder holds. A single file is a folder without settings.

    Raises: CheckpointError for a folder without weights, or settings that cannot be read.
    """
    if not path.is_dir():
        return Folder(path, None, None)
    weights = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if weights is None:
        raise CheckpointError(f"no checkpoint at {path}: the folder has neither {' nor '.join(WEIGHTS)}")
    return Folder(weights, _read(path / CONFIG), _read(path / PREPROCESSOR))


def _read(path: Path) -> dict | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return content


def check_config(config: dict, found: Recognised) -> None:
    """Hold a config to the weights, and to what no weight shows: strides, heads, activation, dilation.

    Settings that are not in it are taken to be right, but for dilations, which transformers does not fit to the stride.
    Raises: CheckpointError listing the first five contradictions.
    """
    expected = _expected_config(found, output_stride_of(config, found))
    config = _DEFAULTS | config
    given = {key: config[key] for key in expected if key in config}
    if found.num_classes is not None and isinstance(config.get("id2label"), dict):
        expected["id2label"], given["id2label"] = found.num_classes, len(config["id2label"])
    wrong = [f"{key} {value}, not {expected[key]}" for key, value in given.items() if value != expected[key]]
    if wrong:
        raise CheckpointError(
            f"{CONFIG} contradicts the weights, which are MobileViT {found.mode} for {found.layout.task}; "
            f"it says {first_five(wrong)}"
        )


def output_stride_of(config: dict | None, found: Recognised) -> int:
    """The output stride that a config asks for, of those that the task has; else the published one."""
    published = OUTPUT_STRIDES[found.layout.task]
    asked = (config or {}).get("output_stride", published)
    return asked if found.layout.task == "segmentation" and asked in RATES else published


def _expected_config(found: Recognised, output_stride: int) -> dict[str, object]:
    """transformers' settings of the paper's network, by MobileViTConfig's names."""
    config = CONFIGS[found.mode]
    widths = [config.stem_channels, config.channels_1, config.channels_2]
    expected = {
        "model_type": "mobilevit",
        "hidden_sizes": [stage.dim for stage in config.stages],
        "neck_hidden_sizes": [*widths, *(stage.channels for stage in config.stages), config.out_channels],
        "expand_ratio": config.expansion,
        "num_channels": 3,
        "patch_size": PATCH_SIZE[0],
        "num_attention_heads": HEADS,
        "mlp_ratio": 2,
        "hidden_act": "silu",
        "conv_kernel_size": 3,
        "layer_norm_eps": NORM_EPS,
        "qkv_bias": True,
        "output_stride": output_stride,
    }
    if found.num_classes is not None:
        expected["num_labels"] = found.num_classes
    if found.layout.task == "segmentation":
        expected |= {"aspp_out_channels": PYRAMID_CHANNELS, "atrous_rates": list(RATES[output_stride])}
    return expected


def labels_of(config: dict, num_classes: int | None) -> tuple[str, ...] | None:
    """The names of the classes in their order; None where the config has none but LABEL_0, LABEL_1, …

    Raises: CheckpointError when the names are not numbered 0 to num_classes - 1.
    """
    names = config.get("id2label")
    if num_classes is None or not isinstance(names, dict) or not names:
        return None
    if all(_PLACEHOLDER.fullmatch(str(name)) for name in names.values()):
        return None
    numbered = {str(index): str(name) for index, name in names.items()}
    missing = [str(index) for index in range(num_classes) if str(index) not in numbered]
    if missing:
        raise CheckpointError(f"id2label in {CONFIG} has no name for class {', '.join(missing[:5])}")
    return tuple(numbered[str(index)] for index in range(num_classes))


def preprocessing_of(settings: dict) -> Preprocessing:
    """What a preprocessor_config.json asks for, by MobileViTImageProcessor's names, older forms included.

    Raises: CheckpointError for what cannot be read, and for values that the network of the file would not get: another
    scale than 1/255, or a mean and deviation.
    """
    try:
        if not _gives_pixels_over_255(settings):
            raise CheckpointError(
                f"{PREPROCESSOR} asks for other values than pixels / 255, which files here do not get"
            )
        return Preprocessing(
            resize=_resize(settings.get("size", _SHORT_SIDE)) if settings.get("do_resize", True) else None,
            crop=_pair(settings.get("crop_size", _CROP)) if settings.get("do_center_crop", True) else None,
            resampling=_FILTERS[settings.get("resample", _RESAMPLING)],
            color_order="BGR" if settings.get("do_flip_channel_order", True) else "RGB",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"cannot make out size, crop_size, resample and rescale_factor in {PREPROCESSOR}"
        ) from error


def _gives_pixels_over_255(settings: dict) -> bool:
    factor = settings.get("rescale_factor", 1 / 255)
    return settings.get("do_rescale", True) and not settings.get("do_normalize") and abs(255 * factor - 1) < 1e-3


def _resize(size: int | dict[str, int]) -> int | tuple[int, int]:
    if isinstance(size, dict) and "shortest_edge" not in size:
        return _pair(size)
    return _positive(size["shortest_edge"] if isinstance(size, dict) else size)


def _pair(size: int | dict[str, int]) -> tuple[int, int]:
    """(height, width) of a square given by its side, or of both."""
    return tuple(
        _positive(side) for side in ((size["height"], size["width"]) if isinstance(size, dict) else (size, size))
    )


def _positive(side: int) -> int:
    if int(side) < 1:
        raise ValueError(f"a side of {side} pixels")
    return int(side)
