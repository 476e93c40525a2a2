"""Import what a pipeline names and load the weights."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentood.config import ModelConfig, Target
from latentood.errors import ConfigError, LatentOODError, ModelError, suggest


def build(target: Target, **extra: Any) -> Any:
    """Import a target and call it with its arguments, building nested targets first.

    Raises:
        ConfigError: It cannot be imported, does not exist or refuses its arguments.
    """
    factory = find(target.target)
    arguments = {name: _resolve(value) for name, value in target.args.items()}
    try:
        return factory(**arguments, **extra)
    except LatentOODError:  # says itself who, and what is wrong
        raise
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in target.args.items())
        reason = " ".join(str(error).split())
        raise ConfigError(f"{target.target}({shown}): {reason}") from error


def find(dotted: str) -> Any:
    """Import the object a dotted name stands for.

    Raises:
        ConfigError: No such module or attribute (names the nearest).
    """
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and module_name.startswith(error.name):
                continue
            raise ConfigError(f"target {dotted!r}: needs {error.name!r}; install it") from error
        for name in parts[cut:]:
            if not hasattr(found, name):
                raise ConfigError(
                    f"target {dotted!r}: no {name!r} in {module_name}; {suggest(name, dir(found))}"
                )
            found = getattr(found, name)
        return found
    raise ConfigError(
        f"target {dotted!r}: no module {parts[0]!r}; install it or put it beside the pipeline file"
    )


def import_beside(folder: Path) -> None:
    """Let targets name the user's own modules that lie beside the pipeline file."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _resolve(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "target" in value:
            unexpected = set(value) - {"target", "args"}
            if unexpected:
                raise ConfigError(
                    f"target {value['target']!r}: only args may stand beside it, "
                    f"got {sorted(unexpected)}"
                )
            return build(Target(target=value["target"], args=value.get("args") or {}))
        return {key: _resolve(item) for key, item in value.items()}
    return [_resolve(item) for item in value] if isinstance(value, list) else value


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
        state = _reader(path)(path)
    except Exception as error:  # the readers raise many kinds; all mean the same to the user
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"weights {path}: must be safetensors or load with weights_only=True; "
            f"reading failed: {reason}"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(f"weights {path}: must hold a state dict of tensors")
    return dict(state)


def _reader(path: Path) -> Callable[[Path], Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file
    return lambda file: torch.load(file, map_location="cpu", weights_only=True)


def _first(keys: list[str], shown: int = 3) -> str:
    return ", ".join(keys[:shown]) + (", …" if len(keys) > shown else "")
