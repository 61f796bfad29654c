"""MobileViT for phones: the network, exporters to ONNX, Core ML and TFLite, and proof that each file computes the same.

Names are imported when they are first used, so that the command line answers before PyTorch is loaded.
"""

import importlib

_HOMES = {
    "MobileViT": "mvit_deploy.nn.backbone",
    "Classifier": "mvit_deploy.nn.heads.classification",
    "classifier": "mvit_deploy.nn.heads.classification",
    "Detector": "mvit_deploy.nn.heads.detection",
    "detector": "mvit_deploy.nn.heads.detection",
    "Segmenter": "mvit_deploy.nn.heads.segmentation",
    "segmenter": "mvit_deploy.nn.heads.segmentation",
    "fuse": "mvit_deploy.nn.fuse",
    "fold": "mvit_deploy.nn.patches",
    "unfold": "mvit_deploy.nn.patches",
    "export": "mvit_deploy.pipeline",
    "verify": "mvit_deploy.recheck",
    "Report": "mvit_deploy.report",
    "load_checkpoint": "mvit_deploy.checkpoints",
    "MvitError": "mvit_deploy.errors",
}
__all__ = [*_HOMES]  # noqa: PLE0604  (the names of the table)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
