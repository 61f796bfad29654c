"""The integers that stand for a float tensor of a TFLite file: moved, rescaled or quantized, made once."""

import copy

import numpy as np

from exporters._tflite_graph import OP, TYPE, Graph
from mvit_deploy.nn.quantized import Affine, Range
from mvit_deploy.runtimes.tflite_file import schema

_LAYOUT = {OP.PAD: 2, OP.RESHAPE: 1, OP.TRANSPOSE: 2}  # keep values; with the version that takes int8


def int8_code(range_: Range) -> Affine:
    """The levels -128 … 127 of a range."""
    code = range_.unsigned(8)
    return Affine(code.scale, code.zero_point - 128)


def integers(graph: Graph, index: int, code: Affine, type_: int) -> int:
    """The integer tensor of a float tensor in a code, made once: moved, rescaled or quantized."""
    if (index, code) in graph.codes:
        return graph.codes[index, code]
    producer = graph.producers.get(index)
    moved = producer is not None and graph.code_of(producer) in _LAYOUT and type_ == TYPE.INT8
    if moved and (graph.code_of(producer) == OP.PAD or native_code(graph, index) is not None):
        made = _move(graph, producer, index, code, type_)
    else:
        made = graph.like(index, f"/integer{code.scale:.6g}", type_, code)
        source, _ = graph.native.get(index, (index, None))
        graph.convert(source, made, OP.QUANTIZE, version=1 if type_ == TYPE.INT8 else 2)
    graph.codes[index, code] = made
    return made


def _move(graph: Graph, producer: schema.OperatorT, index: int, code: Affine, type_: int) -> int:
    """The same layout operator on integers; PAD fills with the zero point by itself."""
    source = integers(graph, int(producer.inputs[0]), code, type_)
    made = graph.like(index, f"/integer{code.scale:.6g}", type_, code)
    moved = copy.copy(producer)
    moved.inputs = np.array([source, *producer.inputs[1:]], np.int32)
    moved.outputs = np.array([made], np.int32)
    graph.set_code(moved, graph.code_of(producer), _LAYOUT[graph.code_of(producer)])
    graph.operators.append(moved)
    return made


def native_code(graph: Graph, index: int) -> Affine | None:
    """The code of the integer layer that a tensor comes from through layout operators alone; None without one."""
    while index not in graph.native:
        producer = graph.producers.get(index)
        if producer is None or graph.code_of(producer) not in _LAYOUT:
            return None
        index = int(producer.inputs[0])
    return graph.native[index][1]
