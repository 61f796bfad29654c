"""Frozen values that travel between the layers: what a file promises and what it says of itself."""

import json
from dataclasses import asdict, dataclass, field

from mvit_deploy.errors import DamagedFileError, UsageError

PRECISIONS = ("fp32", "fp16", "w8", "w8a16", "w8a8")
QUANTIZED = ("w8", "w8a16", "w8a8")
NEEDS_CALIBRATION = ("w8a8", "w8a16")
PRECISION_ALIASES = {"int8": "w8a8"}
TASKS = ("classification", "detection", "segmentation")
VARIANTS = ("paper", "kornia")
DEFAULT_IMAGE_SIZE = {"classification": (256, 256), "detection": (320, 320), "segmentation": (512, 512)}

IO_TYPES = ("float32", "uint8", "int8")  # of a bare tensor that goes in or comes out

INPUT_NAME = "image"
CLASSES = "classes"  # the output that is a map of classes, whole numbers
CLASS_LABEL, CLASS_PROBABILITIES = "classLabel", "classLabel_probs"  # outputs of a Core ML classifier
METADATA_PREFIX = "mvit_deploy."


@dataclass(frozen=True)
class Output:
    """An output that is promised. Its name is also what it means: logits, features, boxes, scores, …

    shape: for one image, without the batch, as PyTorch lays it out.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """Of a file that takes and gives float numbers."""
        return "int32" if self.name == CLASSES else "float32"


@dataclass(frozen=True)
class Suppression:
    """How overlapping boxes are sorted out inside a file: of those of one class the best stays.

    A box counts where its score is above score_threshold, and goes where its intersection over union with a better one
    of its class that stays is above iou_threshold. kept_per_class, kept: no more stay; None is no limit. one_class: a
    box is of its most probable class alone; else it may stay for each class.
    """

    score_threshold: float = 0.05
    iou_threshold: float = 0.5
    kept_per_class: int | None = 200
    kept: int | None = None
    one_class: bool = False


# ml-cvnets v0.1's defaults (options of models/detection/ssd.py), as far as the target's own operator can say them.
SUPPRESSIONS = {
    "onnx": Suppression(),
    "coreml": Suppression(kept_per_class=None, one_class=True),
    "tflite": Suppression(kept=200),  # of all classes: its outputs have a fixed size
}


@dataclass(frozen=True)
class Contract:
    """The one truth about a shipped model: names, size, colour order, value range, labels.

    Exporters write it into each file; runners read it back from the file alone. image_size is (height, width); an image
    is given as 8-bit pixels 0..255, which the file's user scales linearly to value_range. io: type of the input and the
    output of ONNX and TFLite files; Core ML takes pictures. suppression: of a detector whose file sorts its boxes
    out; the file's outputs are then detections, and outputs are what stands before them.
    """

    mode: str
    task: str
    variant: str
    image_size: tuple[int, int]
    outputs: tuple[Output, ...]
    labels: tuple[str, ...] | None = None
    color_order: str = "RGB"
    value_range: tuple[float, float] = (0.0, 1.0)
    dynamic_batch: bool = False
    input_name: str = INPUT_NAME
    io: str = IO_TYPES[0]
    suppression: Suppression | None = None

    @property
    def is_labelled_classifier(self) -> bool:
        """Core ML has a form of its own for these."""
        return self.task == "classification" and self.labels is not None

    @property
    def input_code(self) -> tuple[float, int] | tuple[None, None]:
        """Scale and zero point of an integer input, so that its levels are the pixels (int8: less 128); of a float one,
        None twice."""
        if self.io == "float32":
            return None, None
        low, high = self.value_range
        scale = (high - low) / 255
        return scale, round(-low / scale) - (self.io == "int8") * 128

    def to_metadata(self, precision: str) -> dict[str, str]:
        """The part that tensors cannot say, as strings, for the metadata of any format."""
        values = {
            "precision": precision,
            "mode": self.mode,
            "task": self.task,
            "variant": self.variant,
            "color_order": self.color_order,
            "value_range": json.dumps(self.value_range),
        }
        if self.labels is not None:
            values["labels"] = json.dumps(self.labels, ensure_ascii=False)
        if self.suppression is not None:
            values["suppression"] = json.dumps(asdict(self.suppression))
        return {METADATA_PREFIX + key: value for key, value in values.items()}


@dataclass(frozen=True)
class InputSpec:
    """An input as the file declares it. -1 is a free dimension.

    An integer tensor stands for scale * (level - zero_point), values in range; None for float ones and for pictures.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str  # NCHW or NHWC
    range: tuple[float, float]
    color_order: str  # RGB or BGR
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class OutputSpec:
    """An output as the file declares it. meaning: of logits, features, boxes, … the name; probabilities and label of
    Core ML's classifiers.

    An integer tensor stands for scale * (level - zero_point); None for all others.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    meaning: str
    layout: str = ""  # NCHW or NHWC of a map, nothing for other outputs
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Interface:
    """What a shipped file says of itself, read from the file."""

    format: str
    opset_or_spec: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    labels: tuple[str, ...] | None = None
    precision: str | None = None
    suppression: Suppression | None = None

    def check_stackable(self) -> None:
        """Raises: UsageError when outputs of several images cannot be one array, since each has its own number."""
        if self.suppression is not None:
            raise UsageError("the file sorts its boxes out, another number on each image; runtimes.suppressed runs it")


@dataclass(frozen=True)
class Settings:
    """What a person may choose about the form of a file."""

    format: str
    min_ios: int | None = None
    dynamic_batch: bool = False
    io: str = IO_TYPES[0]


@dataclass(frozen=True)
class DeclaredMetadata:
    """Colour order, value range, labels, precision and suppression as a file's metadata give them."""

    color_order: str
    value_range: tuple[float, float]
    labels: tuple[str, ...] | None = field(default=None)
    precision: str | None = None
    suppression: Suppression | None = None


def read_metadata(entries: dict[str, str]) -> DeclaredMetadata:
    """Read back what Contract.to_metadata wrote.

    Raises: DamagedFileError when the colour order or range is missing or senseless, or the suppression is.
    """
    try:
        color_order = entries[METADATA_PREFIX + "color_order"]
        low, high = (float(v) for v in json.loads(entries[METADATA_PREFIX + "value_range"]))
        labels = entries.get(METADATA_PREFIX + "labels")
        declared = tuple(str(label) for label in json.loads(labels)) if labels is not None else None
        suppression = entries.get(METADATA_PREFIX + "suppression")
        rule = None if suppression is None else _read_rule(suppression)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"the file's metadata do not give what they should ({error!r})") from error
    if color_order not in ("RGB", "BGR"):
        raise DamagedFileError(f"the file's metadata name an unknown colour order {color_order!r}")
    return DeclaredMetadata(color_order, (low, high), declared, entries.get(METADATA_PREFIX + "precision"), rule)


def _read_rule(text: str) -> Suppression:
    """Raises: TypeError, ValueError for what is no suppression."""
    rule = Suppression(**json.loads(text))
    thresholds, limits = (rule.score_threshold, rule.iou_threshold), (rule.kept_per_class, rule.kept)
    are_shares = all(type(each) is float and 0 <= each <= 1 for each in thresholds)
    are_counts = all(each is None or (type(each) is int and each > 0) for each in limits)
    if not (are_shares and are_counts and type(rule.one_class) is bool):
        raise ValueError(f"no suppression: {text}")
    return rule
