"""SSDLite: boxes and classes at the points of six maps, from a sixteenth of the image down to one point."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.nn.anchors import CENTRE_VARIANCE, SIZE_VARIANCE, anchors_of_image, anchors_per_point
from mvit_deploy.nn.backbone import MobileViT, initialise
from mvit_deploy.nn.config import COCO_CLASSES, STRIDE
from mvit_deploy.nn.layers import ConvNorm
from mvit_deploy.nn.patches import static_size

BOX = 4  # numbers that say one
EXTRA_CHANNELS = (256, 128, 128)  # of the maps at strides 64, 128 and 256
POINT_CHANNELS = 64  # of the last map, a single point
PROJECTED = (512, 256)  # channels to which the backbone's two maps are brought


class SeparableConv(nn.Module):
    """Depthwise 3x3 with BatchNorm alone, pointwise with ReLU: half the size.

    Shapes: (B, in, H, W) -> (B, out, ceil(H/2), ceil(W/2)).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, 3, stride=2, groups=in_channels, act=nn.Identity)
        self.pointwise = ConvNorm(in_channels, out_channels, 1, act=nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Predictor(nn.Module):
    """A separable convolution whose second half is linear. Shapes: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, 3, groups=in_channels, act=nn.Identity)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class DetectionHead(nn.Module):
    """Shapes: maps at strides 16 and 32 -> locations (B, A, 4), logits (B, A, num_classes).

    Source: arXiv 1512.02325, 1801.04381 section 6.2; apple/ml-cvnets v0.1 models/detection/ssd.py, modules/ssd.py.
    """

    def __init__(self, channels: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        widths = (channels[1], *EXTRA_CHANNELS)
        self.extra = nn.ModuleList(SeparableConv(*pair) for pair in pairwise(widths))
        self.pool_conv = nn.Conv2d(EXTRA_CHANNELS[-1], POINT_CHANNELS, 1, bias=False)
        self.pool_act = nn.ReLU()
        self.proj = nn.ModuleList(ConvNorm(*pair, 1, act=nn.ReLU) for pair in zip(channels, PROJECTED, strict=True))
        counts = [count * (BOX + num_classes) for count in anchors_per_point()]
        predictors = [Predictor(*pair) for pair in zip((*PROJECTED, *EXTRA_CHANNELS), counts[:-1], strict=True)]
        self.predict = nn.ModuleList([*predictors, nn.Conv2d(POINT_CHANNELS, counts[-1], 1)])
        self.apply(initialise)

    @property
    def last_layers(self) -> list[nn.Conv2d]:
        """Those that give locations and logits, map by map."""
        return [getattr(predict, "pointwise", predict) for predict in self.predict]

    def forward(self, stride_16: Tensor, stride_32: Tensor) -> tuple[Tensor, Tensor]:
        maps = [stride_32]
        for conv in self.extra:
            maps.append(conv(maps[-1]))
        point = self.pool_act(self.pool_conv(maps[-1].mean(dim=(2, 3), keepdim=True)))
        projected = [conv(x) for conv, x in zip(self.proj, (stride_16, stride_32), strict=True)]
        rows = [self._rows(predict(x)) for predict, x in zip(self.predict, [*projected, *maps[1:], point], strict=True)]
        joined = torch.cat(rows, dim=1)
        return joined[:, :, :BOX], joined[:, :, BOX:]

    def _rows(self, x: Tensor) -> Tensor:
        """A row for each anchor of each point. Shapes: (B, anchors * (4 + C), H, W) -> (B, H * W * anchors, 4 + C)."""
        channels, height, width = static_size(x)
        size = BOX + self.num_classes
        return x.permute(0, 2, 3, 1).reshape(-1, height * width * channels // size, size)


class Detector(nn.Module):
    """MobileViT and SSDLite, undecoded.

    Shapes: image (B, 3, H, W), float, RGB, [0, 1] -> locations (B, A, 4), logits (B, A, num_classes); A = 3,232 anchors
    at 320x320, class 0 is the background.
    """

    def __init__(self, backbone: MobileViT, head: DetectionHead) -> None:
        super().__init__()
        if backbone.output_stride != STRIDE:
            raise UsageError(f"a detector needs a backbone of output stride {STRIDE}, not {backbone.output_stride}")
        self.backbone, self.head = backbone, head

    @property
    def mode(self) -> str:
        return self.backbone.config.mode

    @property
    def num_classes(self) -> int:
        return self.head.num_classes

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone.maps(image)
        return self.head(maps["layer_4"], maps["layer_5"])


class Decoded(Detector):
    """The same detector, its parts shared, that gives boxes and scores for images of one size; anchors are constants.

    Shapes: image (B, 3, H, W) -> boxes (B, A, 4), left, top, right and bottom in units of the image's sides, not
    clipped; scores (B, A, num_classes), a softmax over all classes with the background.
    Source: apple/ml-cvnets v0.1 misc/box_utils.py, convert_locations_to_boxes.
    """

    def __init__(self, detector: Detector, image_size: tuple[int, int]) -> None:
        super().__init__(detector.backbone, detector.head)
        self.image_size = tuple(image_size)
        centres, sizes = anchors_of_image(image_size)[None].split((2, 2), dim=2)
        self.register_buffer("centres", centres.contiguous())  # (1, A, 2)
        self.register_buffer("steps", sizes * CENTRE_VARIANCE)
        self.register_buffer("half_sizes", sizes / 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        centres, half_sizes, scores = self.parts(image)
        return torch.cat((centres - half_sizes, centres + half_sizes), dim=2), scores

    def parts(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shapes: image (B, 3, H, W) -> centres (B, A, 2), half the sizes (B, A, 2), scores (B, A, num_classes)."""
        given = static_size(image)[1:]
        if given != self.image_size:
            (height, width), (h, w) = self.image_size, given
            raise ShapeError(f"the anchors are those of a {height}x{width} image, not of {h}x{w}")
        locations, logits = super().forward(image)
        shifts, growth = locations.split((2, 2), dim=2)
        centres = shifts * self.steps + self.centres
        half_sizes = (growth * SIZE_VARIANCE).exp() * self.half_sizes
        return centres, half_sizes, logits.softmax(dim=2)


class Centred(Decoded):
    """A decoded detector for one image, as Core ML's suppression takes its boxes and scores.

    Shapes: image (1, 3, H, W) -> boxes (A, 4), centre x, centre y, width, height; scores (A, num_classes - 1).
    """

    def __init__(self, decoded: Decoded) -> None:
        super().__init__(decoded, decoded.image_size)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        centres, half_sizes, scores = self.parts(image)
        boxes = torch.cat((centres, half_sizes * 2), dim=2)
        return boxes.reshape(-1, BOX), scores[:, :, 1:].reshape(-1, self.num_classes - 1)


class Encoded(Detector):
    """A detector as TFLite's suppression takes it, which decodes by itself.

    Shapes: image (B, 3, H, W) -> locations (B, A, 4), y before x and height before width; scores (B, A, num_classes).
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector.backbone, detector.head)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        locations, logits = super().forward(image)
        x, y, width, height = locations.split(1, dim=2)
        return torch.cat((y, x, height, width), dim=2), logits.softmax(dim=2)


class Joined(Detector):
    """A detector with one output, for judging quantization by it: locations and logits, each with the weight of one.

    Shapes: image (B, 3, H, W) -> (B, 1, A * (4 + num_classes)): no row of classes, of which one could be the largest.
    """

    def forward(self, image: Tensor) -> Tensor:
        parts = [values.flatten(1) for values in super().forward(image)]
        return torch.cat([values / int(values.shape[1]) ** 0.5 for values in parts], dim=1).unsqueeze(1)


def detector(mode: str, num_classes: int = COCO_CLASSES, *, dropout: float | None = None) -> Detector:
    """A MobileViT with SSDLite as it was trained for COCO at 320x320, randomly initialised for training.

    Args: num_classes counts the background, which is class 0; dropout of the transformer layers, None for the paper's.
    Raises: UsageError for an unknown mode or fewer than two classes.
    Source: arXiv 2110.02178 section 4.2.1; apple/ml-cvnets v0.1 config/detection/ssd_mobilevit_*_320.yaml.
    """
    if num_classes < 2:
        raise UsageError(f"a detector needs the background and at least one class, not {num_classes}")
    backbone = MobileViT(mode, dropout=dropout, last_conv=False)
    _, fourth, fifth = backbone.config.stages
    return Detector(backbone, DetectionHead((fourth.channels, fifth.channels), num_classes))
