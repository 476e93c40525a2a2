"""Import what a pipeline file names, and call it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentood.errors import ConfigError, LatentOODError, one_line, suggest
from latentood.pipeline.schema import Target


def build(target: Target, **extra: Any) -> Any:
    """Import a target and call it with its arguments, building nested targets first.

    Raises:
        ConfigError: It cannot be imported, does not exist or refuses its arguments.
    """
    factory = find(target.target)
    arguments = {name: _resolve(value) for name, value in target.args.items()}
    try:
        return factory(**arguments, **extra)
    except LatentOODError:  # its message is complete
        raise
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in target.args.items())
        reason = one_line(error)
        raise ConfigError(f"{target.target}({shown}): {reason}") from error


def find(dotted: str) -> Any:
    """Import the object a dotted name stands for; an error names the nearest attribute."""
    parts = dotted.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            reached: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and module_name.startswith(error.name):
                continue
            raise ConfigError(f"target {dotted!r}: needs {error.name!r}; install it") from error
        for name in parts[cut:]:
            if not hasattr(reached, name):
                raise ConfigError(
                    f"target {dotted!r}: no {name!r} in {module_name}; "
                    f"{suggest(name, dir(reached))}"
                )
            reached = getattr(reached, name)
        return reached
    raise ConfigError(
        f"target {dotted!r}: no module {parts[0]!r}; install it or put it beside the pipeline file"
    )


def import_beside(folder: Path) -> None:
    """Let targets name modules of the user beside the pipeline file."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _resolve(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "target" in value:
            if unexpected := set(value) - {"target", "args"}:
                raise ConfigError(
                    f"target {value['target']!r}: only args may stand beside it, "
                    f"got {sorted(unexpected)}"
                )
            return build(Target(target=value["target"], args=value.get("args") or {}))
        return {key: _resolve(item) for key, item in value.items()}
    return [_resolve(item) for item in value] if isinstance(value, list) else value
