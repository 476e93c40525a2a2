"""Slow formulas of activation shaping."""

import math
from collections.abc import Callable

import numpy as np

from tests.references.gaussian import chosen_beta
from tests.references.logits import logit_score
from tests.references.registry import reference

FEATURES = "features/penultimate"


def scored(d, fit, rows, shape: Callable[[np.ndarray], np.ndarray], weight=None) -> np.ndarray:
    head, bias = fit["head"]
    weight = head if weight is None else weight
    scores = []
    for x in rows[FEATURES]:
        new = shape(x)
        z = np.array([sum(w[i] * new[i] for i in range(len(new))) for w in weight]) + bias
        scores.append(logit_score(d.logit_score, z))
    return np.array(scores)


def kept(x: np.ndarray, percent: float) -> list[float]:
    count = max(1, len(x) - int(np.round(len(x) * percent / 100)))
    return sorted(x, reverse=True)[:count]


@reference("react")
def react(d, fit, rows, same):
    top = np.percentile(fit["val"][FEATURES], d.percentile)
    return scored(d, fit, rows, lambda x: np.array([min(h, top) for h in x]))


def sparse(d, fit) -> np.ndarray:
    weight = fit["head"][0]
    contributions = weight * fit[FEATURES].mean(axis=0)
    cut = np.percentile(contributions, d.sparsity)
    return np.where(contributions > cut, weight, 0.0)


@reference("dice")
def dice(d, fit, rows, same):
    return scored(d, fit, rows, lambda x: x, sparse(d, fit))


@reference("dice_react")
def dice_react(d, fit, rows, same):
    top = np.percentile(fit["val"][FEATURES], d.percentile)
    return scored(d, fit, rows, lambda x: np.minimum(x, top), sparse(d, fit))


@reference("vra")
def vra(d, fit, rows, same):
    axis = 0 if d.per_unit else None
    low, high = (
        np.broadcast_to(np.percentile(fit["val"][FEATURES], p, axis=axis), rows[FEATURES].shape[1])
        for p in (d.low, d.high)
    )

    def shape(x: np.ndarray) -> np.ndarray:
        return np.array(
            [0.0 if h < a else b if h > b else h for h, a, b in zip(x, low, high, strict=True)]
        )

    return scored(d, fit, rows, shape)


@reference("ash_p")
def ash_p(d, fit, rows, same):
    def shape(x: np.ndarray) -> np.ndarray:
        least = min(kept(x, d.percentile))
        return np.array([h if h >= least else 0.0 for h in x])

    return scored(d, fit, rows, shape)


@reference("ash_b")
def ash_b(d, fit, rows, same):
    def shape(x: np.ndarray) -> np.ndarray:
        least = min(kept(x, d.percentile))
        active = [h >= least and h > 0 for h in x]
        return np.array([sum(x) / sum(active) if on else 0.0 for on in active])

    return scored(d, fit, rows, shape)


@reference("ash_s")
def ash_s(d, fit, rows, same):
    def shape(x: np.ndarray) -> np.ndarray:
        top = kept(x, d.percentile)
        factor = math.exp(sum(x) / sum(top))
        return np.array([h * factor if h >= min(top) else 0.0 for h in x])

    return scored(d, fit, rows, shape)


@reference("scale")
def scale(d, fit, rows, same):
    return scored(d, fit, rows, lambda x: x * math.exp(sum(x) / sum(kept(x, d.percentile))))


@reference("lts")
def lts(d, fit, rows, same):
    scores = []
    for x, z in zip(rows[FEATURES], rows["logits"], strict=True):
        active = np.array([max(h, 0.0) for h in x])
        factor = (sum(active) / sum(kept(active, 100 - d.top))) ** 2
        scores.append(logit_score(d.logit_score, z * factor))
    return np.array(scores)


@reference("radial")
def radial(d, fit, rows, same):
    beta = chosen_beta(d, fit)
    return scored(d, fit, rows, lambda x: x / np.linalg.norm(x) ** beta)
