"""Other libraries' MobileViT inside a user's module, rebuilt as ours so that it has a deployment form.

Classes are recognised by name: none of the libraries is imported. What is not recognised stays as it is. The original
stays the reference in any case, so a rebuilding that is not faithful shows as a mismatch.
"""

import copy
import logging

from torch import nn

from mvit_deploy.checkpoints import kornia, layouts
from mvit_deploy.errors import CheckpointError

log = logging.getLogger(__name__)


def adopt(module: nn.Module) -> nn.Module:
    """A copy of a module in which each recognised MobileViT is one of ours with the same weights, in eval mode."""
    return _adopted(copy.deepcopy(module).eval())


def is_kornia(module: nn.Module) -> bool:
    """Whether a module is, or is built from, Kornia's MobileViT, theirs or ours of that variant."""
    return any(
        _class_of(part) in _KORNIA or getattr(getattr(part, "config", None), "variant", "") == "kornia"
        for part in module.modules()
    )


def _adopted(module: nn.Module) -> nn.Module:
    loader = _LOADERS.get(_class_of(module))
    if loader is not None:
        try:
            return loader(module)
        except CheckpointError as reason:
            log.info("%s is exported as it is: %s", type(module).__name__, reason)
            return module
    for name, child in module.named_children():
        setattr(module, name, _adopted(child))
    return module


def _class_of(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _from_kornia(module: nn.Module) -> nn.Module:
    block = module.mvit[0]
    return kornia.load(module.state_dict(), (block.ph, block.pw))


def _from_hugging_face(module: nn.Module) -> nn.Module:
    """Raises: CheckpointError for a configuration that the paper's network has not."""
    config = module.config
    if (config.patch_size, config.output_stride, config.hidden_act) != (2, 32, "silu"):
        raise CheckpointError("its configuration is not the paper's")
    return _rebuilt(module)


def _rebuilt(module: nn.Module) -> nn.Module:
    """One of ours with the same weights, in the colour order that the module takes. Raises: CheckpointError."""
    tensors = module.state_dict()
    return layouts.load(tensors, layouts.recognise(tensors))


_KORNIA = ("kornia.models.vit_mobile.MobileViT", "kornia.contrib.vit_mobile.MobileViT")
_HUGGING_FACE = "transformers.models.mobilevit.modeling_mobilevit"
_LOADERS = {
    **dict.fromkeys(_KORNIA, _from_kornia),
    f"{_HUGGING_FACE}.MobileViTForImageClassification": _from_hugging_face,
    f"{_HUGGING_FACE}.MobileViTModel": _from_hugging_face,
    "timm.models.byobnet.ByobNet": _rebuilt,
}
