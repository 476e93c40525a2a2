"""Histograms of features and of perturbed class projections, against those of the fit rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Seed, State
from latentood.detectors.checks import checked_head
from latentood.detectors.statistics.projections import MeanHistograms, Projections, Projector
from latentood.errors import DetectorError
from latentood.latents import HEAD, PENULTIMATE_FEATURES, Latents, Statistic
from latentood.plugins import hyper, plugin


@plugin
class WeiPer(Detector):
    """How far the histograms of a row are from the mean ones, less its confidence (WeiPer+KLD).

    ``D(h) + λ1·D(z̃) − λ2·mean_r max softmax(z̃_r)``; Granz et al. 2024. The perturbed logits z̃_r
    come from weights ``w_c + δ·‖w_c‖·e`` with directions e drawn at random for each of r repeats,
    and the bias of the head. D is the symmetric KL divergence, in nats, between two histograms of
    equal bins from the smallest to the largest value over all fit rows: that of all values of the
    row, smoothed by a moving average, and its mean over the fit rows, not smoothed. Both get a
    constant added, 0.01 for h and 0.025 for z̃, before they are normalised.

    What is followed is the authors' code, as the equations of the paper could not be read: with
    its default of exact ranges, on all fit rows. Defaults are theirs for CIFAR-10. They have
    ``distance=2.4, lambda_1=0.1, lambda_2=1, smoothing_perturbed=40`` for CIFAR-100,
    ``distance=2.4, lambda_2=0.25, smoothing=40`` for ResNet-50 on ImageNet, and ``distance=2,
    bins=80, smoothing=40`` for ViT-B/16, all chosen on OOD validation images.
    """

    name = "weiper"
    family = "head"
    paper = "arXiv:2405.17164, sec. 3"
    works = "Wide features after ReLU, whose values are spread over a row otherwise than ID ones."
    fails = "Narrow features, of which a histogram of one row holds little."
    cost = "O(N·r·C·D) fit in two passes, O(r·C·D) per row"
    reads = (PENULTIMATE_FEATURES,)
    fit_reads = (PENULTIMATE_FEATURES, HEAD)
    repeats: int = hyper(100, "r, perturbations of every class", low=1)
    distance: float = hyper(
        1.8,
        "δ, length of a perturbation by that of the weight: 2.4 for ImageNet",
        low=0,
        tries=(1.8, 2.4),
    )
    bins: int = hyper(100, "bins of the histograms", low=2)
    smoothing: int = hyper(4, "s1, bins averaged for h: 40 for ImageNet", low=1, tries=(4, 40))
    smoothing_perturbed: int = hyper(15, "s2, bins averaged for perturbed logits", low=1)
    lambda_1: float = hyper(2.5, "λ1, weight of perturbed logits", low=0, tries=(0.1, 1.0, 2.5))
    lambda_2: float = hyper(0.1, "λ2, weight of the confidence", low=0, tries=(0.1, 0.25, 1.0))
    epsilon: tuple[float, float] = hyper(
        (0.01, 0.025), "added to the histograms of h and of perturbed logits; > 0"
    )
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Check the constants."""
        if min(self.epsilon) <= 0:
            raise DetectorError(
                f"{self.name}: epsilon must be > 0, got {self.epsilon!r}; the authors have 0.01 "
                "and 0.025"
            )

    @property
    def projections(self) -> Projections:
        """Name the perturbed projections."""
        return Projections(self.repeats, self.distance, self.seed)

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the ranges, then for the mean histograms."""
        return (self.projections, MeanHistograms(self.projections, self.bins))

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the head, the ranges (2, 2) and the mean histograms (2, bins)."""
        weight, bias = checked_head(self.name, train)
        return {
            "weight": weight,
            "bias": bias,
            "ranges": train.compute(self.projections).ranges,
            "histograms": train.compute(MeanHistograms(self.projections, self.bins)),
        }

    def prepare(self, state: State) -> tuple[Projector, Tensor]:
        """Draw the perturbations again, which a file does not keep for their size."""
        projector = self.projections.projector(state["weight"], state["bias"], state["ranges"])
        return projector, self._normalised(state["histograms"].unsqueeze(0)).log()

    def score(self, state: tuple[Projector, Tensor], rows: Latents) -> Tensor:
        """Weigh both divergences and the confidence: (N,)."""
        projector, log_mean = state
        parts = [
            self._of_part(projector.histograms(*both, self.bins), log_mean, both[1])
            for both in projector.parts(rows[PENULTIMATE_FEATURES])
        ]
        return torch.cat(parts)

    def _of_part(self, histograms: Tensor, log_mean: Tensor, logits: Tensor) -> Tensor:
        """Score rows by histograms (n, 2, bins) and perturbed logits (n, R·C)."""
        widths = (self.smoothing, self.smoothing_perturbed)
        smooth = [
            _averaged(one, width) for one, width in zip(histograms.unbind(1), widths, strict=True)
        ]
        log_own = self._normalised(torch.stack(smooth, dim=1)).log()
        difference = (log_mean.exp() - log_own.exp()) * (log_mean - log_own)
        divergence = difference.sum(dim=2)  # KL both ways, (n, 2)
        confidence = logits.unflatten(1, (self.repeats, -1)).softmax(dim=2).amax(dim=2).mean(dim=1)
        own, perturbed = divergence.unbind(1)
        scores: Tensor = own + self.lambda_1 * perturbed - self.lambda_2 * confidence
        return scores

    def _normalised(self, histograms: Tensor) -> Tensor:
        """Add the constants to histograms (n, 2, bins), and let them sum to 1."""
        raised = histograms + histograms.new_tensor(self.epsilon).unsqueeze(1)
        return raised / raised.sum(dim=2, keepdim=True)


def _averaged(histograms: Tensor, width: int) -> Tensor:
    """Average ``width`` neighbouring bins of (n, bins); beyond an end, its bin is repeated.

    Of an even width one bin more is taken from above, as convolutions do.
    """
    before = (width - 1) // 2
    ends = [histograms[:, :1].expand(-1, before), histograms[:, -1:].expand(-1, width - 1 - before)]
    padded = torch.cat([ends[0], histograms, ends[1]], dim=1)
    return padded.unfold(1, width, 1).mean(dim=2)
