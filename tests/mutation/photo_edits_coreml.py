"""Faults of .mlpackage and .mlmodel files, as edits in place; see photo_edits."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mvit_deploy.runtimes.coreml.package import read_specification, specification_path
from tests.mutation.package import Package
from tests.mutation.photo_faults import SHIFT, NoSuchPlace, say

BGR = 30  # ImageFeatureType.ColorSpace


class ProgramFile:
    """An .mlpackage that holds an ML Program."""

    def __init__(self, path: Path) -> None:
        self.path, self.package = path, Package(path)
        self.said = self.package.spec.description.metadata.userDefined

    def save(self) -> None:
        self.package.save()

    def say(self, key: str, value: object) -> None:
        say(self.said, key, value)

    def set_labels(self, labels: list[str]) -> None:
        """In the classifier itself: apps see no other."""
        if not self.package.operations("classify"):
            self.say("labels", labels)
            return
        (classify,) = self.package.operations("classify")
        values = classify.inputs["classes"].arguments[0].value.immediateValue.list.values
        for value, label in zip(values, labels, strict=True):
            value.immediateValue.tensor.strings.values[0] = label

    def swap_colors(self) -> None:
        self.package.spec.description.input[0].type.imageType.colorSpace = BGR

    def swap_stem(self) -> None:
        convolution = self.package.operations("conv")[0]
        name = self.package.bound(convolution, "weight")
        shape, maker = self.package.shape(name), self.package.operation(name)
        holder, key = convolution, "weight"
        if maker.type != "const":
            holder, key = (
                maker,
                next(key for key in ("quantized_data", "data") if key in (*maker.attributes, *maker.inputs)),
            )
        self.package.edit(holder, key, lambda flat: flat.reshape(shape)[:, ::-1].ravel())

    def _scaling(self) -> SimpleNamespace:
        scaling = self.package.operations("mul")[0]
        name = scaling.outputs[0].name
        takers = [
            o for o in self.package.operations() if any(b.name == name for v in o.inputs.values() for b in v.arguments)
        ]
        return SimpleNamespace(operation=scaling, name=name, taker=takers[0])

    def shift_image(self, by: float) -> None:
        scaling = self._scaling()
        self.package.insert(scaling.taker, "add", scaling.name, y=np.float32(by))

    def scale_image(self, by: float) -> None:
        scaling = self._scaling().operation
        self.package.give(scaling, "y", np.float32(self.package.get(scaling, "y") * by))

    def transpose_image(self) -> None:
        scaling = self._scaling()
        self.package.insert(scaling.taker, "transpose", scaling.name, perm=np.array([0, 1, 3, 2], np.int32))

    def take(self, *_: object, **__: object) -> None:
        raise NoSuchPlace

    count_classes_from = set_rule = take

    def drop_softmax(self) -> None:
        last = self.package.operations("softmax")[-1]
        self.package.redirect(last.outputs[0].name, self.package.bound(last, "x"))
        self.package.remove(last)

    def add_softmax(self) -> None:
        last = self.package.operations("softmax")[-1]
        name = last.outputs[0].name
        takers = [
            o for o in self.package.operations() if any(b.name == name for v in o.inputs.values() for b in v.arguments)
        ]
        self.package.insert(takers[0], "softmax", name, axis=np.int32(-1))

    def move_zero_point(self) -> None:
        makers = [o for o in self.package.operations("dequantize") if "zero_point" in o.inputs]
        if not makers:
            raise NoSuchPlace
        self.package.edit(makers[0], "zero_point", lambda flat: flat.astype(np.int64) + SHIFT)


class NetworkFile:
    """An .mlmodel that holds a neural network."""

    def __init__(self, path: Path) -> None:
        self.path, self.spec = path, read_specification(path)
        self.said = self.spec.description.metadata.userDefined
        self.network = getattr(self.spec, self.spec.WhichOneof("Type"))

    def save(self) -> None:
        specification_path(self.path).write_bytes(self.spec.SerializeToString(deterministic=True))

    def say(self, key: str, value: object) -> None:
        say(self.said, key, value)

    def set_labels(self, labels: list[str]) -> None:
        if self.spec.WhichOneof("Type") == "neuralNetworkClassifier":
            self.network.stringClassLabels.vector[:] = labels
        else:
            self.say("labels", labels)

    def swap_colors(self) -> None:
        self.spec.description.input[0].type.imageType.colorSpace = BGR

    def swap_stem(self) -> None:
        layer = next(layer.convolution for layer in self.network.layers if layer.WhichOneof("layer") == "convolution")
        shape = (layer.outputChannels, layer.kernelChannels, *layer.kernelSize)
        held = layer.weights
        for field, kind in (("float16Value", np.float16), ("rawValue", np.uint8), ("int8RawValue", np.int8)):
            if getattr(held, field):
                swapped = np.frombuffer(getattr(held, field), kind).reshape(shape)[:, ::-1]
                setattr(held, field, swapped.tobytes())
                return
        held.floatValue[:] = np.array(held.floatValue, np.float32).reshape(shape)[:, ::-1].ravel()

    def shift_image(self, by: float) -> None:
        scaler = self.network.preprocessing[0].scaler
        scaler.redBias, scaler.greenBias, scaler.blueBias = by, by, by

    def scale_image(self, by: float) -> None:
        self.network.preprocessing[0].scaler.channelScale *= by

    def transpose_image(self) -> None:
        first = self.network.layers[0]
        layer = type(first)(name="turned", input=[first.input[0]], output=["turned"])
        layer.transpose.axes.extend([0, 1, 3, 2])
        first.input[0] = "turned"
        self.network.layers.insert(0, layer)

    def take(self, *_: object, **__: object) -> None:
        raise NoSuchPlace

    count_classes_from = set_rule = take

    def drop_softmax(self) -> None:
        last = self.network.layers[-1]
        if last.WhichOneof("layer") not in ("softmax", "softmaxND"):
            raise NoSuchPlace
        last.activation.linear.alpha = 1.0  # of a oneof: the softmax goes

    def add_softmax(self) -> None:
        last = self.network.layers[-1]
        again = self.network.layers.add()
        again.CopyFrom(last)
        again.name, again.input[0], last.output[0] = "twice", "once", "once"

    def move_zero_point(self) -> None:
        raise NoSuchPlace
