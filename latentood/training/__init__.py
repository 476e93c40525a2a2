"""Training of networks that know what they do not know."""

from latentood.training.network import Network
from latentood.training.networks import (
    EvidentialNetwork,
    PosteriorNetwork,
    PriorNetwork,
    PrototypeNetwork,
)
from latentood.training.objectives import END, OBJECTIVES, Moment, Objective

__all__ = [
    "END",
    "OBJECTIVES",
    "EvidentialNetwork",
    "Moment",
    "Network",
    "Objective",
    "PosteriorNetwork",
    "PriorNetwork",
    "PrototypeNetwork",
]
