"""The range of a network's output, which integer outputs of float layers are held to."""

import copy

import torch
from torch import Tensor, nn

from mvit_deploy.nn.quantized import Range
from mvit_deploy.quantization import network, ranges
from mvit_deploy.quantization.graph import Graph

SIZE = (32, 32)


class Brightest(nn.Module):
    """A layer, and behind it what is no layer: its output has no range as a layer's value."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 2, 1)
        self.mix.weight.data = torch.tensor([[1.0, 0, 0], [-2.0, 0, 0]]).reshape(2, 3, 1, 1)
        self.mix.bias.data = torch.zeros(2)

    def forward(self, image: Tensor) -> Tensor:
        return self.mix(image).mean((2, 3)) * 10


def test_the_form_says_what_came_out_on_the_photos() -> None:
    module = Brightest().eval()
    graph = Graph(module, SIZE)
    photos = torch.stack([torch.full((3, *SIZE), level) for level in (0.25, 0.5, 0.75)])
    observed = ranges.observed(graph, photos, graph, frozenset())

    found = network.fitted(graph, photos, observed, bits=8, keep_float=("mix",)).form(module, graph).output

    assert (found.low, found.high) == (-15.0, 7.5)  # -2 * 0.75 * 10 and 0.75 * 10


def test_of_a_layer_it_is_the_layers_own_as_observed() -> None:
    """So that an integer output has the same code whether the last layer stays float or not."""
    module = Brightest().mix.eval()
    graph = Graph(module, SIZE)
    photos = torch.full((2, 3, *SIZE), 0.5)
    observed = ranges.observed(graph, photos, graph, frozenset()) | {graph.output: Range(-9.0, 9.0)}

    for kept in ((), graph.layers):
        found = network.fitted(graph, photos, observed, bits=8, keep_float=tuple(kept))
        assert found.form(copy.deepcopy(module), graph).output == Range(-9.0, 9.0)


def test_zero_is_in_every_range() -> None:
    assert ranges.spanned([torch.tensor([3.0, 4.0]), torch.tensor([2.0])]) == Range(0.0, 4.0)
    assert ranges.spanned([torch.tensor([-3.0, -4.0])]) == Range(-4.0, 0.0)


def test_without_photos_there_is_none() -> None:
    module = Brightest().eval()
    graph = Graph(module, SIZE)

    assert network.without_data(graph).form(module, graph).output is None
