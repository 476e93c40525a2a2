"""What is known of splits without reading them: roles, origins, and how arrays were made.

Plain values, shared by the store, which writes them, and by evaluation, which reports them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from latentood.errors import ConfigError

Role = Literal["fit", "val", "tune", "id", "near", "far", "mixed"]
"""What a split is for: to fit, to calibrate, to choose settings on as OOD, to score as ID, as near
OOD and as far OOD; or, where its rows or members say themselves whether they are OOD, as both."""

ROLES: tuple[Role, ...] = get_args(Role)

FITTED_ROLES: tuple[Role, ...] = ("fit", "val")
"""Of splits that detectors are fitted and calibrated on."""

OOD_ROLES: tuple[Role, ...] = ("near", "far", "mixed")
"""Of splits with OOD rows; those of a mixed one are compared with its own ID rows."""

CHOICE_ROLES: tuple[Role, ...] = ("fit", "val", "tune")
"""Of splits that a choice of settings may read; the others are for what is reported of it."""

ID, OOD, IGNORED = 0, 1, 255
"""What rows, members and pixels say that they are; those to ignore are never counted."""


def state_of(role: Role) -> int:
    """Say what all rows of a split are that do not say it themselves: ID or OOD."""
    return OOD if role in ("near", "far", "tune") else ID


@dataclass(frozen=True)
class Origin:
    """Where all numbers of a cache come from; empty for arrays of unknown origin.

    Two runs may share a store only if all fields of their fingerprints are equal; the versions,
    those of the libraries at extraction, are never compared.
    """

    pipeline: Mapping[str, Any] = field(default_factory=dict)  # resolved, as JSON
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the fingerprint, 64 hex digits; empty where nothing is known."""
        return digest(self.fingerprint) if self.fingerprint else ""


@dataclass(frozen=True)
class SplitFacts:
    """One split: its role, the provenance of its data set, and how its arrays were made."""

    role: Role
    data: Mapping[str, Any] = field(default_factory=dict)  # "fingerprint" included
    made: Mapping[str, str] = field(default_factory=dict)
    """Key → the reduction of a layer, or the settings of a score tap."""


def plain(value: Any) -> Any:
    """Give a value as JSON would give it back: tuples as lists, keys as texts.

    Raises:
        ConfigError: It is not JSON (NaN and infinity are not).
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"what is kept in a cache's metadata must be JSON, got {value!r} ({error}); "
            "give strings, finite numbers, lists and mappings"
        ) from None


def canonical(value: Any) -> str:
    """Write a JSON value in the one way that does not depend on the order of its keys."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """Give the SHA-256 of a JSON value in canonical form, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
