"""Activation shaping: reshape the penultimate features, then score the logits they give.

A detector is a chain of :mod:`~latentood.detectors.families.shaping.steps` before a logit score.
Those in ``learned`` learn from fit or ID val rows, those in ``fixed`` use one row alone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

from torch import Tensor

from latentood.detectors.base import Detector, Needs, State
from latentood.detectors.checks import checked_head
from latentood.detectors.families.logits.scores import GEN, Energy, Entropy, MaxLogit, MaxSoftmax
from latentood.detectors.families.shaping.steps import Step
from latentood.errors import DetectorError
from latentood.latents import HEAD, PENULTIMATE_FEATURES, Latents, Statistic
from latentood.plugins import hyper, plugin

LOGIT_SCORES = {cls.name: cls() for cls in (Energy, MaxSoftmax, MaxLogit, Entropy, GEN)}


@plugin
class LogitShaping(Detector):
    """Logits that were reshaped somehow, scored as logits are."""

    family = "shaping"
    logit_score: Literal["energy", "msp", "max_logit", "entropy", "gen"] = hyper(
        "energy", "score of the new logits"
    )

    @abstractmethod
    def logits(self, state: State, rows: Latents) -> Tensor:
        """Give the new logits (N, C) float64."""

    def score(self, state: State, rows: Latents) -> Tensor:
        """Score rows by their new logits: (N,)."""
        return LOGIT_SCORES[self.logit_score].of_logits(self.logits(state, rows))


@plugin
class ActivationShaping(LogitShaping):
    """Features through a chain of steps, then through the head: z' = W·h' + b."""

    cost = "no fit, O(C·D) per row"

    @property
    @abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """The chain, in order."""

    def needs(self) -> Needs:
        """Declare features and the head, and what the steps learn from."""
        learns = any(step.reads_val for step in self.steps)
        beside = dict.fromkeys(key for step in self.steps for key in step.fit_reads)
        return Needs(
            score=(PENULTIMATE_FEATURES,),
            fit=(PENULTIMATE_FEATURES, HEAD, *beside),
            val=(PENULTIMATE_FEATURES,) if learns else (),
        )

    def statistics(self) -> tuple[Statistic[Any], ...]:
        """Ask for what the steps ask for."""
        return tuple(statistic for step in self.steps for statistic in step.statistics())

    def fit(self, train: Latents, val: Latents | None = None) -> State:
        """Keep weight (C, D) and bias (C,) of the head, and what the steps learned."""
        weight, bias = checked_head(self.name, train)
        state = {"weight": weight, "bias": bias}
        for step in self.steps:
            rows = self.val_rows(val) if step.reads_val else train
            state |= step.learn(self.name, state["weight"], rows)
        return state

    def diagnostics(self, state: State) -> dict[str, Any]:
        """Report the thresholds, and the share of weights that are kept."""
        kept = float((state["weight"] != 0).double().mean())
        learned = {key: value for key, value in state.items() if key not in ("weight", "bias")}
        return {"weights_kept": kept} | {
            key: float(value) for key, value in learned.items() if value.numel() == 1
        }

    def logits(self, state: State, rows: Latents) -> Tensor:
        """Reshape the features and apply the head.

        Raises:
            DetectorError: A step sums activations, and one is negative.
        """
        activations = rows.double(PENULTIMATE_FEATURES)
        if any(step.needs_positive for step in self.steps):
            self._require_positive(activations, rows)
        for step in self.steps:
            activations = step.apply(state, activations)
        return activations @ state["weight"].mT + state["bias"]

    def _require_positive(self, activations: Tensor, rows: Latents) -> None:
        if bool((activations < 0).any()):
            row = int((activations < 0).any(dim=1).nonzero()[0])
            raise DetectorError(
                f"{self.name}: {PENULTIMATE_FEATURES} must be ≥ 0, as after a ReLU, got "
                f"{float(activations[row].min()):g} in row {rows.offset + row} of "
                f'"{rows.name}"; use react, vra, ash_p or lts, which do without sums of '
                "activations of one sign"
            )
