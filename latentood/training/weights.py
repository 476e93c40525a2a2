"""Trained weights on disk."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from latentood.files import write_file


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's state dict as safetensors."""
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, save(state))
