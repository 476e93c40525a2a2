"""Trained weights on disk."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import save
from torch import nn


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's state dict as safetensors."""
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    write_whole(path, save(state))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash half way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)
