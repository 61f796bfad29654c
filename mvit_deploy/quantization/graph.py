"""A deployment form as a flat list of operators with named layers, run operator by operator.

Quantization looks between the operators: what enters and leaves each layer, for all images, kept while others run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from mvit_deploy.errors import UsageError

ATEN = torch.ops.aten
_LAYERS = (ATEN.conv2d.default, ATEN.linear.default)
_LAYOUT = {
    ATEN.reshape.default,
    ATEN.view.default,
    ATEN.permute.default,
    ATEN.transpose.int,
    ATEN.flatten.using_ints,
    ATEN.dropout.default,
}
# Images that go through an operator together. The maps of more are so large that the memory of each is asked of the
# system anew and given back at once, which takes longer than the arithmetic.
CHUNK = 4

Values = dict[str, Tensor]
Change = Callable[[fx.Node, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or linear layer. name: of its module; activation: name of the SiLU behind it, "" where none is;
    is_rectified: a ReLU is behind it."""

    name: str
    node: fx.Node
    weight: str
    bias: str | None
    activation: str
    is_rectified: bool = False

    @property
    def is_conv(self) -> bool:
        return self.node.target == ATEN.conv2d.default

    def option(self, place: int, default: object) -> object:
        """stride (3), padding (4), dilation (5) or groups (6) of a convolution."""
        return self.node.args[place] if len(self.node.args) > place else default

    @property
    def groups(self) -> int:
        return int(self.option(6, 1)) if self.is_conv else 1


class Graph:
    """The operators of a module, in order. parameters: what it holds, by name; replaced to run with other weights."""

    def __init__(self, module: nn.Module, size: tuple[int, int]) -> None:
        """Raises: UsageError when torch.export cannot follow the module, or a layer of it runs more than once."""
        self.input, self.output = "", ""
        self.image: fx.Node | None = None
        self.parameters: Values = {}
        self.nodes: list[fx.Node] = []
        with torch.no_grad():
            for node in _exported(module, size).graph.nodes:
                self._add(node, module)
        self._place = {node.name: place for place, node in enumerate(self.nodes)}
        self._last_use = {source.name: i for i, node in enumerate(self.nodes) for source in node.all_input_nodes}
        self.layers: dict[str, Layer] = {}
        for layer in (self._layer(node) for node in self.nodes if node.target in _LAYERS):
            if layer is not None and layer.name in self.layers:
                raise UsageError(f"the module cannot be quantized: its layer {layer.name} runs more than once")
            if layer is not None:
                self.layers[layer.name] = layer

    def _add(self, node: fx.Node, module: nn.Module) -> None:
        if node.op == "get_attr":
            self.parameters[node.name] = _attribute(module, str(node.target)).detach().clone()
        elif node.op == "placeholder":
            self.input, self.image = node.name, node
        elif node.op == "output":
            results = node.args[0]
            self.output = (results[0] if isinstance(results, tuple | list) else results).name
        elif node.op == "call_function":
            self.nodes.append(node)

    def _layer(self, node: fx.Node) -> Layer | None:
        """None for a product with a computed weight."""
        weight, bias = node.args[1], node.args[2] if len(node.args) > 2 else None
        if weight.name not in self.parameters:
            return None
        name = str(weight.target).rpartition(".")[0]
        user = next(iter(node.users)) if len(node.users) == 1 else None
        activation = _module_of(user) if user is not None and user.target == ATEN.silu.default else ""
        is_rectified = user is not None and user.target == ATEN.relu.default
        return Layer(name, node, weight.name, None if bias is None else bias.name, activation, is_rectified)

    def producer(self, node: fx.Node) -> str:
        """The value that operators of layout alone lead from to an operator's input."""
        while node.op == "call_function" and node.target in _LAYOUT:
            node = node.args[0]
        return node.name

    def owners(self) -> dict[str, str]:
        """By value, the last layer that it is made of: of a sum, the later of the two; "" before the first layer."""
        by_node = {layer.node.name: layer.name for layer in self.layers.values()}
        last = {self.input: -1}  # by value, the place of that layer's operator
        for place, node in enumerate(self.nodes):
            sources = [last[source.name] for source in node.all_input_nodes if source.name in last]
            last[node.name] = place if node.name in by_node else max(sources, default=-1)
        return {value: by_node[self.nodes[place].name] if place >= 0 else "" for value, place in last.items()}

    def compute(self, node: fx.Node, values: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> Tensor:
        def given(source: fx.Node) -> Tensor:
            return parameters[source.name] if source.name in parameters else values[source.name]

        with torch.no_grad():
            return node.target(*fx.node.map_arg(node.args, given), **fx.node.map_arg(node.kwargs, given))

    def run(self, images: Tensor, change: Change | None = None, parameters: Values | None = None) -> Tensor:
        """The output for any number of images, each value changed as it appears. Shapes: (count, 3, H, W) -> …"""
        return torch.cat([self._finish(chunk, change, parameters or self.parameters) for chunk in images.split(CHUNK)])

    def _finish(self, chunk: Tensor, change: Change | None, parameters: Values) -> Tensor:
        values = {self.input: chunk}
        if change is not None:
            values[self.input] = change(self.image, chunk)
        for place, node in enumerate(self.nodes):
            value = self.compute(node, values, parameters)
            values[node.name] = value if change is None else change(node, value)
            self._forget(place, node, values)
        return values[self.output]

    def everything(self, images: Tensor) -> Values:
        """Every value for images that fit into memory together."""
        values = {self.input: images}
        for node in self.nodes:
            values[node.name] = self.compute(node, values, self.parameters)
        return values

    def resume(self, values: Mapping[str, Tensor], changed: Values, parameters: Values, first: int) -> Tensor:
        """The output when some values are others than they were; operators before first are not run again."""
        values = {**values, **changed}
        for node in self.nodes[first:]:
            if node.name not in changed:
                values[node.name] = self.compute(node, values, parameters)
        return values[self.output]

    def place(self, value: str) -> int:
        """Where in the order a value is made; the image before everything."""
        return self._place.get(value, -1)

    def lockstep(self, runs: list[list[Values]], each: Callable[[fx.Node], None]) -> None:
        """Go through the operators once; `each` gets a node, computes it in whatever runs there are, old values go."""
        for place, node in enumerate(self.nodes):
            each(node)
            for chunks in runs:
                for values in chunks:
                    self._forget(place, node, values)

    def _forget(self, place: int, node: fx.Node, values: Values) -> None:
        for source in node.all_input_nodes:
            if self._last_use.get(source.name) == place and source.name != self.output:
                values.pop(source.name, None)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers.values())


def _exported(module: nn.Module, size: tuple[int, int]) -> fx.GraphModule:
    example = torch.zeros(1, 3, *size)
    try:
        return torch.export.export(module.eval(), (example,)).module()
    except Exception as error:  # whatever a foreign module makes the tracer raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"the module cannot be quantized: torch.export does not follow it ({reason})") from error


def _attribute(module: nn.Module, path: str) -> Tensor:
    holder, _, name = path.rpartition(".")
    return getattr(module.get_submodule(holder), name)


def _module_of(node: fx.Node) -> str:
    """The innermost module whose forward an operator stands in."""
    stack = node.meta.get("nn_module_stack") or {}
    return list(stack.values())[-1][0] if stack else ""
