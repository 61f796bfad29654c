"""A softmax at the end of a TFLite classifier, behind everything that is quantized: probabilities as float32."""

import numpy as np

from exporters._tflite_graph import OP, TYPE, Graph
from mvit_deploy.runtimes.tflite_file import pack, parse, schema
from mvit_deploy.spec import PROBABILITIES

_VERSION = 1  # of SOFTMAX on float32


def append(content: bytes) -> bytes:
    """Let a file that gives a row of logits, float32, give their probabilities instead."""
    graph = Graph(parse(content))
    logits = int(graph.graph.outputs[0])
    result = graph.add_tensor(PROBABILITIES.encode(), graph.graph.tensors[logits].shape, TYPE.FLOAT32)
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = np.array([logits], np.int32), np.array([result], np.int32)
    operator.builtinOptionsType, operator.builtinOptions = (
        schema.BuiltinOptions.SoftmaxOptions,
        schema.SoftmaxOptionsT(),
    )
    operator.builtinOptions.beta = 1.0
    graph.set_code(operator, OP.SOFTMAX, _VERSION)
    graph.operators.append(operator)
    graph.replace_end(logits, result)
    graph.model.signatureDefs[0].outputs[0].name = PROBABILITIES.encode()
    return pack(graph.finished())
