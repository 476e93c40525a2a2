"""The splits of each role in a comparison, and checks that detectors can read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from latentood.detectors.base import Detector
from latentood.detectors.fitted import Fitted
from latentood.errors import ConfigError, MissingInput
from latentood.latents import Latents
from latentood.latents.splits import Splits


@dataclass(frozen=True)
class Roles:
    """The splits of each role; None where there is none and none is needed."""

    fit: str | None
    id: str | None
    val: str | None
    near: tuple[str, ...]
    far: tuple[str, ...]
    mixed: tuple[str, ...] = ()

    @classmethod
    def of(cls, splits: Splits, *, fits: bool = True, scores: bool = True) -> Roles:
        """Sort splits by role, to fit, to score, or both.

        Raises:
            ConfigError: More than one ``fit``, ``id`` or ``val``; none of what is needed: ``fit``
                to fit; to score ``mixed``, or ``id`` and one of ``near`` and ``far``.
        """
        by_role: dict[str, list[str]] = {}
        for name, facts in splits.splits.items():
            by_role.setdefault(facts.role, []).append(name)
        near, far, mixed = (by_role.get(role, []) for role in ("near", "far", "mixed"))
        if scores and not (near or far or mixed):
            what = "at least one split of role near, far or mixed"
            raise _wrong_roles(what, "textures", "far", splits)

        def only(role: str, example: str, *, needed: bool) -> str | None:
            names = by_role.get(role, [])
            if len(names) == 1 or not (names or needed):
                return names[0] if names else None
            raise _wrong_roles(f"exactly one split of role {role}", example, role, splits)

        return cls(
            fit=only("fit", "train", needed=True) if fits else None,
            id=only("id", "id_test", needed=bool(near or far)) if scores else None,
            val=only("val", "val", needed=False) if fits else None,
            near=tuple(near) if scores else (),
            far=tuple(far) if scores else (),
            mixed=tuple(mixed) if scores else (),
        )

    @property
    def ood(self) -> tuple[str, ...]:
        """The splits with OOD rows: near, far, mixed."""
        return self.near + self.far + self.mixed

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits that are scored, ID first."""
        return self.ood if self.id is None else (self.id, *self.ood)

    def open(self, splits: Splits, device: torch.device | str = "cpu") -> dict[str, Latents]:
        """Open every split that has a role here, once, so that statistics are remembered."""
        names = [name for name in (self.fit, self.val, *self.scored) if name is not None]
        return {name: splits[name].to(device) for name in names}


def require_inputs(
    detector: Detector,
    rows: Mapping[str, Latents],
    roles: Roles,
    *,
    fitted: Fitted | None = None,
) -> None:
    """Check, before anything is computed, that all arrays a detector reads are there.

    Raises:
        MissingInput: One is not there; names what to add.
    """
    needs = detector.needs()
    if fitted is None and roles.fit is not None:
        rows[roles.fit].require(needs.fit, who=detector.name)
        if roles.val is not None:
            rows[roles.val].require(needs.val, who=detector.name)
        elif needs.val:
            raise MissingInput(
                f"{detector.name}: needs a split of role val, but there are "
                f"{', '.join(map(repr, rows))}; add one to the pipeline, e.g. "
                "val: {role: val, target: ...}, and re-run extract"
            )
    for split in roles.scored:
        reads = needs.score if fitted is None else fitted.reads(rows[split])
        rows[split].require(reads, who=detector.name)


def _wrong_roles(wanted: str, example: str, role: str, splits: Splits) -> ConfigError:
    listed = ", ".join(f"{name!r} ({facts.role})" for name, facts in splits.splits.items())
    return ConfigError(
        f"score: needs {wanted}, got {listed or 'no split'}; change the pipeline's splits, "
        f"e.g. {example}: {{role: {role}, target: ...}}, and re-run extract"
    )
