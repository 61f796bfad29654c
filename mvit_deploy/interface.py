"""What a file says of itself against what it was asked to be."""

from dataclasses import fields

from mvit_deploy.spec import CLASS_LABEL, CLASS_PROBABILITIES, Contract, InputSpec, Interface, OutputSpec

_INPUT_FORMS = {  # type and layout
    "onnx": ("float32", "NCHW"),
    "tflite": ("float32", "NHWC"),
    "mlpackage": ("uint8", "NHWC"),
    "mlmodel": ("uint8", "NHWC"),
}


def faults(contract: Contract, found: Interface) -> list[str]:
    """Every point in which a file's interface, read back, differs from the contract; empty when it agrees."""
    expected = {output.name: output for output in expected_outputs(contract, found.format)}
    actual = {output.name: output for output in found.outputs}
    problems = _compare("outputs", set(actual), set(expected))
    for name in sorted(set(actual) & set(expected)):
        problems += _output_faults(expected[name], actual[name])
    if len(found.inputs) == 1:
        problems += _input_faults(contract, found.inputs[0], found.format)
    else:
        problems.append(f"{len(found.inputs)} inputs, expected 1")
    return problems + _compare("labels", found.labels, contract.labels)


def expected_outputs(contract: Contract, file_format: str) -> list[OutputSpec]:
    """The outputs that a file of a format has: Core ML's classifier gives a label and probabilities, all others one
    tensor."""
    if file_format in ("mlpackage", "mlmodel") and contract.labels is not None:
        return [
            OutputSpec(CLASS_LABEL, (1,), "string", "label"),
            OutputSpec(CLASS_PROBABILITIES, (1, *contract.output_shape), "float32", "probabilities"),
        ]
    batch = -1 if contract.dynamic_batch else 1
    name, shape, layout = contract.output_name, contract.output_shape, ""
    if file_format == "tflite" and len(shape) == 3:
        shape, layout = (*shape[1:], shape[0]), "NHWC"  # maps are channels-last there
    return [OutputSpec(name, (batch, *shape), "float32", name, layout)]


def _output_faults(expected: OutputSpec, found: OutputSpec) -> list[str]:
    return [
        problem
        for field in fields(OutputSpec)
        for problem in _compare(
            f"output {expected.name} {field.name}", getattr(found, field.name), getattr(expected, field.name)
        )
    ]


def _input_faults(contract: Contract, found: InputSpec, file_format: str) -> list[str]:
    dtype, layout = _INPUT_FORMS[file_format]
    height, width = contract.image_size
    sides = (3, height, width) if layout == "NCHW" else (height, width, 3)
    batch = -1 if contract.dynamic_batch else 1
    return [
        *_compare("input name", found.name, contract.input_name),
        *_compare("input shape", found.shape, (batch, *sides)),
        *_compare("input type", found.dtype, dtype),
        *_compare("input layout", found.layout, layout),
        *_compare("colour order", found.color_order, contract.color_order),
        *_compare("value range", found.range, contract.value_range),
    ]


def _compare(what: str, found: object, expected: object) -> list[str]:
    if found == expected:
        return []
    shown, wanted = (sorted(value) if isinstance(value, set) else value for value in (found, expected))
    return [f"{what}: the file says {shown or repr(shown)}, expected {wanted or repr(wanted)}"]
