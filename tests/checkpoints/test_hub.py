"""hf:OWNER/NAME through huggingface_hub, without a network."""

import sys
from pathlib import Path

import pytest

from mvit_deploy import reference
from mvit_deploy.checkpoints import load_checkpoint
from mvit_deploy.errors import AbsentCheckpointError, CheckpointError, MissingLibraryError
from tests.checkpoints.samples import saved, state

hub = pytest.importorskip("huggingface_hub")
REPOSITORY = "someone/mobilevit"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def cached(cache: Path, weights: str = "model.safetensors") -> Path:
    """A repository in the cache, laid out as huggingface_hub does. Returns its file of weights."""
    home = cache / "models--someone--mobilevit"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(REVISION)
    snapshot = home / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    return saved(snapshot / weights, state("huggingface", "classification"))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_cached_repository_loads_offline(cache: Path, weights: str) -> None:
    cached(cache, weights)

    loaded = load_checkpoint(f"hf:{REPOSITORY}")

    assert (loaded.source, loaded.mode, loaded.num_classes) == ("huggingface", "xxs", 5)


def test_it_is_a_reference_that_names_the_repository(cache: Path) -> None:
    path = cached(cache)

    found = reference.from_weights(None, f"hf:{REPOSITORY}", num_classes=None, seed=0)

    assert found.weights["source"] == f"hf:{REPOSITORY}"
    assert found.weights["sha256"] == load_checkpoint(path).sha256
    assert (found.mode, found.color_order) == ("xxs", "RGB")


def test_only_settings_and_one_kind_of_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def snapshot_download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        saved(tmp_path / "model.safetensors", state("huggingface", "classification"))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    load_checkpoint(f"hf:{REPOSITORY}")

    assert asked == [(REPOSITORY, ["config.json", "preprocessor_config.json", "model.safetensors"])]


@pytest.mark.usefixtures("cache")
def test_offline_and_not_cached_is_one_clear_error() -> None:
    with pytest.raises(AbsentCheckpointError, match=f"hf:{REPOSITORY} cannot be downloaded, nor is it in the cache"):
        load_checkpoint(f"hf:{REPOSITORY}")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", ["", "a/b/c", "what is this?", "../x"])
def test_a_name_that_is_none_is_one_clear_error(name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        load_checkpoint(f"hf:{name}")


def test_a_repository_without_weights_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(tmp_path))

    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor pytorch_model.bin"):
        load_checkpoint(f"hf:{REPOSITORY}")


def test_without_the_library_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)

    with pytest.raises(MissingLibraryError, match=r"pip install 'mvit-deploy\[hub\]'"):
        load_checkpoint(f"hf:{REPOSITORY}")
