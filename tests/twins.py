"""transformers' models of the same network, for comparison."""

import pytest
from torch import nn

from mvit_deploy.nn.config import CONFIGS


def transformers_model(kind: str, mode: str, **settings: object) -> nn.Module:
    """A class of transformers (MobileViT…) with the paper's configuration of a mode; settings replace its own."""
    transformers = pytest.importorskip("transformers")
    config = CONFIGS[mode]
    widths = [config.stem_channels, config.channels_1, config.channels_2, *(s.channels for s in config.stages)]
    paper = {
        "hidden_sizes": [s.dim for s in config.stages],
        "neck_hidden_sizes": [*widths, config.out_channels],
        "expand_ratio": float(config.expansion),
    }
    return getattr(transformers, kind)(transformers.MobileViTConfig(**paper | settings))
