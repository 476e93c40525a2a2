"""Whether ``latentood advise`` was right, on caches with OOD splits.

``python -m tests.benchmarks.advice NAME=STORE …`` asks for advice, which opens no OOD split, then
scores the detector that stands for each family, and prints the tables of docs/advise.md and the
counts of :mod:`latentood.detectors.advice.evidence`. The verdicts of a layer are checked against
the median AUROC of the families that read this layer or the predictions, for near and for far OOD.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import latentood as lo
from latentood.detectors.advice.advice import NETWORK, PlaceAdvice, Verdict
from latentood.detectors.advice.rules import OUTCOMES
from latentood.evaluation.comparison import Average, Comparison

SHOWN = (
    "accuracy", "certain", "norm_spread", "norm_logit", "kurtosis", "effective_rank", "nc1",
    "nc2_simplex", "nc3", "silhouette", "fisher",
)  # fmt: skip

APART = 0.01
"""Smallest difference in AUROC that counts: beside 1.000 intervals have no width."""


@dataclass(frozen=True)
class Check:
    """One family at one layer of one recipe, against OOD of one role."""

    recipe: str
    place: str
    role: str
    verdict: Verdict
    auroc: Average
    median: float
    own: bool  # whether it reads this layer; families of the predictions are counted once

    @property
    def result(self) -> str:
        """Say whether the AUROC bears the verdict out."""
        above, below = self.auroc.auroc_low > self.median, self.auroc.auroc_high < self.median
        apart = (above or below) and abs(self.auroc.auroc - self.median) >= APART
        if self.verdict.outcome == "uncertain" or not apart:
            return "open"
        return "agreed" if above == (self.verdict.outcome == "likely") else "disagreed"


def checks(recipe: str, advice: lo.Advice, comparison: Comparison) -> Iterator[Check]:
    """Check all verdicts of a recipe."""
    network = advice[NETWORK]
    for place in advice.places[1:]:
        verdicts = [*place.families, *network.families]
        for role in ("near", "far"):
            known = {
                one.family: average
                for one in verdicts
                if (average := _average(comparison, one, place, role)) is not None
            }
            middle = median(one.auroc for one in known.values())
            for one in verdicts:
                own = one in place.families or place.name == "penultimate"
                if one.family in known:
                    average = known[one.family]
                    yield Check(recipe, place.name, role, one, average, middle, own)


def _average(
    comparison: Comparison, verdict: Verdict, place: PlaceAdvice, role: str
) -> Average | None:
    layers = (place.name, f"mc.entropy/{place.name}", "logits", "mc.logits")
    for result in comparison.results:
        name, layer = result.request.detector, result.request.layer
        if name == verdict.detectors[0] and (layer in layers or layer.startswith("dirichlet/")):
            return result.averages.get(role)
    return None


def run(stores: Mapping[str, str]) -> list[Check]:
    """Advise, then score."""
    every = []
    for recipe, store in stores.items():
        advice = lo.advise(store)
        print(f"\n## {recipe}\n")
        _print_measures(advice)
        names = {one.detectors[0] for place in advice.places for one in place.families}
        comparison = lo.score(store, detectors=sorted(names), layers="*")
        every += list(checks(recipe, advice, comparison))
    return every


def _print_measures(advice: lo.Advice) -> None:
    for place in advice.places:
        shown = {name: one for name, one in place.measures.items() if name in SHOWN}
        values = [
            f"{name} {one.fit:.3g}" + ("" if one.val is None else f" ({one.val:.3g})")
            for name, one in shown.items()
            if one.fit is not None
        ]
        print(f"{place.name}: {', '.join(values)}")


def print_table(every: Sequence[Check]) -> None:
    """Print one line for each recipe, layer and role: best and worst family, and what agreed."""
    groups: dict[tuple[str, str, str], list[Check]] = {}
    for one in every:
        groups.setdefault((one.recipe, one.place, one.role), []).append(one)
    print("\n| recipe | layer | OOD | median | best family | worst family | agreed | not | open |")
    print("|---|---|---|---:|---|---|---:|---:|---:|")
    for (recipe, place, role), group in groups.items():
        ranked = sorted(group, key=lambda one: -one.auroc.auroc)
        results = Counter(one.result for one in group if one.own)
        cells = [recipe, place, role, f"{group[0].median:.3f}", _cell(ranked[0]), _cell(ranked[-1])]
        cells += [str(results[one]) for one in ("agreed", "disagreed", "open")]
        print(f"| {' | '.join(cells)} |")


def _cell(one: Check) -> str:
    average = one.auroc
    interval = f"[{average.auroc_low:.3f}, {average.auroc_high:.3f}]"
    return f"{one.verdict.family}, {one.verdict.outcome}: {average.auroc:.3f} {interval}"


def print_counts(every: Sequence[Check]) -> None:
    """Print the counts of each family, and those of near and far OOD."""
    counts: dict[str, Counter[str]] = {}
    for one in every:
        if one.own:
            counts.setdefault(one.verdict.family, Counter())[one.result] += 1
            counts.setdefault(f"all, {one.role}", Counter())[one.result] += 1
            key = f"all, {one.role}, {one.verdict.outcome}"
            counts.setdefault(key, Counter())[one.result] += 1
    print()
    for family, count in counts.items():
        print(f'    "{family}": Seen({count["agreed"]}, {count["disagreed"]}, {count["open"]}),')


def print_pairs(every: Sequence[Check]) -> None:
    """Print how often, of two families with other verdicts, the one with the better one won.

    Pairs whose intervals overlap, or that differ by less than ``APART``, count as open.
    """
    counts: dict[str, Counter[str]] = {}
    groups: dict[tuple[str, str, str], list[Check]] = {}
    for one in every:
        groups.setdefault((one.recipe, one.place, one.role), []).append(one)
    for (_, place, role), group in groups.items():
        for first, second in itertools.combinations(group, 2):
            if first.own or second.own:
                result = _won(first, second)
                counts.setdefault(role, Counter())[result] += 1
                if place == "penultimate":
                    counts.setdefault(f"{role}, penultimate", Counter())[result] += 1
    print()
    for name, count in counts.items():
        print(f"{name}: right {count['right']}, wrong {count['wrong']}, open {count['open']}")


def _won(first: Check, second: Check) -> str:
    gap = OUTCOMES[first.verdict.outcome] - OUTCOMES[second.verdict.outcome]
    a, b = first.auroc, second.auroc
    overlap = a.auroc_low < b.auroc_high and b.auroc_low < a.auroc_high
    if gap == 0:
        return "alike"
    if overlap or abs(a.auroc - b.auroc) < APART:
        return "open"
    return "right" if (gap > 0) == (a.auroc > b.auroc) else "wrong"


def main() -> None:
    """Read NAME=STORE pairs and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="+", metavar="NAME=STORE")
    pairs = (one.split("=", 1) for one in parser.parse_args().stores)
    every = run(dict(pairs))
    print_table(every)
    for one in every:
        average = one.auroc
        line = (one.recipe, one.place, one.role, one.verdict.family, one.verdict.outcome)
        span = f"[{average.auroc_low:.4f}, {average.auroc_high:.4f}]"
        print(
            *line, f"{average.auroc:.4f}", span, f"{one.median:.4f}", one.result, one.own, sep=";"
        )
    print_counts(every)
    print_pairs(every)


if __name__ == "__main__":
    main()
