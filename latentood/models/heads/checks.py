"""What the settings of a head must be."""

from __future__ import annotations

from typing import Any, get_args

from latentood.errors import ConfigError


def check_positive(who: str, **settings: float) -> None:
    """Refuse settings that are not above 0.

    Raises:
        ConfigError: One is not.
    """
    for name, value in settings.items():
        if not value > 0:
            least = "≥ 1" if isinstance(value, int) else "> 0"
            raise ConfigError(
                f"{who}: {name} must be {least}, got {value!r}; look at objective: in training:"
            )


def check_choice(who: str, name: str, value: str, allowed: Any) -> None:
    """Refuse a setting that is not one of the values of a ``Literal``.

    Raises:
        ConfigError: It is not.
    """
    options = list(get_args(allowed))
    if value not in options:
        raise ConfigError(
            f"{who}: {name} must be one of {options}, got {value!r}; look at objective: in "
            "training:"
        )
