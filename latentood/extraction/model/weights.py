"""Build the network of a pipeline, load its weights and hash them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from latentood.errors import ConfigError, ModelError, one_line
from latentood.latents.facts import canonical
from latentood.pipeline.schema import ModelConfig
from latentood.pipeline.targets import build


def load_model(config: ModelConfig, seed: int) -> nn.Module:
    """Build the network and load its weights; it comes in eval mode, without gradients.

    Raises:
        ConfigError: The target cannot be built, or the weights file is missing or unreadable.
        ModelError: The weights belong to another architecture (names the keys).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # a model without a weights file is at least reproducible
        model = build(config)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{config.target}: must give a torch.nn.Module, got {type(model).__name__}"
        )
    if config.weights is not None:
        load_weights(model, config.weights)
    return model.eval().requires_grad_(False)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict, refusing pickles and other architectures."""
    state = _read_weights(path)
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    # BatchNorm's counter is not used in eval mode, and many published files leave it out.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & state.keys())
        if state[key].shape != expected[key].shape
    ]
    lists = (("missing", missing), ("unexpected", extra), ("of another shape", wrong))
    problems = [f"{len(keys)} {what} ({_first(keys)})" for what, keys in lists if keys]
    if problems:
        raise ModelError(
            f"weights {path}: keys do not fit {type(model).__name__}: "
            f"{'; '.join(problems)}; check model.target and its args"
        )
    model.load_state_dict(state, strict=False)


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"weights {path}: no such file; check model.weights")
    try:
        state: Any
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds; all mean the same to the user
        reason = one_line(error)[:200]
        raise ConfigError(
            f"weights {path}: must be safetensors or load with weights_only=True; "
            f"reading failed: {reason}"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"weights {path}: must hold a state dict of tensors")
    return dict(state)


def _first(keys: list[str], shown: int = 3) -> str:
    return ", ".join(keys[:shown]) + (", …" if len(keys) > shown else "")


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Give the SHA-256 of named tensors, e.g. a state dict, as 64 hex digits.

    It is over the sorted names with dtype, shape and bytes; the order of the mapping, the device
    and the strides do not matter.
    """
    running = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous().reshape(-1)
        about = [name, str(tensor.dtype), list(tensors[name].shape)]
        running.update(canonical(about).encode())
        # NumPy has no bfloat16, but every dtype can be seen as bytes.
        running.update(tensor.view(torch.uint8).numpy().data)
    return running.hexdigest()
