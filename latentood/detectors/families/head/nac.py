"""Neuron activation coverage: are the units in states the fit rows have been in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, State
from latentood.detectors.checks import checked_head
from latentood.detectors.statistics.activation import StateCounts, activation_states, state_cells
from latentood.latents import HEAD, LOGITS, PENULTIMATE_FEATURES, Latents, Statistic
from latentood.plugins import hyper, plugin


@plugin
class NAC(Detector):
    """Coverage of the activation states of the penultimate units, negated and averaged.

    ``−mean_i min(κ_i(ŝ_i), r)/r`` with ``ŝ = σ(α·h·∂KL(u‖p)/∂h)`` and κ_i the density of ŝ_i over
    the fit rows, a histogram of ``bins`` equal bins; Liu et al. 2024. Behind the penultimate
    features there is only the head, so ``∂KL/∂h = Wᵀ(p−u)`` exactly and the cache is enough. With
    N fit rows, r counts a bin as covered from ``O* = r·N/bins`` rows on.

    The defaults are the authors' for CIFAR-10 (α = 100, O* = 50 of 1,000 rows). For this layer
    and 50 bins they have α = 50 and the same O* on CIFAR-100 (``steepness=50``), α = 3,000 and
    O* = 10 of 1,000 on ImageNet (``steepness=3000, r=0.5``), and α = 100 and O* = 500 of 50,000
    for its ViT-B (``r=0.5``). Their code makes bins finer towards ½, and pytorch-ood towards 0
    and 1, which the paper does not; both read other layers too, by backward passes.
    """

    name = "nac"
    family = "head"
    paper = "arXiv:2306.02879, sec. 3"
    works = "Wide layers after ReLU, where OOD puts many units into states training never did."
    fails = "A steepness that drives every state to 0 or 1: then few bins are in use."
    cost = "O(N·C·D) fit, O(C·D) per row"
    reads = (PENULTIMATE_FEATURES, LOGITS)
    fit_reads = (PENULTIMATE_FEATURES, LOGITS, HEAD)
    steepness: float = hyper(
        100.0,
        "α of the sigmoid: 100 for CIFAR-10, 50 for CIFAR-100, 3000 for ImageNet",
        above=0,
        tries=(10.0, 50.0, 100.0, 1000.0, 3000.0),
    )
    bins: int = hyper(50, "bins of the histogram of each unit", low=2)
    r: float = hyper(
        2.5,
        "density from which on a state is covered: 2.5 for CIFAR, 0.5 for ImageNet",
        above=0,
        tries=(0.5, 1.0, 2.5, 5.0),
    )

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the histogram of states."""
        return (StateCounts(self.steepness, self.bins),)

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep the coverage of every bin of every unit (D, bins), and the weight (C, D)."""
        weight, _ = checked_head(self.name, train)
        counts = train.compute(StateCounts(self.steepness, self.bins))
        full = self.r * len(train) / self.bins
        return {"coverage": (counts / full).clamp(max=1.0), "weight": weight}

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the share of bins in use, which is small where the steepness is too large."""
        return {"bins_in_use": float((state["coverage"] > 0).double().mean())}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Look up the bin of every unit: (N,) in [−1, 0]."""
        h, logits = rows.double(PENULTIMATE_FEATURES), rows.double(LOGITS)
        states = activation_states(h, logits, state["weight"], self.steepness)
        covered = torch.take(state["coverage"], state_cells(states, self.bins))
        return -covered.mean(dim=1)
