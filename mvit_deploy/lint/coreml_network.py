"""Lint of Core ML's classic networks (.mlmodel), whose layers say neither types nor shapes of their results."""

from typing import Any

from mvit_deploy.lint import Findings, LintResult, Operator, supported
from mvit_deploy.lint.coreml_description import check_description
from mvit_deploy.lint.rules import NEURAL_ENGINE

_TRANSPOSES = ("transpose", "permute")
_RESHAPES = ("reshape", "reshapeStatic", "reshapeDynamic", "reshapeLike", "rankPreservingReshape", "flatten",
             "flattenTo2D", "squeeze", "expandDims")  # fmt: skip
_CUSTOM = "custom"


def lint(spec: Any) -> LintResult:
    """Hold a specification with a classic network to the rules."""
    layers = getattr(spec, spec.WhichOneof("Type")).layers
    operators = [Operator(i, layer.WhichOneof("layer") or "none", layer.name) for i, layer in enumerate(layers)]
    found = Findings(operators)
    check_description(spec, found)
    for layer, operator in zip(layers, operators, strict=True):
        if operator.type == _CUSTOM:
            found.add("custom-layer", operator, what=layer.custom.className)
        if operator.type in supported.ANE_LAYERS:
            found.add("ane-layer", operator)
        if operator.type == "convolution" and any(step > 1 for step in layer.convolution.dilationFactor):
            found.add("ane-layer", operator, what=f"dilation {list(layer.convolution.dilationFactor)}")
        # The declared ranks are a converter's hint; only those that write them can be held to them.
        if any(tensor.rank > supported.CORE_ML_RANK for tensor in layer.outputTensor):
            found.add("coreml-rank", operator, what=f"rank {max(tensor.rank for tensor in layer.outputTensor)}")
    return found.result(operators=operators, transposes=_TRANSPOSES, reshapes=_RESHAPES, consumers=(NEURAL_ENGINE,))
