"""Networks by what they are trained for, to be used in any loop."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from latentood.errors import ConfigError
from latentood.training.network import Network
from latentood.training.objectives.evidential import Evidential
from latentood.training.objectives.posterior import Posterior
from latentood.training.objectives.prior import PriorNetwork as Prior
from latentood.training.objectives.prototypes import Prototypes


class EvidentialNetwork(Network):
    """A classifier whose logits become evidence for each class.

    Args:
        classifier: Gives logits (B, C).
        classes: C; default: the width of its last linear layer.
        hyperparameters: Those of the objective ``evidential``.
    """

    def __init__(
        self, classifier: nn.Module, *, classes: int | None = None, **hyperparameters: Any
    ) -> None:
        objective = Evidential(**hyperparameters)
        super().__init__(classifier, objective, classes=classes or _width(classifier))


class PriorNetwork(Network):
    """A classifier whose logits are log concentrations; its loss needs OOD inputs.

    Args:
        classifier: Gives logits (B, C).
        classes: C; default: the width of its last linear layer.
        hyperparameters: Those of the objective ``prior``.
    """

    def __init__(
        self, classifier: nn.Module, *, classes: int | None = None, **hyperparameters: Any
    ) -> None:
        objective = Prior(**hyperparameters)
        super().__init__(classifier, objective, classes=classes or _width(classifier))


class PosteriorNetwork(Network):
    """An encoder, and one flow for each class over what it gives.

    Args:
        encoder: Gives (B, H), of any width H.
        counts: (C,) training rows of each class.
        width: H; default: the width of its last linear layer.
        hyperparameters: Those of the objective ``posterior``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        counts: Tensor,
        *,
        width: int | None = None,
        **hyperparameters: Any,
    ) -> None:
        objective = Posterior(**hyperparameters)
        size = width or _width(encoder)
        super().__init__(encoder, objective, classes=len(counts), width=size, counts=counts)


class PrototypeNetwork(Network):
    """An encoder, and learnt prototypes of each class in the space of what it gives.

    Args:
        encoder: Gives (B, H), of any width H.
        classes: C.
        width: H; default: the width of its last linear layer.
        hyperparameters: Those of the objective ``prototypes``.
    """

    def __init__(
        self, encoder: nn.Module, classes: int, *, width: int | None = None, **hyperparameters: Any
    ) -> None:
        objective = Prototypes(**hyperparameters)
        super().__init__(encoder, objective, classes=classes, width=width or _width(encoder))


def _width(network: nn.Module) -> int:
    """Give the width of the last linear layer."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ConfigError(
            "the width of the network's output must be known, but it has no linear layer; give it "
            "as classes= or width="
        )
    return linear[-1].out_features
