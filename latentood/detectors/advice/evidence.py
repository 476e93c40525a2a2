"""How often the rules were right on recipes of this package, counted after they were fixed.

The figures are those of ``python -m tests.benchmarks.advice`` on five networks, see docs/advise.md.
Nothing is fitted to them; a rule that turned out wrong stays, with its count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NETWORKS = 5
"""How many networks were measured."""


@dataclass(frozen=True)
class Seen:
    """How often a verdict on a family could be checked, and was right.

    A verdict is checked at a layer of a recipe against near and against far OOD, by the AUROC of
    the detector that stands for the family. ``likely`` agrees where it is above the median of all
    families there, ``unlikely`` where it is below, beyond its interval and by 0.01 or more. Checks
    of one recipe are not independent.
    """

    agreed: int
    disagreed: int
    open: int  # too near to the median, or the verdict was uncertain

    @property
    def checked(self) -> int:
        """Count the checks that had a result."""
        return self.agreed + self.disagreed


SEEN: Mapping[str, Seen] = MappingProxyType(
    {
        "softmax": Seen(0, 3, 7),
        "logits": Seen(1, 5, 4),
        "monte carlo": Seen(1, 3, 0),
        "evidential": Seen(6, 2, 2),
        "mahalanobis": Seen(10, 3, 9),
        "relative mahalanobis": Seen(3, 6, 13),
        "class densities": Seen(5, 4, 13),
        "subspace": Seen(7, 6, 9),
        "collapse": Seen(9, 2, 11),
        "neighbours": Seen(6, 2, 14),
        "kernel density": Seen(5, 2, 15),
        "prototypes": Seen(5, 3, 14),
        "shaping": Seen(0, 5, 3),
        "gradient": Seen(1, 1, 8),
        "latent entropy": Seen(0, 5, 1),
    }
)
"""Family → what was seen."""

BY_OUTCOME: Mapping[str, Seen] = MappingProxyType(
    {"likely": Seen(40, 48, 70), "unlikely": Seen(19, 4, 3)}
)
"""The same checks, by verdict."""

PAIRS: Mapping[str, Seen] = MappingProxyType(
    {"near": Seen(187, 101, 100), "far": Seen(171, 112, 105)}
)
"""Role of the OOD → how often, of two families with different verdicts at one place, the one with
the better verdict had the higher AUROC; open where intervals overlap or differ by below 0.01."""
