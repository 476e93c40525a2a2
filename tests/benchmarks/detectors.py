"""Fitting and scoring by single detectors against other libraries on the same float32 arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector, registry
from tests.benchmarks.arrays import Classifier, Rows
from tests.benchmarks.peers import (
    Peer,
    bare_product,
    covariance_products,
    empirical_covariance,
    kernel_density,
    nearest_neighbours,
    pair_products,
    pytorch_ood,
    subspace_products,
)
from tests.benchmarks.timing import Ratio, ratio

THEIRS = "pytorch-ood"
FLOOR = "its own float64 products alone"


@dataclass(frozen=True)
class Size:
    """How much is fitted and scored.

    Attributes:
        classes: C.
        width: D.
        fit: Rows fitted on.
        scored: Rows scored.
    """

    classes: int
    width: int
    fit: int
    scored: int

    def rows(self, quick: bool) -> tuple[Rows, Rows]:
        """Draw the rows to fit on and those to score, a tenth of them for a first look."""
        classifier, part = Classifier(self.classes, self.width), 10 if quick else 1
        return (
            classifier.rows(self.fit // part, seed=1),
            classifier.rows(self.scored // part, seed=10),
        )


CIFAR = Size(classes=10, width=512, fit=50_000, scored=10_000)
IMAGENET = Size(classes=1_000, width=2_048, fit=100_000, scored=1_000)


@dataclass(frozen=True)
class Race:
    """One detector against one rival.

    Attributes:
        name: Ours.
        against: Name of the rival.
        goal: Ours ÷ rival that is aimed at.
        peer: The rival.
        options: Our hyperparameters, where they are not the default.
        pairs: Turns each.
        most: Rows that the rival scores where all of them take too long; 0 = all.
        large: Whether it is also run in the size of ImageNet, once.
    """

    name: str
    against: str
    goal: float
    peer: Callable[[], Peer]
    options: dict[str, Any] = field(default_factory=dict)
    pairs: int = 5
    most: int = 0
    large: bool = False

    def run(self, train: Rows, asked: Rows, *, pairs: int) -> Ratio:
        """Measure."""
        peer, ours = self.peer(), detector(self.name, **self.options)
        few = asked.first(self.most or len(asked.labels))
        share = len(few.labels) / len(asked.labels)
        detail = f"{_size(train)} fitted, {len(asked.labels):,} scored"
        if share < 1:
            detail += f" (rival timed on {len(few.labels)} and scaled)"

        def fit_and_score() -> None:
            known = train.latents()
            fit(ours, known, known).score(asked.latents("asked"))

        return ratio(
            self.name,
            fit_and_score,
            lambda: peer(train, few),
            against=self.against,
            goal=self.goal,
            detail=detail,
            pairs=min(pairs, self.pairs),
            rival_share=share,
        )


RACES = (
    *(
        Race(name, THEIRS, goal, lambda name=name: pytorch_ood(name), large=name != "kl_matching")
        for name, goal in (
            ("mahalanobis", 1 / 2.5),
            ("rmd", 1 / 3.5),
            ("vim", 1.0),
            ("kl_matching", 1.0),
            ("she", 1 / 5),
            ("dice", 1 / 5),
        )
    ),
    Race("openmax", THEIRS, 1 / 20, lambda: pytorch_ood("openmax"), pairs=3),
    Race("knn", "scikit-learn NearestNeighbors, brute", 1 / 3, lambda: nearest_neighbours,
         pairs=2, large=True),
    Race("knn", "float32 products alone", 1.6, lambda: bare_product, pairs=3),
    Race("larem", "scikit-learn EmpiricalCovariance", 1 / 10, lambda: empirical_covariance,
         pairs=3),
    Race("lared", "scikit-learn KernelDensity", 1 / 40, lambda: kernel_density, pairs=2, most=20),
    *(
        Race(name, FLOOR, 2.0, lambda floor=floor: floor, large=name != "lared")
        for name, floor in (
            ("mahalanobis", covariance_products(1)),
            ("rmd", covariance_products(2)),
            ("larem", covariance_products(1)),
            ("vim", subspace_products),
            ("lared", pair_products),
        )
    ),
)  # fmt: skip


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Race every detector that is there and has a rival that is there."""
    yield from _races(RACES, *CIFAR.rows(quick), pairs=2 if quick else 5)
    yield from _races([race for race in RACES if race.large], *IMAGENET.rows(quick), pairs=1)


def _races(races: Iterable[Race], train: Rows, asked: Rows, *, pairs: int) -> Iterator[Ratio]:
    for race in races:
        if race.name not in registry():
            print(f"- {race.name} skipped: the registry has no such detector", flush=True)
            continue
        try:
            race.peer()
        except ImportError as error:
            print(f"- {race.name} skipped: {error}", flush=True)
            continue
        yield race.run(train, asked, pairs=pairs)


def _size(rows: Rows) -> str:
    count, width = rows.features.shape
    return f"{count:,} × {width:,}, {len(rows.head[1]):,} classes"
