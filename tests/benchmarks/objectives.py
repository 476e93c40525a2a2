"""Every objective on the same digits, its own uncertainty beside all detectors, as a table.

``python -m tests.benchmarks.objectives`` trains ``pipelines/digits_objectives.yaml`` with each of
them, extracts and scores, and prints the table of docs/training.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import latentood as lo
from latentood import metrics
from latentood.evaluation.comparison import Comparison, Result
from latentood.latents import Latents
from latentood.store.cache import open_cache

PIPELINE = Path(__file__).parents[2] / "pipelines" / "digits_objectives.yaml"

OBJECTIVES = {
    "cross_entropy": ("{name: cross_entropy}", "msp"),
    "logit_norm": ("{name: logit_norm}", "msp"),
    "outlier_exposure": ("{name: outlier_exposure}", "msp"),
    "vos": ("{name: vos}", "weighted_energy"),
    "evidential": ("{name: evidential, evidence: exp, risk: ml}", "vacuity"),
    "prior": ("{name: prior}", "distributional_mutual_information"),
    "posterior": ("{name: posterior}", "posterior_density"),
    "natural_posterior": ("{name: natural_posterior}", "posterior_density"),
    "prototypes": ("{name: prototypes}", "prototype_distance"),
}
"""Name → its setting, and the detector that is the network's own uncertainty."""

COLUMNS = (
    "objective", "accuracy", "ECE", "its own uncertainty", "near", "far",
    "best post-hoc detector", "near", "far",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One objective, trained and scored."""

    objective: str
    calibration_error: float
    comparison: Comparison
    own: Result

    @property
    def accuracy(self) -> float:
        """Share of the ID test rows that are classified right."""
        accuracy = self.comparison.id_split.accuracy
        assert accuracy is not None
        return accuracy

    @property
    def post_hoc(self) -> list[Result]:
        """Detectors that read nothing that only this objective gives, best first."""
        return [r for r in self.comparison.ranked if not r.request.layer.endswith("/network")]


def outcome(
    name: str, folder: Path, *, overrides: Sequence[str] = (), detectors: str = "all"
) -> Outcome:
    """Train, extract and score one objective; ``detectors`` stand beside its own."""
    setting, own = OBJECTIVES[name]
    asked = [f"training.objective={setting}", *overrides]
    trained = lo.train(PIPELINE, folder / "run", overrides=asked, tracking="none")
    store = folder / "c.zarr"
    lo.extract(PIPELINE, store, overrides=[*asked, f"model.weights={trained.weights}"])
    comparison = lo.score(store, detectors=f"{detectors},{own}")
    results = [one for one in comparison.results if one.request.detector == own]
    return Outcome(name, calibration_error(open_cache(store)["id_test"]), comparison, results[0])


def calibration_error(rows: Latents) -> float:
    """Give the calibration error of a network's probabilities: its Dirichlet's mean, or softmax."""
    key = "dirichlet/network" if "dirichlet/network" in rows else "logits"
    confidence, prediction = rows[key].double().softmax(dim=1).max(dim=1)
    return metrics.calibration_error(confidence, prediction == rows["labels"])


def lines(outcomes: Iterator[Outcome]) -> Iterator[str]:
    """Write the table in Markdown."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---|---:|---:|---|---:|---:|---|---:|---:|"
    for one in outcomes:
        best = one.post_hoc[0]
        cells = (
            f"`{one.objective}`", f"{one.accuracy:.1%}", f"{one.calibration_error:.3f}",
            f"`{one.own.request.detector}`", *_areas(one.own),
            f"`{best.request.detector}` of {len(one.post_hoc)}", *_areas(best),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _areas(result: Result) -> Iterator[str]:
    for role in ("near", "far"):
        average = result.averages[role]
        yield f"{average.auroc:.3f} [{average.auroc_low:.3f}, {average.auroc_high:.3f}]"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.objectives")
    parser.add_argument("names", nargs="*", default=OBJECTIVES, help=", ".join(OBJECTIVES))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = (
            outcome(name, Path(folder) / name, overrides=chosen.set) for name in chosen.names
        )
        for line in lines(outcomes):
            print(line, flush=True)


if __name__ == "__main__":
    main()
