"""Detectors that read the logits and are fitted on ID val rows."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.detectors.statistics.bank import Bank
from latentood.detectors.statistics.classes import PredictedPosteriors
from latentood.errors import DetectorError
from latentood.latents import LABELS, LOGITS, Latents
from latentood.plugins import plugin
from latentood.stats.probabilities import softmax, softmax_entropy
from latentood.stats.temperature import best_temperature, fit_at

TINY = torch.finfo(torch.float64).tiny
"""What a probability of 0 counts as under a logarithm."""

log = logging.getLogger(__name__)


@plugin
class TemperatureScaling(Detector):
    """The largest softmax probability, negated, at the temperature that calibrates it.

    ``−max softmax(z/T*)`` with T* the minimum of the negative log likelihood of the labels of
    the ID val rows, by L-BFGS on log T (which keeps T above 0); Guo et al. 2017. pytorch-ood
    stops after 50 small steps, short of the minimum. The fit holds the logits of the ID val
    rows in memory, in their stored dtype.
    """

    name = "temp_scaling"
    family = "logits"
    paper = "arXiv:1706.04599, sec. 4.2"
    works = "Overconfident classifiers: probabilities that saturate at 1 can be ranked again."
    fails = "Where msp fails for other reasons than calibration; needs misclassified val rows."
    cost = "O(I·V·C) fit for V val rows in I ≈ 20 evaluations, O(C) per row"
    reads = (LOGITS,)
    val_reads = (LOGITS, LABELS)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep T*."""
        rows = self.val_rows(val)
        logits = rows.compute(Bank(LOGITS, share=1.0, seed=0)).rows
        labels = rows[LABELS]
        if fit_at(logits, labels, math.inf).slope <= 0:
            raise self._no_minimum(rows, "misclassified", "none, so that T → 0 fits best")
        if fit_at(logits, labels, 0.0).slope >= 0:
            raise self._no_minimum(
                rows,
                "better classified than by chance",
                "logits of the true class that are no larger than the mean, so that T → ∞ fits "
                "best",
            )
        temperature = best_temperature(logits, labels)
        return {"temperature": torch.tensor(temperature, dtype=torch.float64, device=logits.device)}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report T*."""
        return {"temperature": float(state["temperature"])}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows: (N,) in [−1, −1/C]."""
        return -torch.softmax(rows.double(LOGITS) / state["temperature"], dim=1).amax(dim=1)

    def _no_minimum(self, rows: Latents, wanted: str, instead: str) -> DetectorError:
        return DetectorError(
            f"{self.name}: some ID val rows must be {wanted}, got {instead}, over {len(rows)} rows "
            f'of "{rows.name}"; use held-out rows with their right labels, or msp'
        )


@plugin
class KLMatching(Detector):
    """Divergence of the softmax from the nearest typical one: min_k KL(p ‖ d_k), in nats.

    d_k is the mean softmax of the ID val rows **predicted** as k (labels play no part);
    Hendrycks et al. 2022. A class that is never predicted gets its one-hot vector, and a
    probability of 0 counts as the smallest normal float64 (pytorch-ood leaves such classes
    out).
    """

    name = "kl_matching"
    family = "logits"
    paper = "arXiv:1911.11132, sec. 4"
    works = "Many classes with habitual confusions: an unusual spread over classes stands out."
    fails = "OOD inputs that mimic one class with confidence, and few val rows for each class."
    cost = "O(V·C) fit for V val rows, O(C²) per row"
    reads = (LOGITS,)
    val_reads = (LOGITS,)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep log d (C, C) and which classes were never predicted."""
        rows = self.val_rows(val)
        typical = rows.compute(PredictedPosteriors())
        never = typical.counts == 0
        if bool(never.any()):
            log.warning(
                "%s: no ID val row of %r is predicted as class %s: one-hot vectors stand for them",
                self.name, rows.name, ", ".join(map(str, never.nonzero().flatten().tolist())),
            )  # fmt: skip
        means = torch.where(
            never.unsqueeze(1), torch.eye(len(never)).to(typical.means), typical.means
        )
        return {"log_typical": means.clamp(min=TINY).log(), "never_predicted": never}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the classes that no ID val row is predicted as."""
        return {"never_predicted": state["never_predicted"].nonzero().flatten().tolist()}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows: (N,) ≥ 0."""
        logits = rows.double(LOGITS)
        cross = -(softmax(logits) @ state["log_typical"].mT).amax(dim=1)
        return (cross - softmax_entropy(logits)).clamp(min=0.0)  # rounding may go below
