"""What Xcode and apps show of a Core ML file: descriptions, author, licence, version, and the kind of its preview.

Source: coremltools' guide, "Model Prediction" and "Xcode Model Preview Types"; Model.proto of apple/coremltools.
"""

import json

import coremltools as ct

from mvit_deploy.spec import CLASS_LABEL, CLASS_PROBABILITIES, CLASSES, PROBABILITIES, Contract

PREVIEW_TYPE, PREVIEW_PARAMS = "com.apple.coreml.model.preview.type", "com.apple.coreml.model.preview.params"
_OUTPUTS = {
    CLASS_LABEL: "The most probable class",
    CLASS_PROBABILITIES: "Probability of each class by its label",
    PROBABILITIES: "Probability of each class",
    "logits": "Score of each class before the softmax, channels first",
    CLASSES: "The most probable class of each point",
    "coordinates": "Boxes: centre x, centre y, width, height, in units of the image",
    "confidence": "Probability of each class, without the background, for each box",
    "boxes": "Boxes: left, top, right, bottom, in units of the image",
    "scores": "Probability of each class for each box; class 0 is the background",
    "locations": "Boxes as the head gives them, relative to the anchors",
    "features": "The last map of the network, channels first",
}


def describe(spec: "ct.proto.Model_pb2.Model", contract: Contract) -> None:
    """Fill in a specification's description; what nobody said stays empty."""
    said, about = spec.description.metadata, contract.about
    height, width = contract.image_size
    said.shortDescription = f"MobileViT {contract.mode}, {contract.task}"
    said.author, said.license, said.versionString = about.author or "", about.license or "", about.version or ""
    said.userDefined.update(_preview(contract))
    for feature in spec.description.input:
        if feature.name == contract.input_name:
            how = f"photos: {contract.preprocessing}"
            feature.shortDescription = f"Image, {width} x {height}, {contract.color_order}, 8 bits a channel; {how}"
    for feature in spec.description.output:
        feature.shortDescription = _OUTPUTS.get(feature.name, "")


def _preview(contract: Contract) -> dict[str, str]:
    """Detectors that sort their boxes out are recognised by Xcode without."""
    if contract.is_labelled_classifier:
        return {PREVIEW_TYPE: "imageClassifier"}
    if contract.task == "segmentation" and contract.labels is not None:
        colors = [_color(index) for index in range(len(contract.labels))]
        params = {"labels": contract.labels, "colors": colors}
        return {PREVIEW_TYPE: "imageSegmenter", PREVIEW_PARAMS: json.dumps(params, ensure_ascii=False)}
    return {}


def _color(index: int) -> str:
    """Of a class, as #RRGGBB: the colours of PASCAL VOC's masks (VOCdevkit, VOClabelcolormap.m)."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return "#{:02X}{:02X}{:02X}".format(*channels)
