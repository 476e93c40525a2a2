"""Import what a pipeline file names, and call it."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from latentood.errors import ConfigError, LatentOODError, one_line, suggest
from latentood.pipeline.sections import Target

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def build(target: Target, **extra: Any) -> Any:
    """Import a target and call it with its arguments, building nested targets first.

    Raises:
        ConfigError: It cannot be imported, does not exist or refuses its arguments.
    """
    factory = find(target.target)
    if not callable(factory):
        raise ConfigError(
            f"target {target.target!r}: must be a function or a class, got "
            f"{type(factory).__name__}; name one that is called"
        )
    arguments = {name: _resolve(value, name) for name, value in target.args.items()}
    try:
        return factory(**arguments, **extra)
    except LatentOODError:  # its message is complete
        raise
    except (Exception, SystemExit) as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in target.args.items())
        reason = one_line(error) or type(error).__name__
        if isinstance(error, TypeError):
            reason += _right_names(factory, arguments)
        raise ConfigError(f"{target.target}({shown}): {reason}") from error


def filled(text: str, where: str) -> str:
    """Put variables of the environment in the place of ``${NAME}``.

    A pipeline is recorded with the name, so that no secret or path of a machine is stored.

    Raises:
        ConfigError: A variable is not set; ``where`` says which value names it.
    """

    def value(name: re.Match[str]) -> str:
        if (content := os.environ.get(name[1])) is None:
            raise ConfigError(
                f"{where}: the environment must have the variable {name[1]}, which {text!r} "
                f"names; set it, e.g. {name[1]}=… latentood …"
            )
        return content

    return _VARIABLE.sub(value, text)


def _right_names(factory: Any, given: Iterable[str]) -> str:
    """Suggest names for the arguments that a target does not have, to end a message."""
    try:
        known = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # written in C
        return ""
    return "".join(f"; for {name!r} {suggest(name, known)}" for name in given if name not in known)


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


def _resolve(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return filled(value, where)
    if isinstance(value, Mapping):
        if "target" in value:
            if unexpected := set(value) - {"target", "args"}:
                raise ConfigError(
                    f"target {value['target']!r}: only args may stand beside it, "
                    f"got {sorted(unexpected)}"
                )
            return build(Target(target=value["target"], args=value.get("args") or {}))
        return {key: _resolve(item, f"{where}.{key}") for key, item in value.items()}
    return [_resolve(item, where) for item in value] if isinstance(value, list) else value
