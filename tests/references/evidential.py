"""Slow formulas of detectors for evidential models, as they stand in the papers."""

import math

import mpmath
import numpy as np
from scipy.special import digamma

from tests.references.registry import reference


def evidence_of(d, z: np.ndarray) -> list[float]:
    if d.head:  # that of the blobs is exp
        return [math.exp(float(v)) for v in z]
    match d.evidence:
        case "relu":
            return [max(0.0, float(v)) for v in z]
        case "softplus":
            return [math.log1p(math.exp(float(v))) for v in z]
    return [math.exp(float(v)) for v in z]


@reference("vacuity")
def vacuity(d, fit, rows, same):
    return np.array([len(z) / (sum(evidence_of(d, z)) + len(z)) for z in rows["logits"]])


@reference("precision")
def precision(d, fit, rows, same):
    return np.array([-math.log(sum(v + 1 for v in evidence_of(d, z))) for z in rows["logits"]])


@reference("dissonance")
def dissonance(d, fit, rows, same):
    scores = []
    for z in rows["logits"]:
        e = evidence_of(d, z)
        b = [v / (sum(e) + len(e)) for v in e]
        total = 0.0
        for k in range(len(b)):
            others = [j for j in range(len(b)) if j != k]
            balance = [
                b[j] * (1 - abs(b[j] - b[k]) / (b[j] + b[k])) for j in others if b[j] and b[k]
            ]
            rest = sum(b[j] for j in others)
            total += b[k] * sum(balance) / rest if rest else 0.0
        scores.append(total)
    return np.array(scores)


@reference("dirichlet_entropy")
def dirichlet_entropy(d, fit, rows, same):
    """In 40 digits: the terms are as large as the evidence, their sum is not."""
    scores = []
    with mpmath.workdps(40):
        for z in rows["logits"]:
            alpha = [mpmath.mpf(e) + 1 for e in evidence_of(d, z)]
            s = sum(alpha)
            log_beta = sum(map(mpmath.loggamma, alpha)) - mpmath.loggamma(s)
            last = sum((a - 1) * mpmath.digamma(a) for a in alpha)
            scores.append(float(log_beta + (s - len(alpha)) * mpmath.digamma(s) - last))
    return np.array(scores)


@reference("distributional_mutual_information")
def distributional_mutual_information(d, fit, rows, same):
    scores = []
    for z in rows["logits"]:
        alpha = np.array(evidence_of(d, z)) + 1
        s = alpha.sum()
        p = alpha / s
        scores.append(-(p * (np.log(p) - digamma(alpha + 1) + digamma(s + 1))).sum())
    return np.array(scores)


@reference("dirichlet_expected_entropy")
def dirichlet_expected_entropy(d, fit, rows, same):
    scores = []
    for z in rows["logits"]:
        alpha = [v + 1 for v in evidence_of(d, z)]
        s = sum(alpha)
        scores.append(-sum(a / s * (digamma(a + 1) - digamma(s + 1)) for a in alpha))
    return np.array(scores)


@reference("evidential_max_prob")
def evidential_max_prob(d, fit, rows, same):
    scores = []
    for z in rows["logits"]:
        alpha = [v + 1 for v in evidence_of(d, z)]
        scores.append(-max(alpha) / sum(alpha))
    return np.array(scores)
