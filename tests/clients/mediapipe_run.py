"""Runs in an environment with MediaPipe and without this project: reads tasks as JSON, writes what MediaPipe says.

A task: {"do": classify | segment | detect, "model": path, "images": path of a .npy, uint8 (n, height, width, 3), or of
an .npz of images of any sizes}, or {"do": "metadata", "model": path}. classify may have "regions", an image each: left,
top, right and bottom of what is looked at, in units of its sides. segment has "save", where its masks go as .npz. The
answer has "results", one an image, or "error", MediaPipe's reason.
"""

import io
import json
import sys
import zipfile
from pathlib import Path

import mediapipe as mp
import numpy as np
from mediapipe.tasks.metadata import image_segmenter_metadata_schema_py_generated as segmenter_schema
from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata_schema
from mediapipe.tasks.metadata import schema_py_generated as model_schema
from mediapipe.tasks.python import BaseOptions, vision
from mediapipe.tasks.python.components.containers.rect import RectF


def images_of(task):
    given = np.load(task["images"])
    for pixels in given.values() if isinstance(given, np.lib.npyio.NpzFile) else given:
        yield mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(pixels))


def classify(task):
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=task["model"]))
    images = list(images_of(task))
    regions = task.get("regions", [(0, 0, 1, 1)] * len(images))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        found = [classifier.classify(image, looking_at(region)) for image, region in zip(images, regions, strict=True)]
    return [[category(each) for each in result.classifications[0].categories] for result in found]


def looking_at(region):
    """None for the whole: MediaPipe then takes another path, that of every app that asks for nothing."""
    if tuple(region) == (0, 0, 1, 1):
        return None
    left, top, right, bottom = region
    return vision.ImageProcessingOptions(region_of_interest=RectF(left=left, top=top, right=right, bottom=bottom))


def detect(task):
    options = vision.ObjectDetectorOptions(base_options=BaseOptions(model_asset_path=task["model"]))
    with vision.ObjectDetector.create_from_options(options) as detector:
        found = [detector.detect(image).detections for image in images_of(task)]
    return [[single for each in detections for single in singles(each)] for detections in found]


def segment(task):
    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=task["model"]),
        output_confidence_masks=True,
        output_category_mask=True,
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        found = [segmenter.segment(image) for image in images_of(task)]
        confidence = [np.stack([mask.numpy_view().copy() for mask in each.confidence_masks]) for each in found]
        category_masks = [each.category_mask.numpy_view().copy() for each in found]
        labels = list(segmenter.labels)
    np.savez(task["save"], confidence=np.stack(confidence), category=np.stack(category_masks))
    return [labels] * len(found)


def metadata(task):
    """The metadata by MediaPipe's own generated schema, as plain values, and the files behind the model."""
    content = Path(task["model"]).read_bytes()
    model = model_schema.ModelT.InitFromObj(model_schema.Model.GetRootAs(content, 0))
    buffers = {entry.name.decode(): model.buffers[entry.buffer].data for entry in model.metadata}
    payload = bytes(buffers["TFLITE_METADATA"])
    root = metadata_schema.ModelMetadata.GetRootAs(payload, 0)
    values = plain(metadata_schema.ModelMetadataT.InitFromObj(root))
    for entry in values["subgraphMetadata"][0]["customMetadata"] or []:
        options = segmenter_schema.ImageSegmenterOptions.GetRootAs(bytes(entry["data"]), 0)
        entry["data"] = plain(segmenter_schema.ImageSegmenterOptionsT.InitFromObj(options))
    files = {}
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {name: archive.read(name).decode("utf-8") for name in archive.namelist()}
    return [{"identifier": payload[4:8].decode(), "values": values, "files": files}]


def plain(value):
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(each) for each in value]
    if hasattr(value, "__dict__"):
        return {"table": type(value).__name__, **{key: plain(each) for key, each in vars(value).items()}}
    return value


def category(found):
    return {"label": found.category_name, "score": found.score, "index": found.index}


def singles(found):
    """A detection for each class: MediaPipe joins those of one box (DetectionsDeduplicateCalculator)."""
    box = found.bounding_box
    sides = {"box": [box.origin_x, box.origin_y, box.width, box.height]}
    return [category(each) | sides for each in found.categories]


DO = {"classify": classify, "detect": detect, "segment": segment, "metadata": metadata}


def answer(task):
    try:
        return {"results": DO[task["do"]](task)}
    except (ValueError, RuntimeError, OSError) as error:  # what MediaPipe raises for a model that it does not take
        return {"error": str(error)}


if __name__ == "__main__":
    json.dump([answer(task) for task in json.load(sys.stdin)], sys.stdout)
