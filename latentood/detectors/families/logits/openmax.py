"""OpenMax: the probability of an unknown class, from the tails of distances to class means."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.detectors.statistics.classes import CorrectClassMeans, CorrectTails
from latentood.errors import DetectorError
from latentood.latents import LABELS, LOGITS, Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.distributions.weibull import fit_weibulls
from latentood.stats.linalg import lengths

log = logging.getLogger(__name__)


@plugin
class OpenMax(Detector):
    """Probability that the class is none of those known, from logits recalibrated by distance.

    With μ_c the mean logits of the correctly classified fit rows of c and F_c a Weibull
    distribution of their ``tail`` largest distances to it, the i-th largest of the top ``alpha``
    logits keeps a share ``1 − ω_i·F_c(‖z − μ_c‖)``, ω_i = (α+1−i)/α; what is taken away makes
    up the logit of the unknown class, whose softmax probability is the score. Bendale and Boult
    2016. ω_i, ``tail`` and ``alpha`` are those of the authors' code (algorithm 2 prints α−i; the
    paper tunes both numbers). These depart from it: the Weibull fit is the maximum likelihood with
    the location fixed at 0, as by ``scipy.stats.weibull_min``, where libMR moves the tail by
    10,000; distances are euclidean, where the code adds a cosine distance to 1/200 of them. A
    class whose correct rows have fewer than two different distances is not recalibrated, and a
    warning says so. pytorch-ood also counts misclassified rows.
    """

    name = "openmax"
    family = "logits"
    paper = "arXiv:1511.06233, algorithms 1 and 2"
    works = "Compact classes in logit space, with many correctly classified fit rows each."
    fails = "Confident OOD near a class mean; probabilities saturate at 0 and 1 for large logits."
    cost = "O(N·C + N·log N) fit in two passes, O(α·C) per row"
    cannot_fit_on = ("one row",)
    reads = (LOGITS,)
    fit_reads = (LOGITS, LABELS)
    tail: int = hyper(
        20, "largest distances of a class that its Weibull is fitted to", low=2, tries=(10, 20, 50)
    )
    alpha: int = hyper(10, "top classes whose logits are recalibrated; at most all", low=1)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the means of correctly classified rows."""
        return (CorrectClassMeans(LOGITS),)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the class means (C, C) and shape and log scale (C,) of the Weibulls."""
        means = train.compute(CorrectClassMeans(LOGITS)).means
        weibulls = fit_weibulls(train.compute(CorrectTails(self.tail)))
        unfitted = (weibulls.shape == 0).nonzero().flatten().tolist()
        if len(unfitted) == len(means):
            raise DetectorError(
                f"{self.name}: the correctly classified fit rows of some class must have ≥ 2 "
                f"different distances to their mean, got none over {len(train)} rows of "
                f'"{train.name}"; extract more rows or check the labels'
            )
        if unfitted:
            log.warning(
                "%s: class %s has fewer than two correctly classified fit rows at different "
                "distances in %r: its logit is not recalibrated",
                self.name, ", ".join(map(str, unfitted)), train.name,
            )  # fmt: skip
        return {"means": means, "shape": weibulls.shape, "log_scale": weibulls.log_scale}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the classes that are not recalibrated."""
        return {"not_recalibrated": (state["shape"] == 0).nonzero().flatten().tolist()}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Give the probability of the unknown class: (N,) in [0, 1]."""
        logits = rows.double(LOGITS)
        alpha = min(self.alpha, logits.shape[1])
        top, chosen = logits.topk(alpha, dim=1)  # (N, α)
        weight = torch.arange(alpha, 0, -1, dtype=top.dtype, device=top.device) / alpha
        removed = weight * self._tail_share(state, logits, chosen) * top
        revised = logits.scatter(1, chosen, top - removed)
        unknown = removed.sum(dim=1, keepdim=True)
        return torch.softmax(torch.cat([unknown, revised], dim=1), dim=1)[:, 0]

    def _tail_share(self, state: State, logits: Tensor, chosen: Tensor) -> Tensor:
        """Weibull distribution function at the distance to each chosen class mean: (N, α)."""
        distances = torch.stack([lengths(logits - state["means"][c]) for c in chosen.unbind(1)], 1)
        shape = state["shape"][chosen]
        power = (shape * (distances.log() - state["log_scale"][chosen])).exp()
        return torch.where(shape > 0, -torch.expm1(-power), 0.0)
