"""Detectors that compare a row with one stored pattern per class."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from torch import Tensor

from latentood.detectors.base import FeatureDetector, State
from latentood.detectors.statistics.classes import ClassMeans, CorrectClassMeans
from latentood.errors import DetectorError
from latentood.latents import LABELS, LOGITS, Latents
from latentood.plugins import hyper, plugin
from latentood.stats.linalg import lengths, unit_rows

log = logging.getLogger(__name__)


@plugin
class SHE(FeatureDetector):
    """Simplified Hopfield energy: how little a row resembles the pattern of its predicted class.

    ``−⟨h, S_ŷ⟩`` with S_c the mean of the correctly classified fit rows of c; Zhang et al. 2023.
    Where the paper leaves S_c undefined (no row of c is classified correctly) it is the mean of
    all rows of c, or of all rows if c does not occur, and a warning says so.
    """

    name = "she"
    family = "prototypes"
    paper = "openreview.net/forum?id=KkazG4lgKL, sec. 3"
    works = "Features whose length carries confidence: OOD activates less along its class pattern."
    fails = "OOD with large activations under the inner product; try similarity=cosine."
    cost = "O(N·D) fit, O(D) per row"
    reads = (LOGITS,)
    fit_reads = (LOGITS, LABELS)
    asks = (CorrectClassMeans,)
    similarity: Literal["inner", "cosine", "euclidean"] = hyper(
        "inner", "how rows and patterns compare", tries=("inner", "cosine", "euclidean")
    )

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the patterns (C, D)."""
        patterns = train.compute(CorrectClassMeans(self.key))
        if patterns.no_correct:
            log.warning(
                "%s: no fit row of class %s is classified correctly: its pattern is the mean of "
                "all its rows",
                self.name, ", ".join(map(str, patterns.no_correct)),
            )  # fmt: skip
        if patterns.absent:
            log.warning(
                "%s: class %s has no fit row: its pattern is the mean of all rows",
                self.name, ", ".join(map(str, patterns.absent)),
            )  # fmt: skip
        filled = (*patterns.no_correct, *patterns.absent)
        return {
            "patterns": patterns.means,
            "filled": torch.tensor(sorted(filled), dtype=torch.int64),
        }

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the classes without a correctly classified fit row."""
        return {"classes_without_correct_rows": state["filled"].tolist()}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Compare each row with the pattern of its predicted class: (N,)."""
        features = rows[self.key]
        patterns = state["patterns"][rows[LOGITS].argmax(dim=1)]  # float64, and ours to change
        match self.similarity:
            case "cosine":
                return -torch.cosine_similarity(features.double(), patterns, dim=1)
            case "euclidean":
                return lengths(features - patterns)
        return -patterns.mul_(features).sum(dim=1)


@plugin
class Cosine(FeatureDetector):
    """Largest cosine between a row and the class means, negated: −max_c ⟨h, μ_c⟩/(‖h‖·‖μ_c‖).

    Means μ_c from the true labels; Nguyen et al. 2023 (Class Typical Matching). A row of zeros has
    a cosine of 0 with all.
    """

    name = "cosine"
    family = "prototypes"
    paper = "arXiv:2306.14920, sec. 3"
    works = "Features whose direction tells the class, as after ReLU and average pooling."
    fails = "OOD that differs in length alone, and class means that point the same way."
    cost = "O(N·D) fit, O(C·D) per row"
    fit_reads = (LABELS,)
    asks = (ClassMeans,)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the directions of the class means (C, D)."""
        means = train.compute(ClassMeans(self.key)).means
        length = lengths(means).unsqueeze(1)
        if not bool((length > 0).any()):
            raise DetectorError(
                f"{self.name}: a mean of {self.key} over a class must be other than 0, got 0 for "
                f'all {len(means)} classes of "{train.name}"; choose another layer'
            )
        return {"directions": means / length.clamp(min=torch.finfo(torch.float64).tiny)}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the classes that occurred."""
        return {"classes": len(state["directions"])}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Compare each row with its most alike class mean: (N,) in [−1, 1]."""
        return -(unit_rows(rows[self.key]) @ state["directions"].mT).amax(dim=1)
