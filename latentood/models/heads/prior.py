"""The head of prior networks."""

from __future__ import annotations

from torch import Tensor

from latentood.models.heads.base import Prediction
from latentood.models.heads.dirichlet import DirichletHead, dirichlet_of


class PriorHead(DirichletHead):
    """Logits are log concentrations: α = exp(z), so that the softmax is the mean α/S.

    Malinin and Gales 2018, arXiv:1802.10501, sec. 3. There is no +1 as in evidential networks: α
    may be below 1, where the distribution is spread over the corners of the simplex.

    Args:
        width: H, the width of the network's output, which must be C.
        classes: C.

    Raises:
        ConfigError: H is not C.
    """

    name = "prior"

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)

    def forward(self, output: Tensor) -> Prediction:
        """Take the output as logits and as log α, (B, C) float64."""
        return Prediction(output, log_alpha=output.double())

    def uncertainty(self, prediction: Prediction) -> Tensor:
        """Give the mutual information of class and probabilities: (B,) nats in [0, log C].

        It is what the paper (sec. 4) measures distributional uncertainty by: unlike −log S it has a
        range, and unlike the differential entropy it does not fall again where α is below 1.
        """
        return dirichlet_of(prediction, self.name).mutual_information()
