"""TFLite Metadata, so that MediaPipe Tasks, Task Library and Android Studio take the file as it is.

What each task looks for: mediapipe/tasks/cc/vision/{image_classifier,image_segmenter,object_detector} and
tasks/cc/vision/utils/image_tensor_specs.cc; what each field means: metadata_schema.fbs.
"""

import io
import zipfile

from mvit_deploy.errors import ConversionError
from mvit_deploy.runtimes import tflite_schema as schema
from mvit_deploy.runtimes.tflite_file import add_metadata
from mvit_deploy.runtimes.tflite_metadata import (
    DETECTION_BOX_ORDER,
    DETECTION_NAMES,
    FIELD,
    LABEL_FILE,
    SEGMENTER_FIELD,
    output_names,
)
from mvit_deploy.spec import CLASSES, Contract

_DOES = {
    "classification": "Image classification",
    "detection": "Object detection",
    "segmentation": "Semantic segmentation",
}
_MEANINGS = {
    "logits": "Scores of the classes, before a softmax.",
    "probabilities": "Probability of each class.",
    "scores": "Score of each class, the background included, for every box.",
    "boxes": "Left, top, right and bottom of every box, in units of the image's sides.",
    "locations": "Boxes as shifts and growth of the anchors.",
    "classes": "Class of each pixel.",
    "features": "Features of the image.",
}
_DETECTIONS = {
    "boxes": "Top, left, bottom and right of each detection, in units of the image's sides.",
    "classes": "Class of each detection; the background is not counted.",
    "scores": "Score of each detection, the best first.",
    "count": "How many detections there are.",
}
_GROUP = "detection_result"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that there is
_UNIX = 3


def add(content: bytes, contract: Contract, precision: str) -> bytes:
    """A finished .tflite file with its metadata in it and its labels behind it. Same input, same bytes.

    Nothing may rewrite the flatbuffer afterwards: what is behind it would be lost.
    Raises: ConversionError for labels that a text file cannot hold.
    """
    names = output_names(content)
    content = add_metadata(content, FIELD, schema.encode(schema.MODEL, _model(contract, precision, names)))
    return content if contract.labels is None else _with_file(content, LABEL_FILE, _label_text(contract))


def _model(contract: Contract, precision: str, names: tuple[str, ...]) -> schema.Table:
    graph = {
        "input_tensor_metadata": [_image(contract)],
        "output_tensor_metadata": [_output(contract, name) for name in names],
    }
    version = "1.0.0"  # of the schema, which first had all that is used
    if contract.suppression is not None:
        grouped = [DETECTION_NAMES[name] for name in ("boxes", "classes", "scores")]
        graph["output_tensor_groups"] = [{"name": _GROUP, "tensor_names": grouped}]
        version = "1.2.0"
    if contract.task == "segmentation" and CLASSES not in names:
        options = schema.encode(schema.SEGMENTER, {"activation": _activation(names)})
        graph["custom_metadata"] = [{"name": SEGMENTER_FIELD, "data": options}]
        version = "1.5.0"
    about = {key: getattr(contract.about, key) for key in ("version", "author", "license")}
    return {
        "name": f"mobilevit_{contract.mode} {contract.task}",
        "description": _description(contract, precision),
        "subgraph_metadata": [graph],
        "min_parser_version": version,
    } | {key: value for key, value in about.items() if value is not None}


def _activation(names: tuple[str, ...]) -> int:
    """What scores still need to be probabilities."""
    return schema.ACTIVATION_SOFTMAX if "logits" in names else schema.ACTIVATION_NONE


def _description(contract: Contract, precision: str) -> str:
    how, height, width = contract.preprocessing, *contract.image_size
    scaled = "" if how.size in (None, contract.image_size) else f", scaled to {height}x{width}"
    said = f"{_DOES[contract.task]} by MobileViT {contract.mode}, {precision}. Photos are prepared: {how}{scaled}."
    weights = contract.about.weights_sha256
    return said if weights is None else f"{said} Weights: sha256 {weights}."


# Tensors


def _image(contract: Contract) -> schema.Table:
    """The input. The schema has no value for BGR; UNKNOWN is refused by MediaPipe, which would give RGB."""
    low, high = contract.value_range
    std = 255 / (high - low)
    height, width = contract.image_size
    order, inside = contract.color_order, "" if contract.normalization is None else ", normalized in the graph"
    color = schema.COLOR_RGB if order == "RGB" else schema.COLOR_UNKNOWN
    minimum, maximum = {"float32": (low, high), "uint8": (0, 255), "int8": (-128, 127)}[contract.io]
    size = {"width": width, "height": height}
    return {
        "name": contract.input_name,
        "description": f"Image of {width}x{height} pixels, {order}, values from {low:g} to {high:g}{inside}.",
        "content": {"content_properties": ("ImageProperties", {"color_space": color, "default_size": size})},
        # Of integer inputs too: theirs is applied in front of the quantization (metadata_schema.fbs).
        "process_units": [{"options": ("NormalizationOptions", {"mean": [0 - low * std], "std": [std]})}],
        "stats": {"min": [minimum], "max": [maximum]},
    }


def _output(contract: Contract, name: str) -> schema.Table:
    if contract.suppression is not None:
        return _detection(contract, name)
    table = {"name": name, "description": _MEANINGS.get(name, name)}
    if name == "boxes":
        return table | {"content": _boxes((0, 1, 2, 3))}
    table["content"] = {"content_properties": ("FeatureProperties", {})}
    if contract.task == "segmentation":
        table["content"] = {
            "content_properties": ("ImageProperties", {"color_space": schema.COLOR_GRAYSCALE}),
            "range": {"min": 1, "max": 2},  # the axes of the map
        }
    if name in ("probabilities", "scores"):
        table["stats"] = {"min": [0], "max": [1]} if contract.io == "float32" else {}
    if contract.labels is not None and name in ("logits", "probabilities", "scores", CLASSES):
        table["associated_files"] = [_label_file(schema.VALUE_LABELS if name == CLASSES else schema.AXIS_LABELS)]
    return table


def _detection(contract: Contract, name: str) -> schema.Table:
    """An output of TFLite_Detection_PostProcess, by the name that MediaPipe looks for."""
    table = {"name": DETECTION_NAMES[name], "description": _DETECTIONS[name]}
    feature = {"content_properties": ("FeatureProperties", {})}
    if name == "boxes":
        table["content"] = _boxes(DETECTION_BOX_ORDER)
    else:
        table["content"] = feature if name == "count" else feature | {"range": {"min": 2, "max": 2}}
    if name == "classes" and contract.labels is not None:
        table["associated_files"] = [_label_file(schema.VALUE_LABELS)]
    return table


def _boxes(order: tuple[int, ...]) -> schema.Table:
    properties = {"index": list(order), "type": schema.BOUNDARIES, "coordinate_type": schema.RATIO}
    return {"content_properties": ("BoundingBoxProperties", properties), "range": {"min": 2, "max": 2}}


# Labels


def _label_file(kind: int) -> schema.Table:
    return {"name": LABEL_FILE, "description": "A label for each class, one a line.", "type": kind}


def _label_text(contract: Contract) -> str:
    """Where boxes are sorted out, without the background: the operator's class 0 is the first behind it."""
    labels = contract.labels if contract.suppression is None else contract.labels[1:]
    for label in labels:
        if not label.strip() or "\n" in label or "\r" in label:
            raise ConversionError(
                f"{label!r} cannot be a label of a TFLite file: readers go by lines and skip empty ones"
            )
    return "".join(f"{label}\n" for label in labels)


def _with_file(content: bytes, name: str, text: str) -> bytes:
    """The content with an archive behind it. MediaPipe reads files that are stored as they are only."""
    joined = io.BytesIO(content)
    joined.seek(0, io.SEEK_END)  # places in the archive count from the beginning of the whole
    with zipfile.ZipFile(joined, "w") as archive:
        info = zipfile.ZipInfo(name, _ZIP_TIME)
        info.create_system, info.external_attr = _UNIX, 0o644 << 16
        archive.writestr(info, text.encode("utf-8"), zipfile.ZIP_STORED)
    return joined.getvalue()
