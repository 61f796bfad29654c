"""Frozen values that travel between the layers: what a file promises and what it says of itself."""

from dataclasses import asdict, dataclass
from math import isfinite

from mvit_deploy.errors import UsageError

PRECISIONS = ("fp32", "fp16", "w8", "w8a16", "w8a8")
QUANTIZED = ("w8", "w8a16", "w8a8")
NEEDS_CALIBRATION = ("w8a8", "w8a16")
PRECISION_ALIASES = {"int8": "w8a8"}
TASKS = ("classification", "detection", "segmentation")
VARIANTS = ("paper", "kornia")
DEFAULT_IMAGE_SIZE = {"classification": (256, 256), "detection": (320, 320), "segmentation": (512, 512)}

LINT_LEVELS = ("off", "warn", "error")  # error: what keeps a file from loading in an app is a mismatch
IO_TYPES = ("float32", "uint8", "int8")  # of a bare tensor that goes in or comes out

INPUT_NAME = "image"
CLASSES = "classes"  # the output that is a map of classes, whole numbers
CLASS_LABEL, CLASS_PROBABILITIES = "classLabel", "classLabel_probs"  # outputs of a Core ML classifier
PROBABILITIES = "probabilities"  # the output of a classifier whose graph ends in a softmax
RESAMPLINGS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")  # Pillow's filters


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
class Preprocessing:
    """Resize, then crop the centre; values are scaled to [0, 1], without mean and deviation.

    resize: the short side in pixels, or (height, width) whatever the picture's proportions, or None for as it is.
    crop: (height, width), None for all of it. resampling: Pillow's name of the filter in lower case, antialiased.
    color_order: what the source's own network takes, RGB or BGR; ours take RGB. half_pixel: where the centre goes when
    the margin is odd, down (transformers) or even (torchvision: to the even side of Python's round). rounding: of the
    longer side of what is resized, down (all of them) or nearest.
    Raises: ValueError for a side that is no positive integer, or another word.
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    resampling: str
    color_order: str
    half_pixel: str = "down"
    rounding: str = "down"

    def __post_init__(self) -> None:
        sizes = (self.resize is None or _is_side(self.resize) or _is_size(self.resize)) and (
            self.crop is None or _is_size(self.crop)
        )
        words = (self.color_order, self.half_pixel, self.rounding, self.resampling)
        known = (("RGB", "BGR"), ("down", "even"), ("down", "nearest"), RESAMPLINGS)
        if not sizes or not all(word in choices for word, choices in zip(words, known, strict=True)):
            raise ValueError(f"not a preprocessing: {asdict(self)}")

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that the source's network sees; None where that depends on the picture."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def __str__(self) -> str:
        resized = "as they are"
        if self.resize is not None:
            resized = f"short side {self.resize}" if isinstance(self.resize, int) else "x".join(map(str, self.resize))
        cropped = "" if self.crop is None else f", centre {self.crop[0]}x{self.crop[1]}"
        return f"{resized}{cropped}, {self.resampling}"


def _is_side(value: object) -> bool:
    return type(value) is int and value > 0


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_side, value))


# This project's own, where a checkpoint says nothing: for a square size "short side 288, centre 256" of ml-cvnets.
OWN = Preprocessing(288, (256, 256), "bilinear", "RGB", rounding="nearest")


@dataclass(frozen=True)
class Normalization:
    """(value - mean) / std of each channel, in the order that the network takes them; values are in [0, 1].

    Raises: ValueError unless there are three finite numbers of each and every deviation is above 0.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std)
        if (len(self.mean), len(self.std)) != (3, 3) or not all(isfinite(x) for x in numbers) or min(self.std) <= 0:
            raise ValueError(f"no mean and deviation of three channels: {asdict(self)}")


@dataclass(frozen=True)
class About:
    """Who made a model, under which licence it may be used, its version, and what it was made from; None is not said.

    weights_sha256: as the report has it, of the checkpoint or of the random weights.
    """

    author: str | None = None
    license: str | None = None
    version: str | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Contract:
    """The one truth about a shipped model: names, size, colour order, value range, labels.

    Exporters write it into each file; runners read it back from the file alone. image_size is (height, width); an image
    is given as 8-bit pixels 0..255, which the file's user scales linearly to value_range. io: type of the input and the
    output of ONNX and TFLite files; Core ML takes pictures. suppression: of a detector whose file sorts its boxes
    out; the file's outputs are then detections, and outputs are what stands before them. probabilities: the file of a
    classifier ends in a softmax; outputs are what stands before it. normalization: done inside the graph.
    preprocessing: how a photo becomes the image.
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
    probabilities: bool = False
    normalization: Normalization | None = None
    preprocessing: Preprocessing = OWN
    about: About = About()

    @property
    def is_labelled_classifier(self) -> bool:
        """Core ML has a form of its own for these, which gives probabilities."""
        return self.task == "classification" and self.labels is not None and self.probabilities

    @property
    def input_code(self) -> tuple[float, int] | tuple[None, None]:
        """Scale and zero point of an integer input, so that its levels are the pixels (int8: less 128); of a float one,
        None twice."""
        if self.io == "float32":
            return None, None
        low, high = self.value_range
        scale = (high - low) / 255
        return scale, round(-low / scale) - (self.io == "int8") * 128


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
class Declared:
    """What a file's metadata give: the part of a contract that tensors cannot say. None is not said."""

    color_order: str
    value_range: tuple[float, float]
    labels: tuple[str, ...] | None = None
    precision: str | None = None
    suppression: Suppression | None = None
    mode: str | None = None
    task: str | None = None
    variant: str | None = None
    normalization: Normalization | None = None
    preprocessing: Preprocessing | None = None
    about: About = About()


@dataclass(frozen=True)
class Interface:
    """What a shipped file says of itself, read from the file."""

    format: str
    opset_or_spec: str
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    declared: Declared

    @property
    def labels(self) -> tuple[str, ...] | None:
        return self.declared.labels

    @property
    def precision(self) -> str | None:
        return self.declared.precision

    @property
    def suppression(self) -> Suppression | None:
        return self.declared.suppression

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
