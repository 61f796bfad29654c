"""Downloading a checkpoint's folder from the Hugging Face Hub, into the Hub's own cache."""

import importlib
from pathlib import Path

from mvit_deploy.errors import AbsentCheckpointError, CheckpointError, MissingLibraryError

SCHEME = "hf:"
# One kind of weights is enough: the second is asked for where a repository has none of the first.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_SETTINGS = ("config.json", "preprocessor_config.json")


def download(repository: str) -> Path:
    """The folder in the cache that holds a repository's weights and settings; offline, what is cached already.

    repository: OWNER/NAME. The cache is where the Hub's own settings say (HF_HOME).
    Raises: MissingLibraryError without huggingface_hub; AbsentCheckpointError when there is no such repository, or no
    network and nothing cached; CheckpointError when it has no weights.
    """
    hub = _hub()
    for weights in _WEIGHTS:
        try:
            folder = Path(hub.snapshot_download(repository, allow_patterns=[*_SETTINGS, weights]))
        except (hub.errors.HFValidationError, hub.errors.LocalEntryNotFoundError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise AbsentCheckpointError(
                f"{SCHEME}{repository} cannot be downloaded, nor is it in the cache of huggingface_hub: {reason}"
            ) from error
        if (folder / weights).is_file():
            return folder
    raise CheckpointError(f"{SCHEME}{repository} has neither {' nor '.join(_WEIGHTS)}")


def _hub() -> object:
    """huggingface_hub, imported when it is first asked for. Raises: MissingLibraryError."""
    try:
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise MissingLibraryError(
            f"--weights {SCHEME}REPO needs {error.name}: pip install 'mvit-deploy[hub]'"
        ) from error
