"""MobileViT without a head."""

from collections import OrderedDict

from torch import Tensor, nn

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.config import STRIDE, Config, TransformerStage, check_image_size, config_for
from mvit_deploy.nn.encoder import MobileViTBlock
from mvit_deploy.nn.layers import ConvNorm, InvertedResidual, initialise
from mvit_deploy.nn.patches import static_size

# (stride, dilation) of the inverted residuals of layer_4 and layer_5, by the stride of the last map. As in ml-cvnets
# v0.1, one is dilated by the strides that stages before it have lost, not by its own; the blocks never are.
_OUTPUT_STRIDES = {
    32: ((2, 1), (2, 1)),
    16: ((2, 1), (1, 1)),
    8: ((1, 1), (1, 2)),
}


class MobileViT(nn.Module):
    """The backbone: an image to the last map, as Kornia's class of that name gives it, with the paper's network.

    Args: mode xxs, xs or s; in_channels of the image; patch_size (height, width) of the blocks; dropout inside the
    transformer layers, None for the paper's (0.05 for xxs, 0.1 for xs and s); variant paper, or kornia for the network
    of Kornia's class, whose weights fit no other; last_conv: whether the 1x1 convolution that classifiers have is
    behind layer_5; output_stride 32, 16 or 8 of the last map.
    Shapes: image (B, in_channels, H, W), float, RGB, [0, 1], no mean or std -> (B, 320 | 384 | 640, H/32, W/32), or
    without last_conv layer_5's map, 80, 96 or 160 channels; 16 or 8 for 32 at that output stride.
    Raises: UsageError for an unknown mode, variant or output stride; ShapeError, from forward, for another number of
    channels or a size that is not a multiple of 32 (at every output stride).
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
        config = config_for(mode, variant)
        if output_stride not in _OUTPUT_STRIDES:
            raise UsageError(f"the output stride is {' or '.join(map(str, _OUTPUT_STRIDES))}, not {output_stride}")
        dropout = config.dropout if dropout is None else dropout
        self.config = config
        self.in_channels = in_channels
        self.patch_size = tuple(patch_size)
        self.output_stride = output_stride
        first, second, third = config.stages
        (stride_4, dilation_4), (stride_5, dilation_5) = _OUTPUT_STRIDES[output_stride]
        self.stem = ConvNorm(in_channels, config.stem_channels, 3, stride=2)
        self.layer_1 = _stage(_inverted(config, config.stem_channels, config.channels_1))
        self.layer_2 = _stage(
            _inverted(config, config.channels_1, config.channels_2, stride=2),
            _inverted(config, config.channels_2, config.channels_2),
            _inverted(config, config.channels_2, config.channels_2),
        )
        self.layer_3 = self._transformer_stage(config.channels_2, first, dropout)
        self.layer_4 = self._transformer_stage(first.channels, second, dropout, stride=stride_4, dilation=dilation_4)
        self.layer_5 = self._transformer_stage(second.channels, third, dropout, stride=stride_5, dilation=dilation_5)
        self.conv_exp = ConvNorm(third.channels, config.out_channels, 1) if last_conv else nn.Identity()
        self.apply(initialise)

    def _transformer_stage(
        self, in_channels: int, stage: TransformerStage, dropout: float, *, stride: int = 2, dilation: int = 1
    ) -> nn.Sequential:
        return _stage(
            _inverted(self.config, in_channels, stage.channels, stride=stride, dilation=dilation),
            MobileViTBlock(stage, self.patch_size, dropout),
        )

    @property
    def stages(self) -> "OrderedDict[str, nn.Module]":
        """The parts in the order in which forward runs them, by name."""
        names = ("stem", "layer_1", "layer_2", "layer_3", "layer_4", "layer_5", "conv_exp")
        return OrderedDict((name, getattr(self, name)) for name in names)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv_exp(self.maps(image)[1])

    def maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The maps that the heads of other tasks start from.

        Shapes: image as forward takes it -> layer_4 (B, 64 | 80 | 128, H/16, W/16), layer_5 (B, 80 | 96 | 160, H/32,
        W/32); the second at stride 16 at that output stride, both at stride 8 at that one.
        Raises: ShapeError as forward does.
        """
        channels, height, width = static_size(image)
        if channels != self.in_channels:
            raise ShapeError(f"the image has {channels} channels, the network takes {self.in_channels}")
        check_image_size(height, width)
        x = image
        for stage in (self.stem, self.layer_1, self.layer_2, self.layer_3):
            x = stage(x)
        layer_4 = self.layer_4(x)
        return layer_4, self.layer_5(layer_4)


def _stage(*blocks: nn.Module) -> nn.Sequential:
    return nn.Sequential(*blocks)


def _inverted(
    config: Config, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1
) -> InvertedResidual:
    return InvertedResidual(in_channels, out_channels, stride=stride, expansion=config.expansion, dilation=dilation)
