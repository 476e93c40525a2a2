"""The splits that several caches have in common, so that their models can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latentood.errors import ConfigError
from latentood.latents.facts import OOD_ROLES, Role, SplitFacts
from latentood.latents.key import Unit
from latentood.latents.splits import MemberSplits, Splits, SplitsView


@dataclass(frozen=True)
class CommonSplits(SplitsView):
    """Splits of which the OOD ones are some, in an order that caches share.

    So that bootstrap samples draw the same rows in all of them, and averages are over the same
    splits.
    """

    ood: tuple[str, ...]

    @property
    def splits(self) -> Mapping[str, SplitFacts]:
        """Split → what is known of it."""
        every = self.of.splits
        others = {name: facts for name, facts in every.items() if facts.role not in OOD_ROLES}
        return others | {name: every[name] for name in self.ood}


def common_ood(caches: Mapping[str, Splits], unit: Unit) -> tuple[str, ...]:
    """Name the OOD splits that all caches have under one name and role, as the first orders them.

    Args:
        caches: Name → splits.
        unit: What a row is; splits without members are left out.

    Raises:
        ConfigError: There is none.
    """
    ood = {name: ood_roles(splits, unit) for name, splits in caches.items()}
    first, *others = ood.values()
    common = tuple(
        name for name, role in first.items() if all(one.get(name) == role for one in others)
    )
    if not common:
        listed = "; ".join(
            f"{name} {', '.join(f'{split} ({role})' for split, role in roles.items()) or 'none'}"
            for name, roles in ood.items()
        )
        raise ConfigError(
            "compare: stores must have an OOD split of the same name and role in common, got "
            f"{listed}; extract the same splits with all models"
        )
    return common


def ood_roles(splits: Splits, unit: Unit) -> dict[str, Role]:
    """Give the OOD splits of a cache and their roles."""
    every = MemberSplits(splits, unit).splits
    return {name: facts.role for name, facts in every.items() if facts.role in OOD_ROLES}
