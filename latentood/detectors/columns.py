"""Detectors that read a score computed during extraction, because it needs the model itself.

The score taps of :mod:`latentood.extract.scores` compute these columns; their hyperparameters are
in the pipeline file, under ``scores:``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.latents import Latents, score_column


@dataclass(frozen=True)
class Column(Detector):
    """The column ``scores/<name>``, as it is."""

    family = "columns"

    @property
    def key(self) -> str:
        """Name the column."""
        return score_column(self.name)

    def needs(self) -> Needs:
        """Declare the column of the rows to score."""
        return Needs(score=(self.key,))

    def score(self, state: State, rows: Latents) -> Tensor:
        """Give the column: (N,)."""
        return rows.double(self.key)


@dataclass(frozen=True)
class ODINColumn(Column):
    """ODIN: −max softmax at T = 1000, of an input moved towards its predicted class."""

    name = "odin"
    paper = "arXiv:1706.02690, eq. 1–2"
    works = "Networks whose softmax rises faster around ID than around OOD inputs."
    fails = "Steps that suit another data set: ε is in the units of the network's input."
    cost = "at extraction: one pass with gradients and one without, O(1) per row from the cache"


@dataclass(frozen=True)
class IODINColumn(Column):
    """i-ODIN: as odin, but only the most important value of the input is moved."""

    name = "iodin"
    paper = "arXiv:2411.10794, by its author's code in OpenOOD v1.5"
    works = "Near OOD that a step in every value would push towards a class as well."
    fails = "Large inputs, where one value changes nothing: it is odin_eps0 then."
    cost = "at extraction: one pass with gradients and one without, O(1) per row from the cache"


@dataclass(frozen=True)
class PerturbedMahalanobisColumn(Column):
    """Mahalanobis distance after a step of the input towards its nearest class."""

    name = "mahalanobis_perturbed"
    paper = "arXiv:1807.03888, eq. 2 and the input pre-processing of sec. 2.2"
    works = "Where mahalanobis works: ID inputs come closer by the step than OOD inputs do."
    fails = "Near OOD, as mahalanobis does, and steps so long that they leave the classes."
    cost = "at extraction: one pass with gradients and one without, O(1) per row from the cache"


@dataclass(frozen=True)
class RankFeatColumn(Column):
    """RankFeat: energy of the logits once the largest part of a feature map is taken out."""

    name = "rankfeat"
    paper = "arXiv:2209.08590, sec. 3"
    works = "Large networks whose OOD maps owe their strength to one singular value."
    fails = "Small maps, where the largest part is most of what makes a class."
    cost = "at extraction: one pass and an eigendecomposition, O(1) per row from the cache"


@dataclass(frozen=True)
class AdaSCALEColumn(Column):
    """AdaSCALE: energy of scaled activations, scaled less the more they shift under a change."""

    name = "adascale"
    paper = "arXiv:2503.08023, sec. 4"
    works = "ReLU networks with wide penultimate layers; near OOD better than scale."
    fails = "Narrow layers, where a percentile of a few values jumps; negative activations."
    cost = "at extraction: one pass with gradients and two without, O(1) per row from the cache"


@dataclass(frozen=True)
class GROODColumn(Column):
    """GROOD: distance to the fit rows' gradients at an OOD prototype."""

    name = "grood"
    paper = "arXiv:2312.14427v3"
    works = "Compact classes, far from the noise that stands in for OOD."
    fails = "OOD nearer to a class mean than to the OOD prototype, whose gradient is 0."
    cost = "at extraction: one pass and a search of the fit rows, O(1) per row from the cache"
