"""The objective of networks that classify by the distance to learnt prototypes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from latentood.errors import ModelError
from latentood.models.heads.prototypes import PrototypeHead
from latentood.plugins import hyper, plugin
from latentood.training.objectives.base import Given, Objective


@plugin
class Prototypes(Objective):
    """Generalised convolutional prototype learning (GCPL): DCE + λ·PL.

    Yang et al. 2018, arXiv:1805.03438, sec. 3: the distance-based cross-entropy −log p(y|x)
    (eq. 12) plus λ times the prototype loss, the squared distance to the nearest prototype of
    the true class. Prototypes and network learn from both terms. γ is the default of the authors'
    code, which halves the prototype loss; here it is that of the paper.

    λ is 1, where the authors' code has 0.001. For K = 1, ‖f(x)‖² cancels in DCE, which is then that
    of a linear layer and lets outputs grow past their prototypes without end; only the prototype
    loss holds them. With λ = γ both terms are log-likelihoods of one model, classes that are
    Gaussian around their prototypes with variance 1/(2γ): DCE is −log p(y|x) and λ·PL is
    −log p(f(x)|y) without its constant. For what else departs see :class:`PrototypeHead`.
    """

    name = "prototypes"
    paper = "arXiv:1805.03438, sec. 3"
    prototypes: int = hyper(1, "K, prototypes of each class", low=1)
    gamma: float = hyper(1.0, "γ, how hard rows are assigned to prototypes", above=0)
    prototype_weight: float = hyper(1.0, "weight λ of the prototype loss", low=0)

    def head(self, width: int, classes: int, counts: Tensor | None = None) -> PrototypeHead:
        """Make the prototypes; counts are not read."""
        return PrototypeHead(width, classes, prototypes=self.prototypes, gamma=self.gamma)

    def of(self, given: Given) -> Tensor:
        """Give the mean of ``−log p_y + λ·min_j ‖f(x) − m_yj‖²``: float64.

        Raises:
            ModelError: The predictions have no distances.
        """
        prediction, labels, head = given.prediction, given.labels, given.head
        if prediction.distance is None:
            raise ModelError(
                f"{self.who}: predictions must have distances, got those of a head {head.name!r}; "
                "build the network with the head of this objective"
            )
        own = prediction.distance.gather(1, labels.unsqueeze(1))
        return F.cross_entropy(prediction.logits, labels) + self.prototype_weight * own.mean()
