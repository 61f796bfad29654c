"""The three networks of the paper as a table (arXiv 2110.02178, table 4)."""

from dataclasses import dataclass

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.hints import did_you_mean

HEADS = 4
STRIDE = 32  # of the last map; image sizes are multiples of it
NORM_EPS = 1e-5  # of BatchNorm and LayerNorm alike
PAPER_CLASSES = 1000  # ImageNet-1k


@dataclass(frozen=True)
class TransformerStage:
    """One of layer_3 to layer_5: a downsampling inverted residual, then a MobileViT block."""

    channels: int
    dim: int
    depth: int


@dataclass(frozen=True)
class Config:
    """What a mode fixes. The FFN is 2 * dim wide and attention has 4 heads everywhere."""

    mode: str
    expansion: int
    channels_1: int
    channels_2: int
    stages: tuple[TransformerStage, TransformerStage, TransformerStage]
    dropout: float

    stem_channels: int = 16

    @property
    def out_channels(self) -> int:
        """Channels of the last map: 320, 384 or 640."""
        return min(4 * self.stages[-1].channels, 960)


def _stages(*rows: tuple[int, int, int]) -> tuple[TransformerStage, ...]:
    return tuple(TransformerStage(*row) for row in rows)


CONFIGS = {
    "xxs": Config("xxs", 2, 16, 24, _stages((48, 64, 2), (64, 80, 4), (80, 96, 3)), dropout=0.05),
    "xs": Config("xs", 4, 32, 48, _stages((64, 96, 2), (80, 120, 4), (96, 144, 3)), dropout=0.1),
    "s": Config("s", 4, 32, 64, _stages((96, 144, 2), (128, 192, 4), (160, 240, 3)), dropout=0.1),
}
MODES = tuple(CONFIGS)


def config_for(mode: str) -> Config:
    """The configuration of a mode.

    Raises: UsageError for a mode that is not xxs, xs or s, with the nearest one.
    """
    if mode not in CONFIGS:
        raise UsageError(f"unknown mode {mode!r}; known: {', '.join(MODES)}{did_you_mean(mode, MODES)}")
    return CONFIGS[mode]


def check_image_size(height: int, width: int) -> None:
    """Refuse a size that the network does not take.

    Raises: ShapeError, naming the nearest sizes that work, unless both sides are positive multiples of 32.
    """
    if all(side >= STRIDE and side % STRIDE == 0 for side in (height, width)):
        return
    below = tuple(max(STRIDE, side // STRIDE * STRIDE) for side in (height, width))
    above = tuple(max(STRIDE, -(-side // STRIDE) * STRIDE) for side in (height, width))
    nearest = " and ".join(f"{h}x{w}" for h, w in sorted({below, above}))
    raise ShapeError(
        f"image size {height}x{width} does not work: both sides must be multiples of {STRIDE}, "
        f"at least {STRIDE}; the nearest that do: {nearest}"
    )
