"""The loop of the training scripts, on a loss whose every step is known: the sum of one bias."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvit_deploy.checkpoints import load_checkpoint
from mvit_deploy.nn.heads.detection import Detector, detector
from tests.training.scripts import script

RATE = 1e-3
SCORES = {1: 0.1, 2: 0.3, 3: 0.2, 4: 0.3}  # by epoch; the second is the best, the fourth no better


def bias_of(model: nn.Module) -> Tensor:
    return model.head.predict[5].bias


def fitted(folder: Path, **changed: object) -> tuple[Detector, list[Tensor], Tensor]:
    """A model after four epochs of one step, its bias at each measuring, and as it was before."""
    torch.manual_seed(0)
    model, biases = detector("xxs", 2), []
    before = bias_of(model).detach().clone()
    options = {"backbone": None, "lr": RATE, "warm_up": 1, "ema": None, "epochs": 4, "measure_every": 1}
    options |= {"output": folder / "model.safetensors"} | changed

    def measure(judged: nn.Module) -> tuple[float, str]:
        assert not judged.training
        biases.append(bias_of(judged).detach().clone())
        return SCORES[len(biases)], ""

    script("common").fit(model, [None], lambda m, _: -0.01 * bias_of(m).sum(), measure, Namespace(**options))
    return model, biases, before


def test_a_step_is_as_large_as_its_rate(tmp_path: Path) -> None:
    """Adam moves by the rate where the gradient stays the same: a tenth in the warm-up, then half a cosine."""
    _, biases, before = fitted(tmp_path)

    moves = [float((now - then).mean()) for then, now in zip([before, *biases], biases, strict=False)]
    assert moves == pytest.approx([0.1 * RATE, RATE, 0.75 * RATE, 0.25 * RATE], rel=0.01)


def test_the_first_of_the_best_weights_stay_in_the_model_and_in_the_file(tmp_path: Path) -> None:
    model, biases, _ = fitted(tmp_path)

    assert torch.equal(bias_of(model), biases[1])
    assert torch.equal(bias_of(load_checkpoint(tmp_path / "model.safetensors").model), biases[1])


def test_the_last_epoch_is_measured_whatever_the_interval(tmp_path: Path) -> None:
    assert len(fitted(tmp_path, measure_every=3)[1]) == 2
    assert len(fitted(tmp_path, measure_every=9)[1]) == 1


def test_a_moving_average_lags_behind(tmp_path: Path) -> None:
    """It starts from the weights after the first step, and goes half of the way in each of the others."""
    plain, lagging = fitted(tmp_path)[1], fitted(tmp_path, ema=0.5)[1]

    expected = plain[0]
    for now, found in zip(plain, lagging, strict=True):
        expected = (expected + now) / 2
        assert torch.allclose(found, expected, atol=1e-7)


def test_a_given_backbone_is_where_training_starts(tmp_path: Path) -> None:
    trained = detector("xxs", 5)
    script("common").save(trained, tmp_path / "start.safetensors")

    model, _, _ = fitted(tmp_path, backbone=tmp_path / "start.safetensors")

    assert torch.equal(model.backbone.stem.conv.weight, trained.backbone.stem.conv.weight)


def test_a_loss_that_is_not_finite_ends_training(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="not finite any more; try a smaller --lr"):
        script("common").train(
            detector("xxs", 2), [None], lambda m, _: bias_of(m).sum() / 0, None, None, None, keeps_statistics=False
        )
