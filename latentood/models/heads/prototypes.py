"""A head that classifies by the distance to learnt prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentood.errors import ModelError
from latentood.models.heads.base import Prediction, UncertaintyHead
from latentood.models.heads.checks import check_positive


class PrototypeHead(UncertaintyHead):
    """Logits by the squared distances of the network's output to K learnt prototypes per class.

    Yang et al. 2018, arXiv:1805.03438, sec. 3: each prototype m_ij has the probability
    ``exp(−γ·‖f(x) − m_ij‖²)``, divided by the sum over all (eq. 10), and a class the sum of its
    prototypes (eq. 11). So its logit is ``log Σ_j exp(−γ·‖f(x) − m_ij‖²)``, and −γ·distance for
    K = 1.

    Departures: the class of largest probability is predicted, which for K > 1 need not be that of
    the nearest prototype (eq. 1 and 2). And prototypes start as draws of length about 3/√γ in
    every width, not at the zeros of the authors' code, from where all prototypes of a class have
    the same gradient and stay equal. Two of them are then about 18/γ apart in squared distance, so
    that an output at its own has a probability of nearly 1; from length 1/√γ it has ½ of eight
    classes, and prototypes take small steps.

    Args:
        width: H, the width of the network's output.
        classes: C.
        prototypes: K of each class.
        gamma: γ, how hard the assignment to prototypes is; measured in 1/distance².

    Raises:
        ConfigError: K is below 1, or γ not above 0.
    """

    name = "prototypes"
    gives = ("distance",)

    def __init__(
        self, width: int, classes: int, *, prototypes: int = 1, gamma: float = 1.0
    ) -> None:
        check_positive(self.name, prototypes=prototypes, gamma=gamma)
        super().__init__(width, classes, prototypes=prototypes, gamma=gamma)
        self.gamma = gamma
        drawn = torch.randn(classes * prototypes, width) * (3 * (gamma * width) ** -0.5)
        self.prototypes = nn.Parameter(drawn)  # (C·K, H), the K of a class side by side

    def forward(self, output: Tensor) -> Prediction:
        """Give logits and the squared distances to the nearest of each class: (B, C) float64."""
        squared = squared_distances(output, self.prototypes).unflatten(1, (self.classes, -1))
        logits = torch.logsumexp(-self.gamma * squared, dim=2)
        return Prediction(logits, distance=squared.amin(dim=2))

    def uncertainty(self, prediction: Prediction) -> Tensor:
        """Give the squared distance to the nearest prototype: (B,) float64 ≥ 0.

        Raises:
            ModelError: The prediction has no distances.
        """
        if prediction.distance is None:
            raise ModelError(
                "prototypes: predictions must have distances, got some without; pass what this "
                "head gave"
            )
        return prediction.distance.amin(dim=1)


def squared_distances(rows: Tensor, centres: Tensor) -> Tensor:
    """Squared euclidean distance of rows (N, H) to centres (M, H): (N, M) float64 ≥ 0.

    By the expanded product in float64, whose error of about 1e-16·‖row‖² is far below what the
    rounding of a row in float32 changes. No (N, M, H) array is made.
    """
    rows, centres = rows.double(), centres.double()
    products = torch.addmm(centres.square().sum(dim=1), rows, centres.mT, alpha=-2)
    return (products + rows.square().sum(dim=1, keepdim=True)).clamp(min=0)  # rounding
