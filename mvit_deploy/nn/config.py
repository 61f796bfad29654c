"""The three networks of the paper as a table (arXiv 2110.02178, table 4)."""

from dataclasses import dataclass, replace

from mvit_deploy.errors import ShapeError, UsageError
from mvit_deploy.hints import did_you_mean
from mvit_deploy.spec import VARIANTS

HEADS = 4
STRIDE = 32  # of the last map; image sizes are multiples of it
NORM_EPS = 1e-5  # of BatchNorm and LayerNorm alike
PAPER_CLASSES = 1000  # ImageNet-1k
COCO_CLASSES = 81  # the background, class 0, and COCO's 80
VOC_CLASSES = 21  # the background, class 0, and Pascal VOC's 20


@dataclass(frozen=True)
class TransformerStage:
    """One of layer_3 to layer_5: a downsampling inverted residual, then a MobileViT block.

    The fields after depth are the paper's where not said otherwise; Kornia's network differs in them.
    """

    channels: int
    dim: int
    depth: int
    head_dim: int
    ffn_width: int
    qkv_bias: bool = True
    norm_after_local_proj: bool = False  # BatchNorm and SiLU behind the 1x1 convolution before unfold
    norm_after_transformer: bool = True
    scales_scores: bool = False  # q @ k is scaled, not q: equal but for rounding
    global_first: bool = False  # the fusion takes (global, shortcut)


@dataclass(frozen=True)
class Config:
    """What a mode fixes. Attention has 4 heads everywhere."""

    mode: str
    expansion: int
    channels_1: int
    channels_2: int
    stages: tuple[TransformerStage, TransformerStage, TransformerStage]
    dropout: float

    variant: str = "paper"
    stem_channels: int = 16

    @property
    def out_channels(self) -> int:
        """Channels of the last map: 320, 384 or 640."""
        return min(4 * self.stages[-1].channels, 960)


def _stages(*rows: tuple[int, int, int]) -> tuple[TransformerStage, ...]:
    """(channels, dim, depth) of each stage, with the paper's heads of dim / 4 and FFN of 2 * dim."""
    return tuple(TransformerStage(c, dim, depth, dim // HEADS, 2 * dim) for c, dim, depth in rows)


CONFIGS = {
    "xxs": Config("xxs", 2, 16, 24, _stages((48, 64, 2), (64, 80, 4), (80, 96, 3)), dropout=0.05),
    "xs": Config("xs", 4, 32, 48, _stages((64, 96, 2), (80, 120, 4), (96, 144, 3)), dropout=0.1),
    "s": Config("s", 4, 32, 64, _stages((96, 144, 2), (128, 192, 4), (160, 240, 3)), dropout=0.1),
}
MODES = tuple(CONFIGS)


def config_for(mode: str, variant: str = "paper") -> Config:
    """The configuration of a mode, of the paper's network or Kornia's.

    Raises: UsageError for a mode that is not xxs, xs or s, with the nearest one, or an unknown variant.
    """
    if mode not in CONFIGS:
        raise UsageError(f"unknown mode {mode!r}; known: {', '.join(MODES)}{did_you_mean(mode, MODES)}")
    if variant not in VARIANTS:
        raise UsageError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}{did_you_mean(variant, VARIANTS)}")
    return CONFIGS[mode] if variant == "paper" else _kornia(CONFIGS[mode])


def mode_of_width(out_channels: int) -> str | None:
    """The mode whose last map has so many channels, None where there is none."""
    return next((mode for mode, config in CONFIGS.items() if config.out_channels == out_channels), None)


def _kornia(config: Config) -> Config:
    """Kornia's network: narrow heads, no bias in qkv, wider FFNs, its norms and its order of operations.

    The order counts because sensitive weights enlarge rounding: in fp32 Kornia's own class is then 1e-4 to 4e-4 from
    float64, and another order was up to 9e-5 from it, where the same order gives the same bits.
    Source: kornia 0.9.0 kornia/models/vit_mobile.py.
    """
    stages = tuple(
        replace(
            stage,
            head_dim=8,
            ffn_width=factor * stage.dim,
            qkv_bias=False,
            norm_after_local_proj=True,
            norm_after_transformer=False,
            scales_scores=True,
            global_first=True,
        )
        for stage, factor in zip(config.stages, (2, 4, 4), strict=True)
    )
    return replace(config, stages=stages, variant="kornia", dropout=0.0)


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
