"""The advice of a cache: measures of every layer, and what the rules say of every family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from latentood.detectors.advice import measures
from latentood.detectors.advice.evidence import BY_OUTCOME, NETWORKS, SEEN, Seen
from latentood.detectors.advice.measures import Measured, Table
from latentood.detectors.advice.rules import FAMILIES, OUTCOMES, RULES, Outcome, Place, Rule
from latentood.detectors.base import Detector
from latentood.detectors.registry import detector, registry
from latentood.errors import DataError, LatentOODError
from latentood.latents import PENULTIMATE, Key, Latents

NOTE = (
    "a heuristic, from ID rows alone: likely means that the rows are as the family assumes, not "
    "that it detects your OOD. On {networks} networks that we measured, likely was right in "
    "{likely} checks, unlikely in {unlikely}; compare detectors on OOD before you choose one"
).format(
    networks=NETWORKS,
    **{name: f"{one.agreed} of {one.checked}" for name, one in BY_OUTCOME.items()},
)
"""What is said in all outputs."""

NETWORK = "predictions"
"""What stands in the place of a layer for families that read logits."""

_FIRM = 1 / 3  # mean outcome of the rules from which a family is called likely, or unlikely


@dataclass(frozen=True)
class Finding:
    """What one rule says."""

    rule: Rule
    value: float  # over the fit rows, or of val rows where these alone have one
    val: float | None
    outcome: Outcome

    @property
    def text(self) -> str:
        """Say it in a line: the value, on which side it is, and what the family assumes."""
        rule, value = self.rule, f"{self.rule.measure} {self.value:.3g}"
        value += "" if self.val is None or self.val == self.value else f" (val {self.val:.3g})"
        if self.outcome == "uncertain":
            between = f"between {rule.unlikely:g} and {rule.likely:g}"
            side = between if self.agrees else "fit and val rows disagree"
            return f"{value}, {side}: {rule.reason}"
        high = (rule.likely > rule.unlikely) == (self.outcome == "likely")
        limit = rule.likely if self.outcome == "likely" else rule.unlikely
        return f"{value} {'≥' if high else '≤'} {limit:g}: {rule.reason}"

    @property
    def agrees(self) -> bool:
        """Whether val rows, where there are any, say what fit rows say."""
        return self.val is None or self.rule.outcome(self.val) == self.rule.outcome(self.value)


@dataclass(frozen=True)
class Verdict:
    """What all rules of a family say of it at one place."""

    family: str
    outcome: Outcome
    score: float  # mean of the outcomes, 1 likely and −1 unlikely
    findings: tuple[Finding, ...]
    detectors: tuple[str, ...]  # those whose inputs are there; they read this place
    unmeasured: Mapping[str, str]  # measure of a rule → why it has no value
    seen: Seen

    @property
    def reason(self) -> str:
        """Give the finding that weighs most; of rules that contradict each other, one of each."""
        if not self.findings:
            return "; ".join(f"{name}: {why}" for name, why in self.unmeasured.items())
        deciding = [one for one in self.findings if one.rule.decides and one.outcome == "unlikely"]
        first = {one.outcome: one for one in reversed([*self.findings])}
        if self.outcome == "uncertain" and {"likely", "unlikely"} <= first.keys():
            return f"for: {first['likely'].text}; against: {first['unlikely'].text}"
        chosen = deciding[0] if deciding else first.get(self.outcome, self.findings[0])
        return chosen.text


@dataclass(frozen=True)
class PlaceAdvice:
    """The measures of a layer, or of the predictions, and the families that read it."""

    name: str
    measures: Table
    families: tuple[Verdict, ...]  # likely ones first
    unreadable: Mapping[str, str] = field(default_factory=dict)  # family → what it lacks
    problem: str = ""  # why nothing could be measured


@dataclass(frozen=True)
class Advice:
    """Which families are likely to work, for the predictions and for every layer: a heuristic.

    Attributes:
        places: The predictions, then the layers.
        rows: Role → how many rows were read, of ``fit`` and ``val``.
        commands: Command lines to go on with.
        note: That it is a heuristic, and what that means.
    """

    places: tuple[PlaceAdvice, ...]
    rows: Mapping[str, int]
    commands: tuple[str, ...] = ()
    note: str = NOTE

    def __getitem__(self, name: str) -> PlaceAdvice:
        """Give what is said of a layer, or of ``predictions``."""
        return next(one for one in self.places if one.name == name)

    @property
    def detectors(self) -> tuple[str, ...]:
        """Name one detector of each likely family, or of those uncertain if none is likely."""
        for outcome in ("likely", "uncertain"):
            first = [
                verdict.detectors[0]
                for place in self.places
                for verdict in place.families
                if verdict.outcome == outcome
            ]
            if first:
                return tuple(dict.fromkeys(first))
        return ()

    @property
    def layers(self) -> tuple[str, ...]:
        """Name the layers at which some family is likely."""
        return tuple(
            place.name
            for place in self.places
            if place.name != NETWORK and any(one.outcome == "likely" for one in place.families)
        )

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "heuristic": True,
            "note": self.note,
            "rows": dict(self.rows),
            "detectors": list(self.detectors),
            "commands": list(self.commands),
            "places": [_place_as_json(place) for place in self.places],
        }


def advise_on(fit: Latents, val: Latents | None, layers: Iterable[str] | None = None) -> Advice:
    """Measure ID rows and apply the rules.

    Args:
        fit: Rows of the fit split.
        val: ID val rows: a rule counts as uncertain where they say otherwise than fit rows.
        layers: Which layers; default: all.

    Raises:
        DataError: There are no rows to fit on.
    """
    if len(fit) == 0:
        raise DataError(f"{fit.name}: there are no rows to advise on; extract at least one")
    network, problem = _measured(measures.of_network, fit, val)
    names = measures.layers_of(fit, ("features", "mc.entropy"))
    places = [_of_layer(one, network, fit, val) for one in (names if layers is None else layers)]
    beside = next((place.measures for place in places if place.name == PENULTIMATE), {})
    first = _advice(NETWORK, ("network",), network, problem, beside, fit, val)
    rows = {"fit": len(fit), "val": 0 if val is None else len(val)}
    return Advice((first, *places), rows)


def _of_layer(layer: str, network: Table, fit: Latents, val: Latents | None) -> PlaceAdvice:
    table: Table = {}
    problems = []
    places: list[Place] = []
    for kind, measure, place in (
        ("features", measures.of_layer, "layer"),
        ("mc.entropy", measures.of_entropies, "entropy"),
    ):
        key = Key(kind, layer)
        if key in fit:
            part, problem = _measured(measure, key, fit, val)
            table |= part
            problems += [problem] if problem else []
            places += [place]  # type: ignore[list-item]
    if layer == PENULTIMATE and "layer" in places:
        places.append("penultimate")
    return _advice(layer, places, table, "; ".join(problems), network, fit, val)


def _measured(measure: Any, *arguments: Any) -> tuple[Table, str]:
    """Measure, or say why nothing can be measured."""
    try:
        return measure(*arguments), ""
    except LatentOODError as error:
        return {}, str(error)


def _advice(
    name: str,
    places: Iterable[Place],
    table: Table,
    problem: str,
    beside: Table,
    fit: Latents,
    val: Latents | None,
) -> PlaceAdvice:
    """Judge the families of a place by its measures, and by those beside it."""
    where = set(places)
    verdicts, unreadable = [], {}
    for family, about in FAMILIES.items():
        if about.place in where:
            lacks = {one: _lacks(one, name, fit, val) for one in about.detectors}
            ready = tuple(one for one, missing in lacks.items() if not missing)
            if ready:
                verdicts.append(judged(family, beside | table, ready))
            else:
                unreadable[family] = f"needs {next(iter(lacks.values()))}"
    ranked = sorted(verdicts, key=lambda one: (-OUTCOMES[one.outcome], -one.score))
    return PlaceAdvice(name, table, tuple(ranked), unreadable, problem)


def judged(family: str, table: Table, detectors: tuple[str, ...] = ()) -> Verdict:
    """Apply the rules of a family to measures."""
    findings, unmeasured = [], {}
    for rule in RULES:
        if rule.family == family:
            measured = table.get(rule.measure, Measured(missing="it was not measured"))
            if measured.missing:
                unmeasured[rule.measure] = measured.missing
            else:
                findings.append(_finding(rule, measured))
    score = sum(OUTCOMES[one.outcome] for one in findings) / max(1, len(findings))
    refused = any(one.rule.decides and one.outcome == "unlikely" for one in findings)
    firm: Outcome = "likely" if score >= _FIRM else "unlikely" if score <= -_FIRM else "uncertain"
    outcome = "unlikely" if refused else firm
    kept = detectors or FAMILIES[family].detectors
    return Verdict(family, outcome, score, tuple(findings), kept, unmeasured, SEEN[family])


def _finding(rule: Rule, measured: Measured) -> Finding:
    """Apply a rule; it is uncertain where fit and val rows say different things."""
    values = [one for one in (measured.fit, measured.val) if one is not None]
    outcomes = {rule.outcome(value) for value in values}
    outcome: Outcome = outcomes.pop() if len(outcomes) == 1 else "uncertain"
    return Finding(rule, values[0], measured.val, outcome)


def _lacks(name: str, place: str, fit: Latents, val: Latents | None) -> str:
    """Name what a detector needs to read a place and does not find; empty if it finds all."""
    if place not in (NETWORK, PENULTIMATE) and not registry()[name].per_layer:
        return f"the layer {PENULTIMATE}"
    needs = _built(name, place, fit).needs()
    missing = [key for key in (*needs.fit, *needs.score) if key not in fit]
    if needs.val:
        missing += [f"{key} of val" for key in needs.val if val is None or key not in val]
    return ", ".join(dict.fromkeys(missing))


def _built(name: str, place: str, fit: Latents) -> Detector:
    kind = registry()[name]
    if kind.of_head:
        head = next((key.layer for key in fit.keys() if key.kind == kind.of_head), "")  # noqa: SIM118
        return detector(name, head=head)
    return detector(name, layer=place) if kind.per_layer else detector(name)


def _place_as_json(place: PlaceAdvice) -> dict[str, Any]:
    return {
        "name": place.name,
        "problem": place.problem,
        "unreadable": dict(place.unreadable),
        "measures": {
            name: {
                "fit": one.fit,
                "val": one.val,
                "missing": one.missing,
                "words": measures.MEASURES[name].words,
            }
            for name, one in place.measures.items()
        },
        "families": [_verdict_as_json(verdict) for verdict in place.families],
    }


def _verdict_as_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "family": verdict.family,
        "outcome": verdict.outcome,
        "heuristic": True,
        "score": verdict.score,
        "reason": verdict.reason,
        "detectors": list(verdict.detectors),
        "rules": [
            {**asdict(one.rule), "value": one.value, "val": one.val, "outcome": one.outcome}
            for one in verdict.findings
        ],
        "unmeasured": dict(verdict.unmeasured),
        "seen": asdict(verdict.seen),
    }
