"""MobileViT without a head."""

from collections import OrderedDict

from torch import Tensor, nn

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.config import STRIDE, Config, TransformerStage, check_image_size, config_for
from mvit_deploy.nn.encoder import MobileViTBlock
from mvit_deploy.nn.layers import ConvNorm, InvertedResidual
from mvit_deploy.nn.patches import static_size

# By output stride, stride and dilation of the first convolutions of layer_4 and layer_5. A stage that keeps its size is
# dilated by what the stages before it would have had; the blocks never are. Source: apple/ml-cvnets v0.1
# models/classification/mobilevit.py.
_STRIDES = {32: ((2, 2), (1, 1)), 16: ((2, 1), (1, 1)), 8: ((1, 1), (1, 2))}


class MobileViT(nn.Module):
    """The backbone: an image to the last map, as Kornia's class of that name gives it, with the paper's network.

    Args: mode xxs, xs or s; in_channels of the image; patch_size (height, width) of the blocks; dropout inside the
    transformer layers, None for the paper's (0.05 for xxs, 0.1 for xs and s); variant paper, or kornia for the network
    of Kornia's class, whose weights fit no other; last_conv False leaves conv_exp out, as heads that read maps do;
    output_stride 32, or 16 or 8 for larger maps from layer_5, or layer_4 and layer_5, on.
    Shapes: image (B, in_channels, H, W), float, RGB, [0, 1], no mean or std -> (B, 320 | 384 | 640, H/32, W/32).
    Raises: UsageError for an unknown mode; ShapeError, from forward too, for a size that is not a multiple of 32.
    Source: arXiv 2110.02178, table 4; apple/ml-cvnets branch cvnets-v0.1.
    """

    def __init__(
        self,
        mode: str = "xxs",
        in_channels: int = 3,
        patch_size: tuple[int, int] = (2, 2),
        dropout: float | None = None,
        variant: str = "paper",
        last_conv: bool = True,
        output_stride: int = STRIDE,
    ) -> None:
        super().__init__()
        if output_stride not in _STRIDES:
            raise UsageError(f"output stride {output_stride}; known: {', '.join(map(str, _STRIDES))}")
        config = config_for(mode, variant)
        dropout = config.dropout if dropout is None else dropout
        self.config = config
        self.in_channels = in_channels
        self.patch_size = tuple(patch_size)
        self.output_stride = output_stride
        first, second, third = config.stages
        self.normalize = nn.Identity()  # nn.normalize puts mean and deviation here
        self.stem = ConvNorm(in_channels, config.stem_channels, 3, stride=2)
        self.layer_1 = _stage(_inverted(config, config.stem_channels, config.channels_1))
        self.layer_2 = _stage(
            _inverted(config, config.channels_1, config.channels_2, stride=2),
            _inverted(config, config.channels_2, config.channels_2),
            _inverted(config, config.channels_2, config.channels_2),
        )
        strides, dilations = _STRIDES[output_stride]
        self.layer_3 = self._transformer_stage(config.channels_2, first, dropout)
        self.layer_4 = self._transformer_stage(first.channels, second, dropout, strides[0], dilations[0])
        self.layer_5 = self._transformer_stage(second.channels, third, dropout, strides[1], dilations[1])
        if last_conv:
            self.conv_exp = ConvNorm(third.channels, config.out_channels, 1)
        self.apply(initialise)

    def _transformer_stage(
        self, in_channels: int, stage: TransformerStage, dropout: float, stride: int = 2, dilation: int = 1
    ) -> nn.Sequential:
        return _stage(
            _inverted(self.config, in_channels, stage.channels, stride, dilation),
            MobileViTBlock(stage, self.patch_size, dropout),
        )

    @property
    def stages(self) -> "OrderedDict[str, nn.Module]":
        """The parts in the order in which forward runs them, by name."""
        names = ("stem", "layer_1", "layer_2", "layer_3", "layer_4", "layer_5", "conv_exp")
        return OrderedDict((name, getattr(self, name)) for name in names if hasattr(self, name))

    def forward(self, image: Tensor) -> Tensor:
        return list(self.maps(image).values())[-1]

    def maps(self, image: Tensor) -> dict[str, Tensor]:
        """The map of each stage, by the stage's name, in order. Raises: ShapeError as forward."""
        channels, height, width = static_size(image)
        if channels != self.in_channels:
            raise ShapeError(f"the image has {channels} channels, the network takes {self.in_channels}")
        check_image_size(height, width)
        image, found = self.normalize(image), {}
        for name, stage in self.stages.items():
            image = found[name] = stage(image)
        return found


def _stage(*blocks: nn.Module) -> nn.Sequential:
    return nn.Sequential(*blocks)


def _inverted(
    config: Config, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1
) -> InvertedResidual:
    return InvertedResidual(in_channels, out_channels, stride=stride, expansion=config.expansion, dilation=dilation)


def initialise(module: nn.Module) -> None:
    """Kaiming-normal convolutions and truncated-normal linear layers, as ml-cvnets v0.1 trains from."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
