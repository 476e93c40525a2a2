"""Build the network of a pipeline, load its weights and hash them."""

from __future__ import annotations

import hashlib
import logging
import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from latentood.errors import ConfigError, LatentOODError, ModelError, one_line
from latentood.extraction.model.head import select_logits
from latentood.latents.facts import canonical
from latentood.models.ensemble import Ensemble
from latentood.models.heads import (
    ATTACHED,
    HEADS,
    PREFIX,
    SoftmaxHead,
    UncertaintyHead,
    attach,
    build_head,
)
from latentood.pipeline.schema import ModelConfig
from latentood.pipeline.targets import build, filled
from latentood.sealed import read_document, read_intact

log = logging.getLogger(__name__)

_NESTED = ("state_dict", "model_state_dict", "model")
_PARALLEL = "module."


def load_model(config: ModelConfig, seed: int) -> nn.Module:
    """Build the network and load its weights; it comes in eval mode, without gradients.

    Of several files it is an ensemble of networks, each as it would be alone.

    Raises:
        ConfigError: The target cannot be built, or a weights file is missing or unreadable.
        ModelError: The weights belong to another architecture (names the keys), or members of an
            ensemble have heads with an uncertainty of their own.
    """
    files = config.weights if isinstance(config.weights, list) else [config.weights]
    networks = [_network(config, file, seed) for file in files]
    model = networks[0] if len(files) == 1 else Ensemble(networks)
    if isinstance(model, Ensemble):
        _check_members(model)
        if config.output is not None:
            model.select = partial(select_logits, field=config.output)
    return model.eval().requires_grad_(False)


def _check_members(model: Ensemble) -> None:
    for name, part in model.named_modules():
        if name and isinstance(part, Ensemble | UncertaintyHead):
            raise ModelError(
                "model: an ensemble must be of networks that give logits alone, got "
                f"{type(part).__name__} at {name!r}; for members with a head, extract each file "
                "into a cache of its own; for an Ensemble from model.target, give one file of "
                "weights, not a list"
            )


def _network(config: ModelConfig, weights: Path | None, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # a model without a weights file is at least reproducible
        model = build_network(config)
    if weights is not None:
        path = Path(filled(str(weights), "model.weights"))
        attach_head(model, path, config.output)
        load_weights(model, path)
    return model


def build_network(config: ModelConfig) -> nn.Module:
    """Build the network with the weights that it draws, from torch's generator.

    Raises:
        ConfigError: The target cannot be built.
        ModelError: It gives no network.
    """
    model = build(config)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{config.target}: must give a torch.nn.Module, got {type(model).__name__}"
        )
    return model


def attach_head(model: nn.Module, path: Path, output: str | None) -> None:
    """Attach the head that a file of weights describes, as ``latentood train`` writes them.

    Raises:
        ModelError: There is no such head.
    """
    record = read_document(path).get("head")
    if record is not None and record.get("name") != SoftmaxHead.name:
        attach(model, build_head(record, HEADS), lambda given: select_logits(given, output))


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a state dict, refusing pickles and other architectures."""
    state = _read_weights(path)
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    # BatchNorm's counter is not used in eval mode, and many published files leave it out.
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    head = getattr(model, ATTACHED, None)
    if isinstance(head, UncertaintyHead):
        missing = [key for key in missing if key.removeprefix(PREFIX) not in head.only_for_training]
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
            state = _read_sealed(path) if read_document(path) else load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except LatentOODError:
        raise
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"weights {path}: must hold tensors alone, got a file with other objects, which are "
            "never unpickled; save the model's state_dict(), best as safetensors"
        ) from error
    except Exception as error:  # the readers raise many kinds; all mean the same to the user
        reason = one_line(error)[:200]
        raise ConfigError(
            f"weights {path}: must be safetensors or load with weights_only=True; "
            f"reading failed: {reason}"
        ) from error
    return _state_dict(path, state)


def _read_sealed(path: Path) -> dict[str, Tensor]:
    """Read weights that ``latentood train`` wrote, if they are still those."""

    def refuse(what: str) -> ConfigError:
        return ConfigError(
            f"weights {path}: must have the bytes that latentood train wrote, got {what}; train "
            "again, or copy the file again"
        )

    return read_intact(path, refuse).arrays


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """Take the state dict out of what a checkpoint holds, without the prefix of a parallel run."""
    nested = [name for name in _NESTED if isinstance(content, Mapping) and name in content]
    if nested and isinstance(content[nested[0]], Mapping):
        log.info("weights %s: using %r of the checkpoint", path, nested[0])
        content = content[nested[0]]
    tensors = isinstance(content, Mapping) and all(isinstance(v, Tensor) for v in content.values())
    if not tensors:
        held = f"{', '.join(map(repr, content))}" if isinstance(content, Mapping) else content
        raise ConfigError(
            f"weights {path}: must hold a state dict of tensors, got {str(held)[:200]}; save the "
            "model's state_dict()"
        )
    if content and all(key.startswith(_PARALLEL) for key in content):
        log.info("weights %s: names without the prefix %r of a parallel run", path, _PARALLEL)
        return {key.removeprefix(_PARALLEL): value for key, value in content.items()}
    return dict(content)


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
