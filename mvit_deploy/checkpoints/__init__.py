"""Checkpoints of others, brought to this project's keys and to RGB: one module per source."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from mvit_deploy.checkpoints import files, folder, hub, huggingface, kornia, layouts
from mvit_deploy.checkpoints.conventions import PUBLISHED
from mvit_deploy.checkpoints.folder import CONFIG, PREPROCESSOR, Folder
from mvit_deploy.checkpoints.layouts import Recognised
from mvit_deploy.checkpoints.networks import OUTPUT_STRIDES, with_stem_flipped
from mvit_deploy.errors import UsageError
from mvit_deploy.nn.heads.segmentation import with_output_stride
from mvit_deploy.spec import Preprocessing


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model in eval mode that takes RGB, with a checkpoint's weights, and what is known of these.

    model: Classifier, Detector or Segmenter by task, MobileViT where that is "backbone". source: cvnets, timm,
    huggingface or kornia. sha256: of the file with the weights. notes: what was assumed or done on the way. labels: of
    the classes, where the checkpoint names them. preprocessing: of the pictures, where the source has one;
    says_preprocessing: whether it is the checkpoint's own, read from a file beside the weights.
    """

    model: nn.Module
    source: str
    sha256: str
    notes: tuple[str, ...]
    task: str
    mode: str
    num_classes: int | None
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    says_preprocessing: bool = False

    @property
    def variant(self) -> str:
        """paper, or kornia for the network of Kornia's class."""
        return layouts.SOURCES[self.source].VARIANT


def load_checkpoint(path: Path | str, *, mode: str | None = None, num_classes: int | None = None) -> LoadedCheckpoint:
    """Build the model that a checkpoint was made for; source, task, mode and classes are read off its tensors.

    path: a state dict of ml-cvnets, timm, Hugging Face transformers or Kornia, of Kornia's class alone or in the
    nn.Sequential of its documentation, as .pth, .pt, .bin or .safetensors; a folder as transformers saves it; or
    hf:OWNER/NAME, which is downloaded.
    Raises: CheckpointError for a file that is unreadable, unsafe, not finite or of another network, or settings that
    contradict it; UsageError when mode or num_classes are given and contradict it; MissingLibraryError for hf: without
    huggingface_hub.
    """
    opened = folder.open_folder(_local(path))
    tensors, notes = files.read_tensors(opened.weights)
    tensors, placed = kornia.with_linear_in_place(tensors)
    found = layouts.recognise(tensors)
    _check_agrees("--mode", mode, found.mode)
    _check_agrees("--num-classes", num_classes, found.num_classes)
    model = layouts.load(tensors, found)
    preprocessing, labels, more = _settings(opened, found)
    stride = folder.output_stride_of(opened.config, found)
    if stride != OUTPUT_STRIDES[found.layout.task]:
        model = with_output_stride(model, stride)
    if preprocessing is not None and preprocessing.color_order == "BGR":
        model.load_state_dict(with_stem_flipped(model.state_dict()))
    return LoadedCheckpoint(
        model=model,
        source=found.layout.source,
        sha256=files.sha256(opened.weights),
        notes=notes + placed + more,
        task=found.layout.task,
        mode=found.mode,
        num_classes=found.num_classes,
        labels=labels,
        preprocessing=preprocessing,
        says_preprocessing=found.layout.source == huggingface.NAME and opened.preprocessor is not None,
    )


def _local(path: Path | str) -> Path:
    """Where a checkpoint lies, downloaded when it is hf:OWNER/NAME."""
    if str(path).startswith(hub.SCHEME):
        return hub.download(str(path).removeprefix(hub.SCHEME))
    return Path(path)


def _check_agrees(option: str, asked: str | int | None, found: str | int | None) -> None:
    if asked is not None and asked != found:
        what = "have no classes" if found is None else f"are made for {found}"
        raise UsageError(f"{option} {asked} contradicts the weights, which {what}")


def _settings(
    opened: Folder, found: Recognised
) -> tuple[Preprocessing | None, tuple[str, ...] | None, tuple[str, ...]]:
    """Preprocessing, labels and notes: by the files beside the weights where these are transformers', else published.

    Raises: CheckpointError where the files contradict the weights.
    """
    preprocessing = PUBLISHED.get((found.layout.source, found.layout.task))
    if found.layout.source != huggingface.NAME:
        return preprocessing, None, _color_notes(preprocessing, found.layout.source)
    notes, labels = (), None
    if opened.config is None:
        notes += (f"there is no {CONFIG}: mode, task and classes are those of the weights",)
    else:
        folder.check_config(opened.config, found)
        labels = folder.labels_of(opened.config, found.num_classes)
    if opened.preprocessor is None:
        assumed = f"there is no {PREPROCESSOR}: weights for BGR are assumed, as published"
        return preprocessing, labels, (*notes, assumed, *_color_notes(preprocessing, found.layout.source))
    preprocessing = folder.preprocessing_of(opened.preprocessor)
    return preprocessing, labels, (*notes, *_color_notes(preprocessing, PREPROCESSOR))


def _color_notes(preprocessing: Preprocessing | None, whose: str) -> tuple[str, ...]:
    if preprocessing is None or preprocessing.color_order == "RGB":
        return ()
    return (f"the weights are for BGR ({whose}): the first convolution was turned round, the model takes RGB",)
