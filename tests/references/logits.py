"""Slow formulas of the detectors that read logits alone."""

import math

import numpy as np
from scipy.optimize import brentq

from latentood.testing.formulas import logsumexp, shannon, softmax
from tests.references.registry import reference

TINY = np.finfo(np.float64).tiny


def negative_log_likelihood_slope(beta: float, z: np.ndarray, y: np.ndarray) -> float:
    return sum(softmax(beta * row) @ row - row[true] for row, true in zip(z, y, strict=True))


@reference("temp_scaling")
def temp_scaling(d, fit, rows, same):
    z, y = fit["val"]["logits"], fit["val"]["labels"]
    beta = brentq(negative_log_likelihood_slope, 1e-6, 1e3, args=(z, y), xtol=1e-15, rtol=1e-14)
    return np.array([-max(softmax(beta * row)) for row in rows["logits"]])


@reference("kl_matching")
def kl_matching(d, fit, rows, same):
    posteriors = np.array([softmax(z) for z in fit["val"]["logits"]])
    predicted = posteriors.argmax(axis=1)
    classes = posteriors.shape[1]
    typical = []
    for k in range(classes):
        own = posteriors[predicted == k]
        mean = own.mean(axis=0) if len(own) else np.eye(classes)[k]
        typical.append([max(p, TINY) for p in mean])
    scores = []
    for z in rows["logits"]:
        p = softmax(z)
        divergences = [
            sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)
            for q in typical
        ]
        scores.append(max(0.0, min(divergences)))
    return np.array(scores)


def gen_of(z: np.ndarray, gamma: float, top: int) -> float:
    p = softmax(z)
    complement = [math.fsum(p[j] for j in range(len(p)) if j != i) for i in range(len(p))]
    largest = sorted(range(len(p)), key=lambda i: -p[i])[:top]
    return sum(p[i] ** gamma * complement[i] ** gamma for i in largest)


@reference("gen")
def gen(d, fit, rows, same):
    return np.array([gen_of(z, d.gamma, d.top) for z in rows["logits"]])


@reference("weighted_energy")
def weighted_energy(d, fit, rows, same):
    scores = []
    for z in rows["logits"]:
        weights = d.weights or (1.0,) * len(z)
        kept = [x + math.log(w) for x, w in zip(z, weights, strict=True) if w > 0]
        scores.append(-logsumexp(np.array(kept)))
    return np.array(scores)


@reference("odin_eps0")
@reference("mcm")
def scaled_msp(d, fit, rows, same):
    return np.array([-max(softmax(z / d.temperature)) for z in rows["logits"]])


def weibull(tail: list[float]) -> tuple[float, float] | None:
    """Shape and scale by maximum likelihood; None where the values are all alike."""
    tail = [x for x in tail if x > 0]
    if len(tail) < 2 or max(tail) - min(tail) <= 1e-9 * max(tail):
        return None
    unit = [x / max(tail) for x in tail]

    def likelihood_slope(k: float) -> float:
        powers = [x**k for x in unit]
        weighted = sum(p * math.log(x) for p, x in zip(powers, unit, strict=True)) / sum(powers)
        return weighted - 1 / k - np.mean([math.log(x) for x in unit])

    shape = brentq(likelihood_slope, 1e-3, 1e8, xtol=1e-13, rtol=1e-14)
    return shape, max(tail) * np.mean([x**shape for x in unit]) ** (1 / shape)


@reference("openmax")
def openmax(d, fit, rows, same):
    z, y = fit["logits"], fit["labels"]
    classes = z.shape[1]
    correct = z.argmax(axis=1) == y
    models = {}
    for c in range(classes):
        own = z[correct & (y == c)]
        if len(own):
            mean = own.mean(axis=0)
            tail = sorted(np.linalg.norm(row - mean) for row in own)[-d.tail :]
            if (fitted := weibull(tail)) is not None:
                models[c] = (mean, *fitted)
    alpha = min(d.alpha, classes)
    scores = []
    for v in rows["logits"]:
        revised, unknown = v.copy(), 0.0
        for i, c in enumerate(sorted(range(classes), key=lambda c: -v[c])[:alpha], start=1):
            if c in models:
                mean, shape, scale = models[c]
                far = 1 - math.exp(-((np.linalg.norm(v - mean) / scale) ** shape))
                taken = (alpha + 1 - i) / alpha * far * v[c]
                revised[c] -= taken
                unknown += taken
        scores.append(softmax(np.array([unknown, *revised]))[0])
    return np.array(scores)


def logit_score(name: str, z: np.ndarray) -> float:
    """The logit scores that shaped features may end in, at their defaults."""
    match name:
        case "energy":
            return -logsumexp(z)
        case "msp":
            return -max(softmax(z))
        case "max_logit":
            return -max(z)
        case "entropy":
            return shannon(softmax(z))
        case "gen":
            return gen_of(z, 0.1, 100)
    raise KeyError(name)


@reference("msp")
def msp(d, fit, rows, same):
    return np.array([-max(softmax(z / d.temperature)) for z in rows["logits"]])


@reference("max_logit")
def max_logit(d, fit, rows, same):
    return np.array([-max(z) for z in rows["logits"]])


@reference("energy")
def energy(d, fit, rows, same):
    t = d.temperature
    return np.array([-t * logsumexp(z / t) for z in rows["logits"]])


@reference("entropy")
def entropy(d, fit, rows, same):
    return np.array([shannon(softmax(z)) for z in rows["logits"]])
