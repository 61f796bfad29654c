"""What a file says of itself against what it was asked to be."""

import numpy as np

from mvit_deploy.spec import (
    CLASS_LABEL,
    CLASS_PROBABILITIES,
    CLASSES,
    IO_TYPES,
    PROBABILITIES,
    Contract,
    InputSpec,
    Interface,
    Output,
    OutputSpec,
)

_LAYOUTS = {"onnx": "NCHW", "tflite": "NHWC", "mlpackage": "NHWC", "mlmodel": "NHWC"}
_PICTURES = ("mlpackage", "mlmodel")  # formats that take 8-bit pictures; the others take bare tensors
DECLARED_FIELDS = (
    "mode", "task", "variant", "suppression", "labels", "normalization", "preprocessing", "about",
)  # fmt: skip
_OUTPUT_FIELDS = ("name", "shape", "dtype", "meaning", "layout")


def faults(contract: Contract, found: Interface) -> list[str]:
    """Every point in which a file's interface, read back, differs from the contract; empty when it agrees."""
    return tensor_faults(contract, found) + declared_faults(contract, found)


def declared_faults(contract: Contract, found: Interface) -> list[str]:
    """Those of what the file's metadata say."""
    fields = [(name, getattr(found.declared, name), getattr(contract, name)) for name in DECLARED_FIELDS]
    return [problem for field in fields for problem in _compare(*field)]


def tensor_faults(contract: Contract, found: Interface) -> list[str]:
    """Those of inputs and outputs."""
    expected = {output.name: output for output in expected_outputs(contract, found.format)}
    actual = {output.name: output for output in found.outputs}
    problems = _compare("outputs", set(actual), set(expected))
    for name in sorted(set(actual) & set(expected)):
        problems += _output_faults(expected[name], actual[name])
    if len(found.inputs) == 1:
        problems += _input_faults(contract, found.inputs[0], found.format)
    else:
        problems.append(f"{len(found.inputs)} inputs, expected 1")
    return problems + _metadata_faults(contract, found)


def expected_outputs(contract: Contract, file_format: str) -> list[OutputSpec]:
    """The outputs that a file of a format has: detections, where it sorts boxes out; of Core ML's classifier a label
    and probabilities; of all others the tensors of the contract."""
    if contract.suppression is not None:
        return _detections(contract, file_format)
    if file_format in _PICTURES and contract.is_labelled_classifier:
        (logits,) = contract.outputs
        return [
            OutputSpec(CLASS_LABEL, (1,), "string", "label"),
            OutputSpec(CLASS_PROBABILITIES, (1, *logits.shape), "float32", PROBABILITIES),
        ]
    return [_expected_output(contract, output, file_format) for output in contract.outputs]


def _detections(contract: Contract, file_format: str) -> list[OutputSpec]:
    """As the target's own operator gives them. -1: as many as are found."""
    if file_format in _PICTURES:
        count = contract.outputs[1].shape[-1] - 1
        shapes = {"confidence": (-1, count), "coordinates": (-1, 4)}
    elif file_format == "tflite":
        kept = contract.suppression.kept
        shapes = {"boxes": (1, kept, 4), "classes": (1, kept), "scores": (1, kept), "count": (1,)}
    else:
        shapes = {"boxes": (-1, 4), "scores": (-1,), CLASSES: (-1,)}
    types = {CLASSES: "int32"} if file_format == "onnx" else {}
    return [OutputSpec(name, shape, types.get(name, "float32"), name) for name, shape in shapes.items()]


def _expected_output(contract: Contract, output: Output, file_format: str) -> OutputSpec:
    batch, dtype = -1 if contract.dynamic_batch else 1, output.dtype
    if contract.io != IO_TYPES[0] and file_format not in _PICTURES:
        dtype = contract.io
    elif file_format == "mlmodel":
        dtype = "float32"  # the classic format has no other
    shape, layout = output.shape, ""
    if file_format == "tflite" and len(shape) == 3:
        shape, layout = (*shape[1:], shape[0]), "NHWC"  # maps are channels-last there
    name = PROBABILITIES if contract.probabilities else output.name
    return OutputSpec(name, (batch, *shape), dtype, name, layout)


def _output_faults(expected: OutputSpec, found: OutputSpec) -> list[str]:
    """The scale of an integer output is calibrated, no promise: there has to be one, and the errors judge it."""
    problems = [
        problem
        for field in _OUTPUT_FIELDS
        for problem in _compare(f"output {expected.name} {field}", getattr(found, field), getattr(expected, field))
    ]
    if found.dtype in ("uint8", "int8") and not found.scale:
        problems.append(f"output {expected.name}: the file says {found.dtype} and no scale")
    return problems


def _input_faults(contract: Contract, found: InputSpec, file_format: str) -> list[str]:
    layout, dtype, scale, zero_point = _LAYOUTS[file_format], contract.io, *contract.input_code
    if file_format in _PICTURES:
        dtype, scale, zero_point = "uint8", None, None
    height, width = contract.image_size
    sides = (3, height, width) if layout == "NCHW" else (height, width, 3)
    batch = -1 if contract.dynamic_batch else 1
    return [
        *_compare("input name", found.name, contract.input_name),
        *_compare("input shape", found.shape, (batch, *sides)),
        *_compare("input type", found.dtype, dtype),
        *_compare("input scale", found.scale, None if scale is None else float(np.float32(scale))),
        *_compare("input zero point", found.zero_point, zero_point),
        *_compare("input layout", found.layout, layout),
        *_compare("colour order", found.color_order, contract.color_order),
        *_compare("value range", found.range, contract.value_range),
    ]


def _metadata_faults(contract: Contract, found: Interface) -> list[str]:
    """Of a picture the format itself says the colour order, which counts; the metadata may not say otherwise."""
    said, actual = found.declared.color_order, {image.color_order for image in found.inputs}
    return _compare("colour order in the metadata", said, contract.color_order) if said not in actual else []


def _compare(what: str, found: object, expected: object) -> list[str]:
    if found == expected:
        return []
    shown, wanted = (sorted(value) if isinstance(value, set) else value for value in (found, expected))
    return [f"{what}: the file says {shown or repr(shown)}, expected {wanted or repr(wanted)}"]
