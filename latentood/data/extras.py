"""Optional packages and alternative arguments of the adapters to them."""

from __future__ import annotations

import importlib
from typing import Any

from latentood.errors import ConfigError


def require(package: str, *, extra: str, who: str) -> Any:
    """Import a package of an extra; ConfigError if it is not installed."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ConfigError(
            f"{who}: needs the package {package!r} of the extra [{extra}], which is not installed; "
            f"run pip install 'latentood[{extra}]'"
        ) from None


def one_of(who: str, **given: str | None) -> str:
    """Give the one argument of several that is set; ConfigError if there is not exactly one."""
    values = [value for value in given.values() if value is not None]
    if len(values) != 1:
        raise ConfigError(
            f"{who}: exactly one of {' and '.join(given)} must be given, got "
            f"{'both' if values else 'none'}; set one of them"
        )
    return values[0]
