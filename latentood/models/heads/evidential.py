"""The head of evidential networks."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from latentood.models.heads.base import Prediction
from latentood.models.heads.checks import check_choice
from latentood.models.heads.dirichlet import DirichletHead, dirichlet_of
from latentood.stats.distributions.evidence import (
    Evidence,
    log_concentration,
    log_evidence,
    reconciled,
)

Reconcile = Literal["none", "min", "learnt"]
"""How much of the least evidence of an input is taken from the evidence of all classes."""

_MOST_GATED = math.log(1e6)  # far above, the gradient of R, squared by Adam, fits no float32


class EvidentialHead(DirichletHead):
    """Logits z become evidence e = relu(z), softplus(z) or exp(z), and that α = e + 1.

    Sensoy et al. 2018, arXiv:1806.01768, sec. 3. Departures: evidence has no upper limit (training
    code often clips the exponent at ±10); log α is computed from z in float64.

    ``reconcile`` takes from every class what all classes of the input have in common:

    - ``min``: e − min(e), the evidence reconciled network (ERNN, MICCAI 2023,
      doi:10.1007/978-3-031-43898-1_30). The least class has no evidence, and no gradient.
    - ``learnt``: e − σ(Rᵀe)·min(e), the redundancy removing network (R2ENN), which has no
      publication. R is read as one vector (C,), so that Rᵀe is one number for each input; it
      starts at 0, where half of min(e) is taken. Within σ evidence counts up to 10⁶.

    With relu, an input whose logits are all ≤ 0 has no evidence: α = 1 and the gradient is 0.

    Args:
        width: H, the width of the network's output, which must be C.
        classes: C.
        evidence: The evidence function: ``relu``, ``softplus`` or ``exp``.
        reconcile: ``none``, ``min`` or ``learnt``.

    Raises:
        ConfigError: H is not C, or a setting has no such value.
    """

    name = "evidential"

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        evidence: Evidence = "relu",
        reconcile: Reconcile = "none",
    ) -> None:
        check_choice(self.name, "evidence", evidence, Evidence)
        check_choice(self.name, "reconcile", reconcile, Reconcile)
        super().__init__(width, classes, evidence=evidence, reconcile=reconcile)
        self.evidence = evidence
        self.reconcile = reconcile
        if reconcile == "learnt":
            self.redundancy = nn.Parameter(torch.zeros(classes))  # R

    def forward(self, output: Tensor) -> Prediction:
        """Take the output as logits, and give log α (B, C) float64 beside them."""
        evidence = log_evidence(output.double(), self.evidence)
        if self.reconcile == "min":
            evidence = reconciled(evidence)
        elif self.reconcile == "learnt":
            gated = evidence.clamp(max=_MOST_GATED).exp() @ self.redundancy.double()
            evidence = reconciled(evidence, torch.sigmoid(gated).unsqueeze(1))
        return Prediction(output, log_alpha=log_concentration(evidence))

    def uncertainty(self, prediction: Prediction) -> Tensor:
        """Give the vacuity C/S: (B,) float64 in (0, 1], 1 where there is no evidence."""
        return dirichlet_of(prediction, self.name).vacuity()
