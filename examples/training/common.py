"""What the three training scripts share: options, the loop, and the files that are written."""

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from mvit_deploy.checkpoints import cvnets
from mvit_deploy.errors import MvitError, UsageError
from mvit_deploy.nn.config import MODES
from mvit_deploy.training.backbone import load_backbone

WEIGHT_DECAY, LARGEST_GRADIENT = 0.01, 10.0  # as ml-cvnets v0.1 trains
FIRST_STD = 0.01  # of the weights of a new head's last layer
FIRST_RATE = 0.1  # of the learning rate, at the first step of the warm-up


def parser(description: str, *, image_size: int) -> argparse.ArgumentParser:
    """The options of every script."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--output", type=Path, required=True, help="the .safetensors file to write; labels go beside it")
    found.add_argument("--mode", choices=MODES, default="xxs")
    found.add_argument("--backbone", help="a checkpoint to start from: a file, or hf:OWNER/NAME")
    found.add_argument("--image-size", type=int, default=image_size, help="of the square images, a multiple of 32")
    found.add_argument("--epochs", type=int, default=30)
    found.add_argument("--batch", type=int, default=16, help="pictures a step, at least 2")
    found.add_argument("--lr", type=float, default=1e-3, help="the largest learning rate")
    found.add_argument("--warm-up", type=int, default=50, help="steps until then")
    found.add_argument("--ema", type=float, metavar="DECAY", help="keep a moving average of the weights, say 0.99")
    found.add_argument("--measure-every", type=int, default=5, help="epochs; the best weights are kept")
    found.add_argument("--seed", type=int, default=0)
    return found


def start_small(layers: Iterable[nn.Conv2d]) -> None:
    """Give the layers that make a head's outputs weights so small that training need not unlearn loud random ones.

    Source: arXiv 1708.02002 section 4.1.
    """
    for layer in layers:
        nn.init.normal_(layer.weight, std=FIRST_STD)
        nn.init.zeros_(layer.bias)


def batches(dataset: Dataset, options: argparse.Namespace) -> DataLoader:
    """Shuffled, seeded; a last batch that is not full is left out, since BatchNorm learns little from it.

    Raises: UsageError when there is no full batch, or one of a single picture.
    """
    if not 2 <= options.batch <= len(dataset):
        raise UsageError(f"--batch {options.batch}: from 2 to the number of pictures, which is {len(dataset)}")
    order = torch.Generator().manual_seed(options.seed)
    return DataLoader(dataset, options.batch, shuffle=True, drop_last=True, generator=order)


def fit(
    model: nn.Module,
    loader: DataLoader,
    loss_of: Callable[[nn.Module, list[Tensor]], Tensor],
    measure: Callable[[nn.Module], tuple[float, str]],
    options: argparse.Namespace,
) -> None:
    """Train a model, measure it every few epochs, and leave it with the best weights, which are saved as they come.

    loss_of: of the model on a batch. measure: a number that is to grow, and words; it is given the model in eval mode.
    """
    if options.backbone:
        load_backbone(model, options.backbone)
    optimiser = torch.optim.AdamW(model.parameters(), options.lr, weight_decay=WEIGHT_DECAY)
    steps = options.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, options.warm_up, steps))
    average = averaged(model, options.ema) if options.ema else None
    best = -math.inf
    for epoch in range(1, options.epochs + 1):
        loss = train(model, loader, loss_of, optimiser, schedule, average, keeps_statistics=bool(options.backbone))
        if epoch % options.measure_every and epoch < options.epochs:
            continue
        judged = (average.module if average else model).eval()
        score, words = measure(judged)
        print(f"epoch {epoch:3}  loss {loss:.3f}  {words}{'  best' if score > best else ''}", flush=True)
        if score > best:
            best, weights = score, {key: tensor.clone() for key, tensor in judged.state_dict().items()}
            save(judged, options.output)
    model.load_state_dict(weights)
    model.eval()


def rate(step: int, warm_up: int, steps: int) -> float:
    """The learning rate of a step, in units of the largest: linear to 1, then half a cosine to 0."""
    if step < warm_up:
        return FIRST_RATE + (1 - FIRST_RATE) * step / warm_up
    return (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))) / 2


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of weights and of BatchNorm's statistics, which belong to them."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def train(
    model: nn.Module,
    loader: DataLoader,
    loss_of: Callable[[nn.Module, list[Tensor]], Tensor],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    average: AveragedModel | None,
    *,
    keeps_statistics: bool,
) -> float:
    """One epoch; the mean loss. Ends the process, and says so, when the loss is not finite."""
    set_training(model, keeps_statistics=keeps_statistics)
    losses = []
    for batch in loader:
        loss = loss_of(model, batch)
        if not loss.isfinite():
            sys.exit("the loss is not finite any more; try a smaller --lr")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        optimiser.step()
        schedule.step()
        if average:
            average.update_parameters(model)
        losses.append(loss.item())
    return sum(losses) / len(losses)


def set_training(model: nn.Module, *, keeps_statistics: bool) -> None:
    """Training mode; with keeps_statistics the backbone's BatchNorm stays with those it was trained with.

    They are of many pictures, and better than those of a small batch. Its factors and biases are trained all the same.
    """
    model.train()
    for module in model.backbone.modules() if keeps_statistics else ():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def run(main: Callable[[], int]) -> int:
    """The exit code of a script; what is wrong with its options or files is one line."""
    try:
        return main()
    except MvitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def save(model: nn.Module, path: Path) -> None:
    """Write a model under ml-cvnets' keys, which every command of this project reads; whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    save_file(cvnets.state_dict_for(model), partial)
    partial.replace(path)


def save_labels(classes: list[str], path: Path) -> None:
    """Write the names of the classes, without a background, as --labels of mvit-export reads them."""
    path.with_suffix(".labels.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
