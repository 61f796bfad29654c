"""Convolution blocks: Conv + BN + activation, the inverted residual of MobileNetV2, and how they are initialised."""

from collections.abc import Callable

from torch import Tensor, nn

from mvit_deploy.nn.config import NORM_EPS


class ConvNorm(nn.Module):
    """Conv2d without bias, BatchNorm and an activation: SiLU, ReLU, or Identity for none.

    Zero padding keeps H and W at stride 1, whatever the dilation.
    Shapes: (B, in, H, W) -> (B, out, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        act: Callable[[], nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=NORM_EPS)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, reduce 1x1 (no activation); the input is added where the shapes allow it.

    The depthwise convolution alone is dilated.

    Source: arXiv 1801.04381; apple/ml-cvnets v0.1 modules/mobilenetv2.py.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int, dilation: int = 1) -> None:
        super().__init__()
        hidden = make_divisible(in_channels * expansion)
        self.expand = ConvNorm(in_channels, hidden, 1)
        self.depthwise = ConvNorm(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden)
        self.reduce = ConvNorm(hidden, out_channels, 1, act=nn.Identity)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def make_divisible(channels: int, divisor: int = 8) -> int:
    """The multiple of divisor nearest to channels, never more than 10 % below it.

    Source: tensorflow/models mobilenet.py, as used by apple/ml-cvnets.
    """
    rounded = max(divisor, (channels + divisor // 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def initialise(module: nn.Module) -> None:
    """Kaiming-normal convolutions and truncated-normal linear layers, as ml-cvnets v0.1 trains from; biases are 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
