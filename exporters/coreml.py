"""Core ML: an ML Program (.mlpackage) or, for old iOS, a classic neural network (.mlmodel)."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import torch
from torch import Tensor, nn

from exporters._coreml_quantized import check_levels, marked, store_levels
from mvit_deploy.errors import ConversionError
from mvit_deploy.metadata import entries
from mvit_deploy.nn.heads.detection import Centred
from mvit_deploy.nn.quantized import QuantizedForm, check_form
from mvit_deploy.spec import CLASS_PROBABILITIES, PROBABILITIES, Contract, Settings


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Make modules that are not imported yet unimportable for a while."""
    blocked = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(blocked))
    try:
        yield
    finally:
        for name in blocked:
            del sys.modules[name]


# coremltools imports every framework that it could convert from, TensorFlow alone takes 7 s; none is needed here.
with _without("tensorflow", "sklearn", "xgboost", "libsvm"):
    import coremltools as ct
    from coremltools.models.neural_network import quantization_utils

    from exporters._coreml_description import describe
    from exporters._coreml_nms import in_pipeline, raw_shapes

_PRECISIONS = {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}  # of the arithmetic
_PRECISIONS |= dict.fromkeys(("w8", "w8a8"), ct.precision.FLOAT16)
_MIN_IOS_INT8 = 17  # quantize and dequantize
_CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"


class WithSoftmax(nn.Module):
    """Probabilities: what Core ML's classifier outputs and Vision expect."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> Tensor:
        return self.module(image).softmax(dim=-1)


@dataclass(frozen=True)
class Lowered:
    """The traced deployment form."""

    traced: torch.jit.ScriptModule
    contract: Contract
    settings: Settings
    form: QuantizedForm | None = None


def lower(module: nn.Module, contract: Contract, settings: Settings) -> Lowered:
    """Trace. Labels of a classifier have to differ from each other."""
    form = module if isinstance(module, QuantizedForm) else None
    if form is not None:
        _check_offered(form, settings)
        module = marked(form, compress=settings.format == "mlpackage")
    if contract.probabilities:
        module = WithSoftmax(module)
    if contract.suppression is not None:
        module = Centred(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # static sizes are read as Python ints on purpose; tracing is deprecated
        traced = torch.jit.trace(module.eval(), torch.zeros(1, 3, *contract.image_size), check_trace=False)
    return Lowered(traced, contract, settings, form)


def _check_offered(form: QuantizedForm, settings: Settings) -> None:
    if form.ranges and (settings.format == "mlmodel" or settings.min_ios < _MIN_IOS_INT8):
        raise ConversionError(f"integer activations need an mlpackage for iOS {_MIN_IOS_INT8} or later")


def write(lowered: Lowered, precision: str, path: Path) -> None:
    """Write an .mlpackage folder or an .mlmodel file, the same bytes each time.

    Raises: ConversionError when coremltools gives something else than was asked, or a quantized precision lacks its
    form; OSError.
    """
    check_form(lowered.form, precision)
    if lowered.settings.format == "mlmodel":
        spec = _ended(_neural_network(lowered, precision), lowered.contract)
        _describe(spec, lowered.contract, precision)
        path.write_bytes(spec.SerializeToString(deterministic=True))
        return
    model = _program(lowered, precision)
    model.save(str(path))
    spec_path = _fix_identifiers(path)
    spec = _ended(ct.utils.load_spec(str(spec_path)), lowered.contract)
    _describe(spec, lowered.contract, precision)
    spec_path.write_bytes(spec.SerializeToString(deterministic=True))


def _ended(spec: "ct.proto.Model_pb2.Model", contract: Contract) -> "ct.proto.Model_pb2.Model":
    return spec if contract.suppression is None else in_pipeline(spec, contract)


def _program(lowered: Lowered, precision: str) -> ct.models.MLModel:
    model = _convert(
        lowered,
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, f"iOS{lowered.settings.min_ios}"),
        compute_precision=_PRECISIONS[precision],
    )
    if lowered.form is not None:
        check_levels(model._mil_program, lowered.form)
    return model


def _neural_network(lowered: Lowered, precision: str) -> "ct.proto.Model_pb2.Model":
    """The classic format, which runs from iOS 13 on, from 14 on where it resizes. fp16 is the storage of its weights;
    Apple's runtime chooses what it computes in."""
    spec = _convert(lowered, convert_to="neuralnetwork").get_spec()
    if precision == "fp16":
        halved = quantization_utils.quantize_weights(ct.models.MLModel(spec, skip_model_load=True), nbits=16)
        spec = halved if isinstance(halved, ct.proto.Model_pb2.Model) else halved.get_spec()  # a model on a Mac
    if lowered.form is not None:
        store_levels(spec, lowered.form)
    _name_outputs(spec, lowered.contract)
    return spec


def _name_outputs(spec: "ct.proto.Model_pb2.Model", contract: Contract) -> None:
    """Give the classic format the output names of a program's classifier, and the array shape that it leaves out."""
    outputs = spec.description.output
    if contract.is_labelled_classifier:
        ct.utils.rename_feature(spec, spec.description.predictedProbabilitiesName, CLASS_PROBABILITIES)
        outputs.sort(key=lambda feature: feature.name)
        return
    arrays = _arrays(contract)
    for feature in outputs:
        feature.type.multiArrayType.shape[:] = arrays[feature.name].shape


def _arrays(contract: Contract) -> dict[str, np.ndarray]:
    """By name, arrays of the shape and type of what the network gives, where it is no classifier of Core ML's."""
    if contract.suppression is not None:
        return {name: np.empty(shape, np.float32) for name, shape in raw_shapes(contract).items()}
    names = {output: PROBABILITIES if contract.probabilities else output.name for output in contract.outputs}
    return {name: np.empty((1, *output.shape), output.dtype) for output, name in names.items()}


def _convert(lowered: Lowered, **form: object) -> ct.models.MLModel:
    contract = lowered.contract
    low, high = contract.value_range
    image = ct.ImageType(
        name=contract.input_name,
        shape=(1, 3, *contract.image_size),
        scale=(high - low) / 255,
        bias=[low] * 3,
        color_layout=getattr(ct.colorlayout, contract.color_order),
    )
    tensors = [ct.TensorType(name=name, dtype=array.dtype.type) for name, array in _arrays(contract).items()]
    is_classifier = contract.is_labelled_classifier
    return ct.convert(
        lowered.traced,
        inputs=[image],
        outputs=None if is_classifier else tensors,
        classifier_config=ct.ClassifierConfig(list(contract.labels)) if is_classifier else None,
        skip_model_load=True,  # loading needs macOS and would compile the model
        **form,
    )


def _describe(spec: "ct.proto.Model_pb2.Model", contract: Contract, precision: str) -> None:
    """Put the contract into the metadata, and take out what changes from day to day."""
    said = spec.description.metadata
    said.userDefined.pop(_CONVERSION_DATE, None)
    said.userDefined.update(entries(contract, precision))
    describe(spec, contract)


def _fix_identifiers(package: Path) -> Path:
    """Replace the manifest's random identifiers by ones made from the paths; return where the specification lies.

    Raises: ConversionError when the package has no root model.
    """
    manifest_path = package / "Manifest.json"
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    items, root = manifest["itemInfoEntries"], manifest["rootModelIdentifier"]
    if root not in items:
        raise ConversionError("coremltools wrote a package without a root model")
    new = {old: str(uuid5(NAMESPACE_URL, item["path"])) for old, item in items.items()}
    manifest["itemInfoEntries"] = {new[old]: item for old, item in items.items()}
    manifest["rootModelIdentifier"] = new[root]
    manifest_path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")
    return package / "Data" / items[root]["path"]
