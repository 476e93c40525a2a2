"""Slow formulas of detectors made of detectors, from those of their members."""

import math

import numpy as np
from scipy.stats import chi2

from tests.references.registry import REFERENCES, reference


def member_scores(d, fit, rows, same) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scores of the ID val rows and of the rows, one array for each member."""
    formulas = [REFERENCES[part.name] for part in d.parts]
    pairs = list(zip(formulas, d.parts, strict=True))
    val = [formula(part, fit, fit["val"], False) for formula, part in pairs]
    return val, [formula(part, fit, rows, same) for formula, part in pairs]


def standardised(d, fit, rows, same) -> np.ndarray:
    val, scores = member_scores(d, fit, rows, same)
    columns = [(s - v.mean()) / v.std() for v, s in zip(val, scores, strict=True)]
    return np.array(columns).T


@reference("fusion_mean")
def fusion_mean(d, fit, rows, same):
    return np.array([np.mean(row) for row in standardised(d, fit, rows, same)])


@reference("fusion_max")
def fusion_max(d, fit, rows, same):
    return np.array([max(row) for row in standardised(d, fit, rows, same)])


def p_value(score: float, val: np.ndarray) -> float:
    """Share of ID val scores that are as large, ties up to rounding included."""
    return (1 + sum(v >= score - 1e-10 * val.std() for v in val)) / (len(val) + 1)


def statistics(val: list[np.ndarray], scores: list[np.ndarray]) -> np.ndarray:
    """−2·log p of every row and member, (N, M)."""
    columns = [[-2 * math.log(p_value(x, v)) for x in s] for v, s in zip(val, scores, strict=True)]
    return np.array(columns).T


@reference("fusion_fisher")
def fusion_fisher(d, fit, rows, same):
    val, scores = member_scores(d, fit, rows, same)
    return np.array([-chi2.logsf(sum(x), 2 * len(x)) for x in statistics(val, scores)])


@reference("fusion_brown")
def fusion_brown(d, fit, rows, same):
    val, scores = member_scores(d, fit, rows, same)
    covariance = np.cov(statistics(val, val).T, bias=True)
    members = len(val)
    shared = 2 * sum(covariance[i, j] for i in range(members) for j in range(i))
    variance = 4 * members + max(0.0, shared)
    scale, degrees = variance / (4 * members), 8 * members**2 / variance
    return np.array([-chi2.logsf(sum(x) / scale, degrees) for x in statistics(val, scores)])
