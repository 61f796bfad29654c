"""The order of quantization: algebra, ranges, blame, plan, integers; each done once for all targets and precisions."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from mvit_deploy.nn.channels_last import centred
from mvit_deploy.nn.quantized import QuantizedForm
from mvit_deploy.quantization import equalization, network, plan, ranges, sensitivity
from mvit_deploy.quantization.graph import Graph
from mvit_deploy.quantization.network import Quantized
from mvit_deploy.quantization.plan import Plan
from mvit_deploy.quantization.sensitivity import Blame, Sensitivity

BITS = {"w8": 0, "w8a16": 16, "w8a8": 8}


@dataclass(frozen=True)
class Choice:
    """What a person decides: names of layers (or of parts that hold layers) to keep in float, and who said so."""

    keep_float: tuple[str, ...] = ()
    said_by: str = ""


class Quantizer:
    """Brings one network to integers.

    fused has one output, on which everything is measured; end gives the network that is written, with the same layers.
    photos: float (count, 3, H, W) in [0, 1] and the module's colour order, or None: weights are then rounded to the
    nearest level.
    """

    def __init__(
        self,
        fused: nn.Module,
        size: tuple[int, int],
        photos: Tensor | None,
        choice: Choice,
        on_step: Callable[[str], None],
        end: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        """Raises: UsageError when the module cannot be followed or a layer of the choice is not there."""
        self._on_step, self._photos, self._choice, self._end = on_step, photos, choice, end
        self._done: dict[str, Quantized] = {}  # by precision: the targets share them
        module = centred(fused)
        graph = Graph(module, size)
        if photos is None:
            self._module, self._graph, self._equalized = module, graph, frozenset()
            return
        self._fit, self._check = plan.spread(photos)
        on_step("quantization: equalizing channels through SiLU, observing ranges")
        self._module, self._equalized = equalization.equalized(module, graph, photos)
        self._graph = Graph(self._module, size)
        self._ranges = ranges.observed(self._graph, photos, self._graph, self._equalized)
        if choice.keep_float:
            plan.layers_named(self._graph, choice.keep_float, choice.said_by)

    @cached_property
    def _sensitivity(self) -> Sensitivity:
        count = min(sensitivity.IMAGES, len(self._fit))
        self._on_step(f"quantization: blame, {len(self._graph.layers)} layers on {count} photos")
        return sensitivity.measure(self._graph, self._fit, self._ranges)

    @property
    def blame(self) -> list[Blame]:
        """The layers, the worst first; none without photos."""
        return [] if self._photos is None else self._sensitivity.blame(self._graph)

    @cached_property
    def _searched(self) -> tuple[Plan, Quantized]:
        everything = (self._graph, self._fit, self._check, self._sensitivity)
        if not self._choice.said_by:
            self._on_step("quantization: searching the plan with the least in float")
            return plan.chosen(*everything, bits=BITS["w8a8"])
        self._on_step(f"quantization: fitting the weights of w8a8 with the layers of {self._choice.said_by} in float")
        return plan.decided(*everything, self._choice.keep_float, self._choice.said_by, bits=BITS["w8a8"])

    def plan_for(self, precision: str) -> Plan:
        """The plan of a precision. With float or 16-bit activations only what a person chose stays float."""
        if precision == "w8a8":
            return self._searched[0]
        kept = plan.layers_named(self._graph, self._choice.keep_float, self._choice.said_by)
        return Plan(kept, self._choice.said_by or "nothing needs to stay float", ())

    def settle(self, precision: str) -> None:
        """Do now what a precision needs: its plan is then known."""
        if precision == "w8a8":
            self.plan_for(precision)

    def to_json(self, precision: str) -> dict[str, object]:
        """Plan and blame as a report shows them."""
        return {"plan": self.plan_for(precision).to_json(), "blame": [blame.to_json() for blame in self.blame]}

    def form(self, precision: str) -> QuantizedForm:
        """The network in the integers of a precision, for exporters. A new one each time."""
        if precision not in self._done:
            self._done[precision] = self._integers(precision)
        return self._done[precision].form(self._end(copy.deepcopy(self._module)), self._graph)

    def _integers(self, precision: str) -> Quantized:
        if self._photos is None:
            return network.without_data(self._graph)
        if precision == "w8a8":
            return self._searched[1]
        self._on_step(f"quantization: fitting the weights of {precision}")
        kept = self.plan_for(precision).keep_float
        return network.fitted(self._graph, self._photos, self._ranges, bits=BITS[precision], keep_float=kept)


def choice_of(keep_float: tuple[str, ...], plan_file: Path | None, mode: str) -> Choice:
    """What --keep-float and --plan say together. Raises: UsageError for a file that is no plan of such a network."""
    if plan_file is None:
        return Choice(keep_float, "--keep-float" if keep_float else "")
    said = "--plan and --keep-float" if keep_float else "--plan"
    return Choice((*plan.read(plan_file, mode), *keep_float), said)
