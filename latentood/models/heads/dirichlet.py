"""What heads that read logits as a Dirichlet distribution share."""

from __future__ import annotations

from typing import Any

from latentood.errors import ConfigError, ModelError
from latentood.models.heads.base import Prediction, UncertaintyHead
from latentood.stats.distributions.dirichlet import Dirichlet


class DirichletHead(UncertaintyHead):
    """Reads logits, one for each class, as a Dirichlet distribution of the class probabilities.

    Args:
        width: H, the width of the network's output, which must be C.
        classes: C.
        settings: Keyword arguments of the class beside these two.

    Raises:
        ConfigError: H is not C.
    """

    gives = ("log_alpha",)

    def __init__(self, width: int, classes: int, **settings: Any) -> None:
        super().__init__(width, classes, **settings)
        if width != classes:
            raise ConfigError(
                f"{self.name}: the network's output must be one logit for each of {classes} "
                f"classes, got {width}; use a network that ends in a linear layer of {classes}"
            )


def dirichlet_of(prediction: Prediction, who: str) -> Dirichlet:
    """Give the distribution that a head predicted.

    Raises:
        ModelError: The prediction is that of a head without one.
    """
    if prediction.log_alpha is None:
        raise ModelError(
            f"{who}: predictions must have log_alpha, got some without; build the network with "
            "the head of this objective"
        )
    return Dirichlet(prediction.log_alpha)
