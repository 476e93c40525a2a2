"""Plain supervised training of an image classifier, the same result for the same seed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader

from latentood.errors import ConfigError, DataError, ModelError
from latentood.files import write_file

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (epochs done, epochs in all)."""


def train_classifier(
    model: nn.Module,
    dataset: Any,
    *,
    epochs: int,
    lr: float = 0.1,
    batch_size: int = 128,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> None:
    """Train a classifier in place with cross-entropy.

    SGD with Nesterov momentum 0.9 and weight decay 5e-4; the learning rate rises to ``lr`` and
    falls to nothing over the whole run (Smith & Topin 2018, arXiv:1708.07120). On a CPU the same
    seed and number of threads give the same bits; the caller's random state is left as it was.

    Args:
        model: Gives logits (B, C); left in eval mode on ``device``.
        dataset: Map-style, rows ``(image, label)``.
        epochs: How often all rows are used, ≥ 1.
        lr: Highest learning rate, > 0.
        batch_size: Rows of one step, ≥ 1.
        seed: For the order of the rows and the model's dropout.
        device: Where to train.
        progress: Called after every epoch.

    Raises:
        ConfigError: A number is outside its range.
        DataError: The data set has no rows.
        ModelError: Training diverged.
    """
    _check(dataset, epochs, lr, batch_size)
    device = torch.device(device)
    model.to(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        loader = DataLoader(dataset, batch_size, shuffle=True)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        schedule = OneCycleLR(optimizer, max_lr=lr, total_steps=epochs * len(loader))
        for epoch in range(1, epochs + 1):
            model.train()
            loss = _epoch(model, loader, optimizer, schedule, device)
            if not loss < float("inf"):
                raise ModelError(
                    f"train_classifier: the loss must stay finite, got {loss} in epoch {epoch}; "
                    f"lower lr from {lr}"
                )
            log.info("epoch %d of %d: loss %.4f", epoch, epochs, loss)
            if progress is not None:
                progress(epoch, epochs)
    model.eval()


@torch.inference_mode()
def accuracy(
    model: nn.Module, dataset: Any, *, batch_size: int = 256, device: torch.device | str = "cpu"
) -> float:
    """Share of rows whose largest logit is their label's, from 0 to 1; dropout is off.

    Raises:
        DataError: The data set has no rows.
    """
    _require_rows("accuracy", dataset)
    model.to(device).eval()
    right = 0
    for images, labels in DataLoader(dataset, batch_size):
        predicted = model(images.to(device)).argmax(dim=1)
        right += int((predicted == labels.to(device)).sum())
    return right / len(dataset)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's state dict as safetensors."""
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, save(state))


def _epoch(
    model: nn.Module,
    loader: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    schedule: OneCycleLR,
    device: torch.device,
) -> float:
    """Train for one epoch; gives the mean loss of the steps."""
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
    return total / len(loader)


def _check(dataset: Sized, epochs: int, lr: float, batch_size: int) -> None:
    _require_rows("train_classifier", dataset)
    limits = (("epochs", epochs, epochs >= 1, "≥ 1"), ("lr", lr, lr > 0, "> 0"),
              ("batch_size", batch_size, batch_size >= 1, "≥ 1"))  # fmt: skip
    for name, value, fits, allowed in limits:
        if not fits:
            raise ConfigError(f"train_classifier: {name} must be {allowed}, got {value}")


def _require_rows(who: str, dataset: Sized) -> None:
    if len(dataset) == 0:
        raise DataError(f"{who}: the data set must have rows, got none; check its arguments")
