"""Integer inputs and outputs of w8a8 files, as camera pipelines and accelerators take them.

The levels of the input are the 8-bit pixels, as they are for uint8 and less 128 for int8. Layers read it directly where
they compute in its very code. Conversions as TensorFlow's converter writes them for inference_input_type and
inference_output_type.
"""

from exporters._tflite_graph import OP, TYPE, Graph
from exporters._tflite_integers import int8_code, integers, native_code
from mvit_deploy.errors import ConversionError
from mvit_deploy.nn.quantized import Affine, Range
from mvit_deploy.spec import Contract

_TYPES = {"uint8": TYPE.UINT8, "int8": TYPE.INT8}
_ABOVE_INT8 = {"uint8": 128, "int8": 0}  # how far a type's levels lie above int8's
_DEQUANTIZE_VERSIONS = {"uint8": 1, "int8": 2}
_QUANTIZE_VERSION = 1  # to 8 bits, from float and from the other 8 bits alike; op_version.cc as in _tflite_quantized


def check_offered(contract: Contract, precision: str) -> None:
    """Raises: ConversionError for integer inputs and outputs of a file that does not compute in int8."""
    if contract.io != "float32" and precision != "w8a8":
        raise ConversionError(f"{contract.io} inputs and outputs belong to w8a8, not to {precision}")


def take_integers(graph: Graph, contract: Contract) -> None:
    """Make the input an integer tensor, before the layers are rewritten; of its forms, what they do not read is dropped
    with everything that nothing reads."""
    image, io = int(graph.graph.inputs[0]), contract.io
    scale, zero_point = contract.input_code
    code = Affine(scale, zero_point - _ABOVE_INT8[io])
    given = exact = graph.like(image, "/given", _TYPES[io], Affine(scale, zero_point))
    if io == "uint8":
        exact = graph.like(image, "/int8", TYPE.INT8, code)
        graph.convert(given, exact, OP.QUANTIZE, _QUANTIZE_VERSION)
    graph.convert(given, image, OP.DEQUANTIZE, _DEQUANTIZE_VERSIONS[io])
    graph.codes[image, code] = exact
    graph.replace_end(image, given)


def give_integers(graph: Graph, io: str, observed: Range | None) -> None:
    """Make the output an integer tensor: that of the integer layer it comes from, else the float one quantized.

    observed: the range that a float output is clipped to.
    Raises: ConversionError when it is needed and not known.
    """
    result = int(graph.graph.outputs[0])
    code = native_code(graph, result)
    if code is None and observed is None:
        raise ConversionError(f"the output comes from a float layer and no range was observed, which {io} needs")
    source = result if code is None else integers(graph, result, code, TYPE.INT8)
    if code is None or io == "uint8":
        code = code or int8_code(observed)
        given = graph.like(result, "/given", _TYPES[io], Affine(code.scale, code.zero_point + _ABOVE_INT8[io]))
        graph.convert(source, given, OP.QUANTIZE, _QUANTIZE_VERSION)
        source = given
    graph.replace_end(result, source)
