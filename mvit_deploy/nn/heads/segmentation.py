"""DeepLabv3: an atrous pyramid over the backbone's last map, and a class for each of its points."""

import torch
from torch import Tensor, nn

from mvit_deploy.errors import UsageError
from mvit_deploy.nn.backbone import MobileViT, initialise
from mvit_deploy.nn.config import VOC_CLASSES
from mvit_deploy.nn.layers import ConvNorm
from mvit_deploy.nn.patches import resize, static_size

PYRAMID_CHANNELS = 256
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # dilations by output stride
HEAD_DROPOUT = 0.1


class SegmentationHead(nn.Module):
    """Atrous spatial pyramid pooling and a 1x1 classifier. Shapes: map (B, C, H, W) -> logits (B, num_classes, H, W).

    Source: arXiv 1706.05587 section 3.3; apple/ml-cvnets v0.1 modules/aspp_block.py and
    models/segmentation/heads/deeplabv3.py.
    """

    def __init__(self, channels: int, num_classes: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        width = PYRAMID_CHANNELS
        first = ConvNorm(channels, width, 1, act=nn.ReLU)
        self.aspp = nn.ModuleList(
            [first, *(ConvNorm(channels, width, 3, dilation=rate, act=nn.ReLU) for rate in rates)]
        )
        self.pool_conv = ConvNorm(channels, width, 1, act=nn.ReLU)
        self.project = ConvNorm((len(self.aspp) + 1) * width, width, 1, act=nn.ReLU)
        self.project_dropout = nn.Dropout(HEAD_DROPOUT)
        self.classify_dropout = nn.Dropout2d(HEAD_DROPOUT)
        self.classify = nn.Conv2d(width, num_classes, 1)
        self.apply(initialise)
        nn.init.zeros_(self.classify.bias)

    def forward(self, x: Tensor) -> Tensor:
        _, height, width = static_size(x)
        pooled = self.pool_conv(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, height, width)
        joined = torch.cat([*(conv(x) for conv in self.aspp), pooled], dim=1)
        return self.classify(self.classify_dropout(self.project_dropout(self.project(joined))))


class Segmenter(nn.Module):
    """MobileViT and DeepLabv3.

    Shapes: image (B, 3, H, W), float, RGB, [0, 1] -> logits (B, num_classes, H/16, W/16), or /8 at output stride 8.
    """

    def __init__(self, backbone: MobileViT, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    @property
    def mode(self) -> str:
        return self.backbone.config.mode

    @property
    def num_classes(self) -> int:
        return self.head.classify.out_channels

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image))


class Ended(Segmenter):
    """The same segmenter, its parts shared, whose logits are brought to the size of the image (bilinear, half-pixel
    centres), or which gives the class of each point, or both.

    Shapes: image (B, 3, H, W) -> logits (B, num_classes, h, w), or int32 (B, h, w); h and w those of the image where
    upsampled.
    """

    def __init__(self, segmenter: Segmenter, *, upsampled: bool = False, classes: bool = False) -> None:
        super().__init__(segmenter.backbone, segmenter.head)
        self.upsampled, self.classes = upsampled, classes

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        if self.upsampled:
            logits = resize(logits, static_size(image)[1:])
        return logits.argmax(dim=1).int() if self.classes else logits


def with_output_stride(model: Segmenter, output_stride: int) -> Segmenter:
    """The same weights in a segmenter of another output stride: dilation takes the place of a stride, no shape changes.

    Raises: UsageError for another output stride than 16 or 8.
    """
    config = model.backbone.config
    made = segmenter(config.mode, model.num_classes, output_stride=output_stride)
    made.load_state_dict(model.state_dict())
    return made.train(model.training)


def segmenter(
    mode: str, num_classes: int = VOC_CLASSES, *, output_stride: int = 16, dropout: float | None = None
) -> Segmenter:
    """A MobileViT with DeepLabv3 as it was trained for VOC at 512x512, randomly initialised for training.

    Args: num_classes counts the background, which is class 0; dropout of the transformer layers, None for the paper's.
    Raises: UsageError for an unknown mode, fewer than two classes, or another output stride than 16 or 8.
    Source: arXiv 2110.02178 section 4.2.2; apple/ml-cvnets v0.1 config/segmentation/deeplabv3_mobilevit_*.yaml.
    """
    if num_classes < 2:
        raise UsageError(f"a segmenter needs the background and at least one class, not {num_classes}")
    if output_stride not in RATES:
        raise UsageError(f"output stride {output_stride}; a segmenter has: {', '.join(map(str, RATES))}")
    backbone = MobileViT(mode, dropout=dropout, last_conv=False, output_stride=output_stride)
    return Segmenter(backbone, SegmentationHead(backbone.config.stages[-1].channels, num_classes, RATES[output_stride]))
