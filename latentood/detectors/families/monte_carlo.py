"""Detectors that read the spread of T stochastic passes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.detectors.checks import check_passes
from latentood.detectors.statistics.moments import PassVariance
from latentood.errors import DetectorError
from latentood.latents import MC_LOGITS, PENULTIMATE, Key, Latents, Statistic
from latentood.plugins import hyper, plugin
from latentood.stats.probabilities import entropy


@plugin
class MonteCarloDetector(Detector):
    """A score of the class probabilities of T passes."""

    family = "monte_carlo"
    cost = "no fit, O(T·C) per row, after T stochastic passes"
    reads = (MC_LOGITS,)

    @abstractmethod
    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) float64 → (N,), higher = more OOD."""

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows by the probabilities of their passes."""
        return self.of_passes(torch.softmax(rows.double(MC_LOGITS), dim=-1))


@plugin
class MeanMaxSoftmax(MonteCarloDetector):
    """The largest mean probability over the passes, negated: −max_c mean_t p."""

    name = "mcd_msp"
    paper = "arXiv:1506.02142, sec. 4; arXiv:1610.02136 for the maximum"
    works = "As msp, where averaging over passes takes the overconfidence away."
    fails = "Weak dropout, which leaves it what msp is; ambiguous ID inputs."

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,) in [−1, −1/C]."""
        return -probabilities.mean(dim=1).amax(dim=1)


@plugin
class Variance(MonteCarloDetector):
    """Variance of a class probability over the passes, averaged over classes: mean_c Var_t p.

    The variance divides by T (all passes are the population), not by T−1: one pass gives 0.
    """

    name = "mcd_variance"
    paper = "arXiv:1511.02680, sec. 3"
    works = "Dropout close to the output, where passes disagree on inputs unlike the training set."
    fails = "Few passes, and OOD on which every pass is confidently wrong in the same way."

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,) in [0, 1/C]."""
        return probabilities.var(dim=1, correction=0).mean(dim=1)


@plugin
class PredictiveEntropy(MonteCarloDetector):
    """Entropy of the mean probabilities, in nats: H(mean_t p_t), all uncertainty at once."""

    name = "predictive_entropy"
    paper = "arXiv:1703.02910, sec. 3"
    works = "Any stochastic network: never less informed than the entropy of a single pass."
    fails = "Ambiguous ID inputs score as high as OOD; mutual_information tells them apart."

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,) in [0, log C]."""
        return entropy(probabilities.mean(dim=1))


@plugin
class MutualInformation(MonteCarloDetector):
    """What the passes disagree about, in nats: H(mean_t p_t) − mean_t H(p_t) (BALD).

    Houlsby et al. 2011, with dropout passes as in Gal et al. 2017. Jensen's inequality makes it
    ≥ 0; rounding does not, so it is clamped at 0.
    """

    name = "mutual_information"
    paper = "arXiv:1112.5745, eq. 2; arXiv:1703.02910, sec. 3"
    works = "Separating what the model does not know from what is ambiguous in the data."
    fails = "Weak dropout: passes hardly differ, and what is left is rounding. Grows with T."

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,) in [0, log C]."""
        total = entropy(probabilities.mean(dim=1))
        return (total - entropy(probabilities).mean(dim=1)).clamp(min=0.0)


@plugin
class ExpectedEntropy(MonteCarloDetector):
    """Mean over the passes of their entropies, in nats: mean_t H(p_t), what is in the data.

    With mutual_information it adds up to predictive_entropy.
    """

    name = "expected_entropy"
    paper = "arXiv:1703.02910, sec. 3"
    works = "Telling ambiguous inputs apart; OOD on which every single pass is unsure."
    fails = "OOD on which every pass is sure, each of something else: see mutual_information."

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,) in [0, log C]."""
        return entropy(probabilities).mean(dim=1)


@plugin
class VoteDetector(MonteCarloDetector):
    """A score of how the T passes vote, each for its most probable class."""

    def of_passes(self, probabilities: Tensor) -> Tensor:
        """Score probabilities (N, T, C) → (N,)."""
        passes, classes = probabilities.shape[1:]
        check_passes(self.name, MC_LOGITS, passes)
        votes = probabilities.argmax(dim=2)
        counts = torch.nn.functional.one_hot(votes, classes).sum(dim=1).double()
        return self.of_votes(counts, passes)

    @abstractmethod
    def of_votes(self, counts: Tensor, passes: int) -> Tensor:
        """Score votes per class (N, C) float64, T in each row → (N,), higher = more OOD."""


@plugin
class VariationRatio(VoteDetector):
    """Share of the passes that do not vote for the class most of them vote for: 1 − f/T."""

    name = "variation_ratio"
    paper = "Gal 2016, Uncertainty in Deep Learning (thesis), sec. 3.3.1 (Freeman 1965)"
    works = "Many passes through strong dropout; indifferent to how sure a pass is."
    fails = "Few passes: T + 1 values at most, so most ID and many OOD rows tie at 0."

    def of_votes(self, counts: Tensor, passes: int) -> Tensor:
        """Score votes (N, C) → (N,) in [0, 1 − 1/T]."""
        return 1 - counts.amax(dim=1) / passes


@plugin
class Disagreement(VoteDetector):
    """Share of the pairs of passes that vote for different classes.

    ``1 − Σ_c n_c·(n_c−1) / (T·(T−1))`` for n_c votes; for two passes that is whether they differ,
    as Fort et al. 2019 compare networks. Where only the largest n_c counts in variation_ratio, the
    others do here. The disagreement of deep ensembles, the mean KL divergence of the passes to
    their mean, is mutual_information.
    """

    name = "disagreement"
    paper = "arXiv:1912.02757, sec. 3"
    works = "As variation_ratio, with fewer ties: two rival classes score less than many."
    fails = "Few passes, and dropout too weak to change a vote: rows tie at 0."

    def of_votes(self, counts: Tensor, passes: int) -> Tensor:
        """Score votes (N, C) → (N,) in [0, 1]."""
        return 1 - (counts * (counts - 1)).sum(dim=1) / (passes * (passes - 1))


@plugin
class FeatureVariance(Detector):
    """Variance of the features over the passes, each dimension by what it is for ID inputs.

    ``mean_d Var_t(h_d) / (v_d + ridge·mean v)`` with v_d the mean of Var_t(h_d) over the fit rows;
    the variances divide by T. Without ``standardise`` it is mean_d Var_t(h_d), which dropout makes
    grow with the square of the activations: OOD inputs, which activate less, then score low.
    """

    name = "mcd_feature_variance"
    family = "monte_carlo"
    paper = "arXiv:1506.02142, sec. 4 (predictive variance), taken of features"
    works = "Dropout before the layer, and OOD that lights up units which ID inputs leave quiet."
    fails = "Dropout behind the layer, and OOD with weak activations: less to drop, less variance."
    cost = "O(N·T·D) fit, O(T·D) per row, after T stochastic passes"
    per_layer = True
    layer: str = hyper(PENULTIMATE, "stochastic layer whose features over the passes are read")
    standardise: bool = hyper(
        True, "whether dimensions are compared with those of the fit rows", tries=(True, False)
    )
    ridge: float = hyper(1e-6, "share of the mean variance added to what is divided by", above=0)

    @property
    def key(self) -> Key:
        """Name the array of features over the passes."""
        return Key("mc.features", self.layer)

    def needs(self) -> Needs:
        """Declare the features of the passes, also to fit if they are standardised."""
        return Needs(score=(self.key,), fit=(self.key,) if self.standardise else ())

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for the mean variances."""
        return (PassVariance(self.key),) if self.standardise else ()

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep what every dimension is divided by (D,)."""
        if not self.standardise:
            return {}
        check_passes(self.name, self.key, train.shape(self.key)[1])
        variance = train.compute(PassVariance(self.key))
        if float(variance.mean()) == 0:
            raise DetectorError(
                f"{self.name}: {self.key} must vary over the passes, got {len(train)} rows of "
                f'"{train.name}" whose passes are all equal; choose a layer behind the dropout'
            )
        return {"usual": variance + self.ridge * variance.mean()}

    def score(self, state: State, rows: Latents) -> Tensor:
        """Average the variances: (N,) ≥ 0."""
        passes = rows.double(self.key)
        check_passes(self.name, self.key, passes.shape[1])
        variance = passes.var(dim=1, correction=0)
        return (variance / state["usual"] if self.standardise else variance).mean(dim=1)


DETECTORS = (
    MeanMaxSoftmax, Variance, PredictiveEntropy, ExpectedEntropy, MutualInformation,
    VariationRatio, Disagreement, FeatureVariance,
)  # fmt: skip
