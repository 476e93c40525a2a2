"""Splits and the part each plays in a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from latentood.detectors.base import Detector
from latentood.errors import ConfigError, MissingInput
from latentood.latents import Latents


class SplitFacts(Protocol):
    """What is known of a split without reading it."""

    @property
    def role(self) -> str:
        """One of ``fit``, ``val``, ``id``, ``near``, ``far``."""

    @property
    def data(self) -> Mapping[str, Any]:
        """Provenance of the data set, its ``fingerprint`` included."""

    @property
    def made(self) -> Mapping[str, str | None]:
        """Key → how the array was made: the reduction of a layer, the settings of a score tap."""


class Origin(Protocol):
    """Where latents come from: the header of a cache."""

    @property
    def pipeline(self) -> Mapping[str, Any]:
        """The resolved pipeline."""

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What the stored numbers depend on."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Library → version at extraction."""

    @property
    def digest(self) -> str:
        """Hash of the fingerprint."""


class Splits(Protocol):
    """Named rows with roles: a cache, or :class:`SplitsInMemory`."""

    @property
    def splits(self) -> Mapping[str, SplitFacts]:
        """Split → facts."""

    @property
    def header(self) -> Origin:
        """Where the latents come from."""

    def __getitem__(self, split: str, /) -> Latents:
        """Give the rows of a split."""

    def ids(self, split: str, /) -> Sequence[str]:
        """Name each row of a split."""


@dataclass(frozen=True)
class KnownOrigin:
    """What is known of arrays that did not come from a cache."""

    pipeline: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True)
class Role:
    """The part that arrays already there play."""

    role: str
    data: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitsInMemory:
    """Splits of arrays that are already there, for use without a cache.

    Args:
        latents: split → rows.
        splits: split → role.
        header: Provenance, if any is known.
    """

    latents: Mapping[str, Latents]
    splits: Mapping[str, Role]
    header: KnownOrigin = field(default_factory=KnownOrigin)

    @classmethod
    def of(cls, **splits: tuple[str, Latents]) -> SplitsInMemory:
        """Build from ``name=(role, latents)``."""
        return cls(
            {name: latents for name, (_, latents) in splits.items()},
            {name: Role(role) for name, (role, _) in splits.items()},
        )

    def __getitem__(self, split: str, /) -> Latents:
        """Give the rows of a split."""
        return self.latents[split]

    def ids(self, split: str, /) -> Sequence[str]:
        """Name each row by its number."""
        return [str(row) for row in range(len(self.latents[split]))]


@dataclass(frozen=True)
class Roles:
    """Which split plays which part; None where nobody plays it, and none has to."""

    fit: str | None
    id: str | None
    val: str | None
    near: tuple[str, ...]
    far: tuple[str, ...]

    @classmethod
    def of(cls, splits: Splits, *, fits: bool = True, scores: bool = True) -> Roles:
        """Find them.

        Args:
            splits: All there are.
            fits: Whether something will be fitted.
            scores: Whether something will be scored.

        Raises:
            ConfigError: More than one ``fit``, ``id`` or ``val``; none of what is needed: ``fit``
                to fit; ``id``, and one of ``near`` and ``far``, to score.
        """
        by_role: dict[str, list[str]] = {}
        for name, facts in splits.splits.items():
            by_role.setdefault(facts.role, []).append(name)
        near, far = by_role.get("near", []), by_role.get("far", [])
        if scores and not near and not far:
            raise _wrong_roles("at least one split of role near or far", "textures", "far", splits)

        def only(role: str, example: str, *, needed: bool) -> str | None:
            found = by_role.get(role, [])
            if len(found) == 1 or not (found or needed):
                return found[0] if found else None
            raise _wrong_roles(f"exactly one split of role {role}", example, role, splits)

        return cls(
            fit=only("fit", "train", needed=True) if fits else None,
            id=only("id", "id_test", needed=True) if scores else None,
            val=only("val", "val", needed=False) if fits else None,
            near=tuple(near) if scores else (),
            far=tuple(far) if scores else (),
        )

    @property
    def ood(self) -> tuple[str, ...]:
        """The OOD splits, near before far."""
        return self.near + self.far

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits that are scored, ID first."""
        return self.ood if self.id is None else (self.id, *self.ood)

    def open(self, splits: Splits, device: torch.device | str = "cpu") -> dict[str, Latents]:
        """Open every split that plays a part, once, so that statistics are remembered."""
        names = [name for name in (self.fit, self.val, *self.scored) if name is not None]
        return {name: splits[name].to(device) for name in names}


def require_inputs(
    detector: Detector, rows: Mapping[str, Latents], roles: Roles, *, fitted: bool = False
) -> None:
    """Check, before anything is computed, that a detector finds all arrays it reads.

    Args:
        detector: What is going to be fitted and scored.
        rows: split → rows, as :meth:`Roles.open` gives them.
        roles: Which split plays which part.
        fitted: Whether it is fitted already.

    Raises:
        MissingInput: One is not there; says what to add.
    """
    needs = detector.needs()
    if not fitted and roles.fit is not None:
        rows[roles.fit].require(needs.fit, who=detector.name)
        _require_val(detector, needs.val, rows, roles)
    for split in roles.scored:
        rows[split].require(needs.score, who=detector.name)


def _require_val(
    detector: Detector, keys: Sequence[str], rows: Mapping[str, Latents], roles: Roles
) -> None:
    if keys and roles.val is None:
        raise MissingInput(
            f"{detector.name}: needs a split of role val, but there are "
            f"{', '.join(map(repr, rows))}; add one to the pipeline, e.g. "
            "val: {role: val, target: ...}, and re-run extract"
        )
    if roles.val is not None:
        rows[roles.val].require(keys, who=detector.name)


def _wrong_roles(wanted: str, example: str, role: str, splits: Splits) -> ConfigError:
    return ConfigError(
        f"score: needs {wanted}, got {_listed(splits)}; change the pipeline's splits, "
        f"e.g. {example}: {{role: {role}, target: ...}}, and re-run extract"
    )


def _listed(splits: Splits) -> str:
    listed = ", ".join(f"{name!r} ({facts.role})" for name, facts in splits.splits.items())
    return listed or "no split"
