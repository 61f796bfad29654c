"""DeepLabv3 on MobileViT, as ml-cvnets v0.1 trains it, and what makes masks of its logits."""

import torch
from torch import Tensor, nn

from mvit_deploy.errors import UsageError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.config import VOC_CLASSES
from mvit_deploy.nn.layers import ConvNorm, initialise
from mvit_deploy.nn.patches import resize, static_size

HEAD_DROPOUT = 0.1
ASPP_CHANNELS = 256
_RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # dilations of the 3x3 convolutions, by output stride


class SegmentationHead(nn.Module):
    """DeepLabv3: five views of the last map (1x1, three dilated 3x3, its mean), joined, projected and classified.

    The mean's resize to the map is a broadcast, since it is resized from one pixel.
    Shapes: map (B, C, H, W) -> logits (B, num_classes, H, W).
    Source: arXiv 1706.05587 s3.3; apple/ml-cvnets v0.1 modules/aspp_block.py.
    """

    def __init__(
        self, channels: int, num_classes: int, rates: tuple[int, int, int], dropout: float = HEAD_DROPOUT
    ) -> None:
        super().__init__()
        self.aspp = nn.ModuleList([ConvNorm(channels, ASPP_CHANNELS, 1, act=nn.ReLU)])
        self.aspp.extend(ConvNorm(channels, ASPP_CHANNELS, 3, dilation=rate, act=nn.ReLU) for rate in rates)
        self.pool_conv = ConvNorm(channels, ASPP_CHANNELS, 1, act=nn.ReLU)
        self.project = ConvNorm((len(self.aspp) + 1) * ASPP_CHANNELS, ASPP_CHANNELS, 1, act=nn.ReLU)
        self.dropout = nn.Sequential(nn.Dropout(dropout), nn.Dropout2d(dropout))
        self.classify = nn.Conv2d(ASPP_CHANNELS, num_classes, 1)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        _, height, width = static_size(x)
        mean = self.pool_conv(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, height, width)
        views = torch.cat([*(view(x) for view in self.aspp), mean], dim=1)  # (B, 5 * 256, H, W)
        return self.classify(self.dropout(self.project(views)))


class Segmenter(nn.Module):
    """MobileViT at output stride 16 or 8 and DeepLabv3.

    Shapes: image (B, 3, H, W), float, RGB, [0, 1] -> logits (B, num_classes, H/16, W/16), class 0 the background; H/8
    and W/8 at output stride 8. Upsampled and ClassMap make masks of them.
    Raises: UsageError for a backbone of another output stride; ShapeError, from forward, as the backbone.
    """

    def __init__(self, backbone: MobileViT, num_classes: int) -> None:
        super().__init__()
        if backbone.output_stride not in _RATES:
            known = " or ".join(map(str, _RATES))
            raise UsageError(f"a segmenter's output stride is {known}, not {backbone.output_stride}")
        self.backbone = backbone
        channels = backbone.config.stages[-1].channels
        self.head = SegmentationHead(channels, num_classes, _RATES[backbone.output_stride])

    @property
    def mode(self) -> str:
        return self.backbone.config.mode

    @property
    def num_classes(self) -> int:
        return self.head.classify.out_channels

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.backbone.maps(image)[1])


class Upsampled(nn.Module):
    """A segmenter whose logits are resized bilinearly (half-pixel centres) to size, (height, width).

    Shapes: image (B, 3, H, W) as the segmenter takes it -> logits (B, num_classes, *size).
    """

    def __init__(self, segmenter: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.size = tuple(size)

    def forward(self, image: Tensor) -> Tensor:
        return resize(self.segmenter(image), self.size)


class ClassMap(nn.Module):
    """A segmenter, upsampled or not, that gives the most likely class of each pixel, the first of equals.

    Shapes: image (B, 3, H, W) as the segmenter takes it -> classes (B, h, w), int32 (Core ML has no int64), where the
    logits are (B, num_classes, h, w).
    """

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image: Tensor) -> Tensor:
        return self.segmenter(image).argmax(dim=1).to(torch.int32)


def segmenter(
    mode: str, num_classes: int = VOC_CLASSES, *, output_stride: int = 16, dropout: float | None = None
) -> Segmenter:
    """A MobileViT with DeepLabv3, randomly initialised for training.

    Args: num_classes counts the background; output_stride 16, or 8 with twice the dilations; dropout of the
    transformer layers, None for the paper's; the head's is 0.1.
    Raises: UsageError for an unknown mode, fewer than two classes or another output stride.
    Source: arXiv 2110.02178 s4.2.2; apple/ml-cvnets v0.1 config/segmentation/deeplabv3_mobilevit_*.yaml.
    """
    if num_classes < 2:
        raise UsageError(f"a segmenter needs the background and at least one class, not {num_classes} in all")
    return Segmenter(MobileViT(mode, dropout=dropout, last_conv=False, output_stride=output_stride), num_classes)
