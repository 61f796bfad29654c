"""SSDLite on MobileViT, as ml-cvnets v0.1 trains it, and its decoding into boxes and scores."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.anchors import ANCHORS_PER_CELL, anchor_boxes, map_sizes
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.config import COCO_CLASSES, STRIDE, Config
from mvit_deploy.nn.layers import ConvNorm, initialise
from mvit_deploy.nn.patches import static_size

CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2  # by which locations are multiplied when they are decoded
_COORDINATES = 4
_EXTRA_CHANNELS = (256, 128, 128)  # of the maps at strides 64, 128 and 256
_POOLED_CHANNELS = 64
_PROJECTED_CHANNELS = (512, 256)  # of the maps at strides 16 and 32


class DetectionHead(nn.Module):
    """SSDLite: four smaller maps behind the backbone's two, and on each of the six a prediction for every anchor.

    Shapes: maps (B, C4, H/16, W/16), (B, C5, H/32, W/32) -> locations (B, A, 4), logits (B, A, num_classes), in the
    order of anchor_boxes.
    """

    def __init__(self, config: Config, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels_4, channels_5 = (stage.channels for stage in config.stages[1:])
        pairs = zip((channels_5, *_EXTRA_CHANNELS), _EXTRA_CHANNELS, strict=False)
        self.extra = nn.ModuleList(
            _depthwise_then(ConvNorm(before, after, 1, act=nn.ReLU), before, stride=2) for before, after in pairs
        )
        self.pool_conv = nn.Conv2d(_EXTRA_CHANNELS[-1], _POOLED_CHANNELS, 1, bias=False)
        self.pool_act = nn.ReLU()
        pairs = zip((channels_4, channels_5), _PROJECTED_CHANNELS, strict=True)
        self.proj = nn.ModuleList(ConvNorm(before, after, 1, act=nn.ReLU) for before, after in pairs)
        *mapped, pooled = (anchors * (_COORDINATES + num_classes) for anchors in ANCHORS_PER_CELL)
        pairs = zip((*_PROJECTED_CHANNELS, *_EXTRA_CHANNELS), mapped, strict=True)
        self.predict = nn.ModuleList(_depthwise_then(nn.Conv2d(before, after, 1), before) for before, after in pairs)
        self.predict.append(nn.Conv2d(_POOLED_CHANNELS, pooled, 1))
        self.apply(initialise)

    @property
    def predictors(self) -> list[nn.Conv2d]:
        """The last convolution of each map, whose channels are, anchor by anchor, four locations and the logits."""
        return [part if isinstance(part, nn.Conv2d) else part.pointwise for part in self.predict]

    def forward(self, layer_4: Tensor, layer_5: Tensor) -> tuple[Tensor, Tensor]:
        maps = [project(x) for project, x in zip(self.proj, (layer_4, layer_5), strict=True)]
        x = layer_5
        for extra in self.extra:
            x = extra(x)
            maps.append(x)
        maps.append(self.pool_act(self.pool_conv(x.mean(dim=(2, 3), keepdim=True))))
        predictions = [self._by_anchor(predict(x)) for predict, x in zip(self.predict, maps, strict=True)]
        joined = torch.cat(predictions, dim=1)  # (B, A, 4 + num_classes)
        return joined[:, :, :_COORDINATES], joined[:, :, _COORDINATES:]

    def _by_anchor(self, x: Tensor) -> Tensor:
        """Shapes: (B, n*(4 + num_classes), H, W) -> (B, H*W*n, 4 + num_classes)."""
        channels, height, width = static_size(x)
        values = _COORDINATES + self.num_classes
        return x.permute(0, 2, 3, 1).reshape(-1, height * width * channels // values, values)


class Detector(nn.Module):
    """MobileViT and SSDLite. Locations and logits are raw: DecodedDetector makes boxes and scores of them.

    Shapes: image (B, 3, H, W), float, RGB, [0, 1] -> locations (B, A, 4), logits (B, A, num_classes), class 0 the
    background, A = 3232 at 320x320.
    Raises: UsageError for a backbone of another output stride than 32; ShapeError, from forward, as the backbone.
    """

    def __init__(self, backbone: MobileViT, num_classes: int) -> None:
        super().__init__()
        if backbone.output_stride != STRIDE:
            raise UsageError(f"a detector needs a backbone of output stride {STRIDE}, not {backbone.output_stride}")
        self.backbone = backbone
        self.head = DetectionHead(backbone.config, num_classes)

    @property
    def mode(self) -> str:
        return self.backbone.config.mode

    @property
    def num_classes(self) -> int:
        return self.head.num_classes

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(*self.backbone.maps(image))


class DecodedDetector(nn.Module):
    """A detector for images of one size, (height, width), that gives boxes and scores; what overlaps is all there.

    Boxes are corners [x1, y1, x2, y2] as fractions of the image's width and height, not clipped to the image; scores
    are probabilities of all classes, the background's first.
    Shapes: image (B, 3, H, W) as the detector takes it -> boxes (B, A, 4), scores (B, A, num_classes).
    Raises: ShapeError for a size that is not a multiple of 32 and, from forward, for an image of another size.
    Source: apple/ml-cvnets v0.1 misc/box_utils.py (SSD, arXiv 1512.02325 s2.2).
    """

    def __init__(self, detector: Detector, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.detector = detector
        self.image_size = tuple(image_size)
        anchors = anchor_boxes(map_sizes(self.image_size)).double()
        # A box is centre = l * 0.1 * size + anchor's centre and half = exp(l * 0.2) * size / 2. With the logarithm of
        # size / 2 in the shift, one product and one sum over all four coordinates do both.
        centres, sizes = anchors.split(2, dim=1)
        scale = torch.cat((CENTRE_VARIANCE * sizes, torch.full_like(sizes, SIZE_VARIANCE)), dim=1)
        shift = torch.cat((centres, (sizes / 2).log()), dim=1)
        self.register_buffer("scale", scale.float()[None], persistent=False)  # (1, A, 4)
        self.register_buffer("shift", shift.float()[None], persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        size = static_size(image)[1:]
        if size != self.image_size:
            asked, given = ("x".join(map(str, s)) for s in (self.image_size, size))
            raise ShapeError(f"the anchors are those of a {asked} image, not of {given}")
        locations, logits = self.detector(image)
        decoded = locations * self.scale + self.shift
        centres, halves = decoded[:, :, :2], decoded[:, :, 2:].exp()
        return torch.cat((centres - halves, centres + halves), dim=2), logits.softmax(dim=2)


def detector(mode: str, num_classes: int = COCO_CLASSES, *, dropout: float | None = None) -> Detector:
    """A MobileViT with SSDLite, randomly initialised for training.

    Args: num_classes counts the background; dropout of the transformer layers, None for the paper's.
    Raises: UsageError for an unknown mode or fewer than two classes.
    Source: arXiv 2110.02178 s4.2.1; apple/ml-cvnets v0.1 models/detection/ssd.py, config/detection/ssd_mobilevit_*.
    """
    if num_classes < 2:
        raise UsageError(f"a detector needs the background and at least one class, not {num_classes} in all")
    return Detector(MobileViT(mode, dropout=dropout, last_conv=False), num_classes)


def _depthwise_then(pointwise: nn.Module, channels: int, *, stride: int = 1) -> nn.Sequential:
    """A depthwise 3x3 convolution without activation, then the pointwise one."""
    depthwise = ConvNorm(channels, channels, 3, stride=stride, groups=channels, act=nn.Identity)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
