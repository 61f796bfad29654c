"""The paper's classifier: mean over the last map, dropout, linear."""

from torch import Tensor, nn

from mvit_deploy.errors import UsageError
from mvit_deploy.nn.backbone import MobileViT
from mvit_deploy.nn.config import PAPER_CLASSES

HEAD_DROPOUT = 0.1


class ClassificationHead(nn.Module):
    """Shapes: map (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(self, channels: int, num_classes: int, dropout: float = HEAD_DROPOUT) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


class Classifier(nn.Module):
    """MobileViT and the classification head.

    Shapes: image (B, 3, H, W), float, RGB, [0, 1] -> logits (B, num_classes).
    """

    def __init__(self, backbone: MobileViT, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ClassificationHead(backbone.config.out_channels, num_classes)

    @property
    def mode(self) -> str:
        return self.backbone.config.mode

    @property
    def num_classes(self) -> int:
        return self.head.fc.out_features

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.backbone(image))


def classifier(
    mode: str, num_classes: int = PAPER_CLASSES, *, dropout: float | None = None, variant: str = "paper"
) -> Classifier:
    """A MobileViT with the paper's classification head, randomly initialised for training.

    Args: dropout of the transformer layers, None for the paper's; the head's is 0.1. variant: of the backbone.
    Raises: UsageError for an unknown mode or variant, or fewer than one class.
    Source: arXiv 2110.02178, table 4; apple/ml-cvnets v0.1 models/classification/mobilevit.py.
    """
    if num_classes < 1:
        raise UsageError(f"a classifier needs at least one class, not {num_classes}")
    return Classifier(MobileViT(mode, dropout=dropout, variant=variant), num_classes)
