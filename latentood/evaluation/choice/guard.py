"""The splits that a choice of settings may open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from latentood.errors import ConfigError, ForbiddenSplit, unknown
from latentood.evaluation.inputs.overlap import Overlap
from latentood.latents import Latents
from latentood.latents.facts import CHOICE_ROLES, Role
from latentood.latents.splits import Splits, SplitsView


@dataclass(frozen=True)
class ChoiceSplits(SplitsView):
    """All splits by name, of which only those of role fit, val and tune can be opened.

    The search gets its rows from here and from nowhere else, so that no setting can depend on a
    row that is reported, whatever code runs within it. What is known of a split is no row: that
    stays there for all.
    """

    def __getitem__(self, split: str, /) -> Latents:
        """Open a split.

        Raises:
            ForbiddenSplit: Its rows are for what is reported.
        """
        self._require(split)
        return super().__getitem__(split)

    def ids(self, split: str, /) -> Sequence[str]:
        """Name the rows of a split; errors are those of opening it."""
        self._require(split)
        return super().ids(split)

    def of_role(self, role: Role) -> list[str]:
        """Name the splits of a role."""
        return [name for name, facts in self.splits.items() if facts.role == role]

    def only(self, role: Role, example: str) -> str:
        """Name the one split of a role.

        Raises:
            ConfigError: There is none, or more than one.
        """
        names = self.of_role(role)
        if len(names) == 1:
            return names[0]
        listed = ", ".join(f"{name!r} ({facts.role})" for name, facts in self.splits.items())
        raise ConfigError(
            f"tune: needs exactly one split of role {role}, got {listed or 'no split'}; change "
            f"the pipeline's splits, e.g. {example}: {{role: {role}, target: ...}}, and re-run "
            "extract"
        )

    def _require(self, split: str) -> None:
        if split not in self.splits:
            raise unknown("split", split, self.splits)
        role = self.splits[split].role
        if role not in CHOICE_ROLES:
            raise ForbiddenSplit(
                f"tune: settings must be chosen on splits of role {', '.join(CHOICE_ROLES)}, but "
                f"{split!r} of role {role} was asked for; give OOD to choose on the role tune"
            )


def require_unseen(counted: Iterable[Overlap], splits: Splits) -> None:
    """Refuse a reported split with a row that settings would be chosen on, however few.

    Raises:
        ConfigError: Names both splits.
    """
    role = {name: facts.role for name, facts in splits.splits.items()}
    for overlap in counted:
        if role[overlap.other] in ("val", "tune") and role[overlap.split] not in CHOICE_ROLES:
            raise ConfigError(
                f"tune: no row may be chosen on and reported, but {overlap}; take them out of one "
                "of the two, or add --allow-overlap (in Python allow_overlap=True)"
            )
