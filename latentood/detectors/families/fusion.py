"""Detectors made of other detectors: their scores, made comparable on ID val rows, as one."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector, registry
from latentood.errors import DetectorError
from latentood.latents import Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.combination import brown_scale, chi2_surprise, log_p_values, spread_of

_FORMER = {"openmax": "alpha=3", "ssd": "normalise=false", "neco": "max_logit=true"}
"""Defaults of schema 1 that have changed since and that scores depend on."""

_ROUNDING = 1e-12  # of the largest score: a spread below it is that of one value


@dataclass(frozen=True)
class ReadyFusion:
    """Members ready to score, and what the fusion itself learned."""

    members: tuple[Any, ...]  # what each member's prepare gave
    learned: State  # the fusion's own state


@plugin
class Fusion(Detector):
    """A combination of the scores of several detectors or of one detector on several layers.

    A member is written ``name``, ``name:layer`` or ``name:layer:k=200:share=0.1``. Its state is
    kept under its place, ``0.bank``, so that a fusion is saved and loaded like any detector.
    """

    family = "fusion"
    cost = "that of the members, once more on the ID val rows to fit"
    cannot_fit_on = ("one row", "few rows")
    members: tuple[str, ...] = hyper(
        ("mahalanobis", "knn", "energy"), "detectors: name, name:layer or name:layer:option=value"
    )

    def __post_init__(self) -> None:
        """Build the members, so that a wrong one is refused at once."""
        if not self.members or len(set(self.members)) < len(self.members):
            raise DetectorError(
                f"{self.name}: members must be at least one and all different, got "
                f"{self.members!r}; name each detector and layer once"
            )
        _ = self.parts

    @classmethod
    def of_schema_1(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Spell out defaults of members that have changed since."""
        return given | {"members": tuple(map(_as_before, given["members"]))}

    @cached_property
    def parts(self) -> tuple[Detector, ...]:
        """The members as detectors, in order."""
        return tuple(_built(self.name, member) for member in self.members)

    def needs(self) -> Needs:
        """Declare what the members read; ID val rows are scored, too."""
        needs = [part.needs() for part in self.parts]
        return Needs(
            score=_union(need.score for need in needs),
            fit=_union(need.fit for need in needs),
            val=_union(need.val + need.score for need in needs),
        )

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for what the members ask for."""
        return tuple(statistic for part in self.parts for statistic in part.statistics())

    def memory(self, train: Latents) -> int:
        """Add up what the members take."""
        return sum(part.memory(train) for part in self.parts)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Fit the members and learn from their scores of the ID val rows."""
        rows = self.val_rows(val)
        state: State = {}
        columns = []
        for place, part in enumerate(self.parts):
            fitted = fit(part, train, rows)
            columns.append(fitted.score(rows))
            state |= {f"{place}.{name}": tensor for name, tensor in fitted.state.items()}
        scores = torch.stack(columns, dim=1)
        varies = spread_of(scores) > _ROUNDING * scores.abs().amax(dim=0)
        for member, differs in zip(self.members, varies.tolist(), strict=True):
            if not differs:
                raise DetectorError(
                    f"{self.name}: scores of the member {member!r} must vary between ID val rows, "
                    f'got one value for all {len(rows)} of "{rows.name}"; use more ID val rows or '
                    "leave that member out"
                )
        return state | self.learn(scores)

    def prepare(self, state: State) -> ReadyFusion:
        """Prepare every member from its part of the state."""
        members = [part.prepare(part_state) for part, part_state in self._by_member(state)]
        learned = {name: tensor for name, tensor in state.items() if "." not in name}
        return ReadyFusion(tuple(members), learned)

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Give the diagnostics of the members."""
        facts_of = [part.diagnostics(part_state) for part, part_state in self._by_member(state)]
        return {
            member: facts for member, facts in zip(self.members, facts_of, strict=True) if facts
        }

    def score(self, state: ReadyFusion, rows: Latents) -> Tensor:
        """Combine the scores of the members: (N,)."""
        ready = zip(self.parts, state.members, strict=True)
        scores = torch.stack([part.score(prepared, rows) for part, prepared in ready], dim=1)
        return self.combine(state.learned, scores)

    @abstractmethod
    def learn(self, scores: Tensor) -> State:
        """Learn from scores of ID val rows (V, M); names of tensors must be without a dot."""

    @abstractmethod
    def combine(self, learned: State, scores: Tensor) -> Tensor:
        """Combine scores (N, M) → (N,)."""

    def _by_member(self, state: State) -> Iterator[tuple[Detector, State]]:
        for place, part in enumerate(self.parts):
            lead = f"{place}."
            own = {name[len(lead) :]: t for name, t in state.items() if name.startswith(lead)}
            yield part, own


def _union(several: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for keys in several for key in keys))


def _built(who: str, member: str) -> Detector:
    """Build a member from ``name:layer:option=value``."""
    name, *words = member.split(":")
    options = dict(_option(who, member, word) for word in words)
    if "layer" in options and name in registry() and not registry()[name].per_layer:
        raise DetectorError(
            f"{who}: members with a layer must be able to read any, got {member!r}; leave the "
            f"layer of {name} out"
        )
    return detector(name, **options)


def _as_before(member: str) -> str:
    name, *words = member.split(":")
    option = _FORMER.get(name, "")
    given = {word.partition("=")[0] for word in words}
    return f"{member}:{option}" if option and option.partition("=")[0] not in given else member


def _option(who: str, member: str, word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    if not name or (equals and not text):
        raise DetectorError(
            f"{who}: members must be written as name:layer:option=value, got {member!r}; e.g. "
            "'knn:layer3:k=200'"
        )
    if not equals:
        return "layer", name
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text


@plugin
class StandardisedFusion(Fusion):
    """Scores less their mean over ID val rows, in units of their spread there."""

    paper = "C. Aggarwal and S. Sathe, SIGKDD Explorations 17(1), 2015, sec. 3"

    def learn(self, scores: Tensor) -> State:
        """Keep mean and spread (M,) of every member."""
        return {"mean": scores.mean(dim=0), "spread": spread_of(scores)}

    def standardised(self, learned: State, scores: Tensor) -> Tensor:
        """Standardise scores (N, M)."""
        return (scores - learned["mean"]) / learned["spread"]


@plugin
class FusionMean(StandardisedFusion):
    """Mean of the members' scores, each standardised on ID val rows.

    ``mean_m (s_m − μ_m)/σ_m`` with σ divided by V.
    """

    name = "fusion_mean"
    works = "Members that see different kinds of OOD and agree on ID: noise averages out."
    fails = "One member with wild scores drowns the others; fusion_fisher bounds them."

    def combine(self, learned: State, scores: Tensor) -> Tensor:
        """Average (N, M) → (N,)."""
        return self.standardised(learned, scores).mean(dim=1)


@plugin
class FusionMax(StandardisedFusion):
    """Largest of the members' scores, each standardised on ID val rows.

    ``max_m (s_m − μ_m)/σ_m`` with σ divided by V.
    """

    name = "fusion_max"
    works = "Members of which only one sees a given kind of OOD."
    fails = "Heavy-tailed members, whose own false alarms all come through."

    def combine(self, learned: State, scores: Tensor) -> Tensor:
        """Take the largest (N, M) → (N,)."""
        return self.standardised(learned, scores).amax(dim=1)


@plugin
class FusionFisher(Fusion):
    """Fisher's combination of the members' p-values, as surprise in nats: −log p.

    ``X = −2·Σ_m log p_m`` with ``p_m = (1 + #{val scores ≥ s_m}) / (V + 1)``, and p the upper
    tail of χ² with 2M degrees of freedom at X. That p holds for independent members; the
    ranking by X needs no such thing, and is that of fusion_brown.
    """

    name = "fusion_fisher"
    paper = "R. Fisher, Statistical Methods for Research Workers, 4th ed. 1932, sec. 21.1"
    works = "Members on different scales: only ranks among ID val rows count. exp(−score) ≈ p."
    fails = "Few ID val rows: beyond the largest of them a member cannot tell rows apart."

    def learn(self, scores: Tensor) -> State:
        """Keep the sorted scores (V, M) and what to make of their sum."""
        reference = scores.sort(dim=0).values
        scale, degrees = self.null_of(log_p_values(scores, reference))
        null = torch.tensor([scale, degrees], dtype=torch.float64, device=scores.device)
        return {"reference": reference, "null": null}

    def null_of(self, log_p: Tensor) -> tuple[float, float]:
        """Give c and d so that X/c is χ² with d degrees of freedom, from log p-values (V, M)."""
        return 1.0, 2.0 * log_p.shape[1]

    def combine(self, learned: State, scores: Tensor) -> Tensor:
        """Combine (N, M) → (N,) ≥ 0."""
        scale, degrees = learned["null"].tolist()
        total = -2 * log_p_values(scores, learned["reference"]).sum(dim=1)
        return chi2_surprise(total / scale, degrees)


@plugin
class FusionBrown(FusionFisher):
    """Brown's combination: Fisher's for members that are not independent, −log p in nats.

    X/c is taken as χ² with d degrees of freedom, both from the covariances of −2·log p_m over
    the ID val rows; the members here always overlap, so this p is the one to set a threshold
    by. Members that oppose each other count as independent.
    """

    name = "fusion_brown"
    paper = "M. Brown, Biometrics 31(4), 1975; W. Poole et al., Bioinformatics 32(17), 2016"
    works = "As fusion_fisher, with a p that stays honest when members say the same thing."
    fails = "Few ID val rows, which also leave the covariances uncertain."

    def null_of(self, log_p: Tensor) -> tuple[float, float]:
        """Estimate c and d."""
        return brown_scale(log_p)


DETECTORS = (FusionMean, FusionMax, FusionFisher, FusionBrown)
