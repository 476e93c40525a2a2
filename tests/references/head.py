"""Slow formulas of detectors that read features by the geometry of the head."""

import math

import numpy as np

from latentood.testing.formulas import softmax
from tests.references.registry import reference

FEATURES = "features/penultimate"


@reference("fdbd")
def fdbd(d, fit, rows, same):
    weight = fit["head"][0]
    mean = fit[FEATURES].mean(axis=0)
    scores = []
    for x, z in zip(rows[FEATURES], rows["logits"], strict=True):
        best = int(z.argmax())
        others = [c for c in range(len(z)) if c != best]
        distances = [abs(z[c] - z[best]) / np.linalg.norm(weight[c] - weight[best]) for c in others]
        scores.append(-np.mean(distances) / np.linalg.norm(x - mean))
    return np.array(scores)


@reference("nci")
def nci(d, fit, rows, same):
    weight = fit["head"][0]
    mean = fit[FEATURES].mean(axis=0)
    scores = []
    for x, z in zip(rows[FEATURES], rows["logits"], strict=True):
        along = weight[int(z.argmax())] @ (x - mean) / np.linalg.norm(x - mean)
        scores.append(-along - d.alpha * sum(abs(x)))
    return np.array(scores)


@reference("gradnorm")
def gradnorm(d, fit, rows, same):
    scores = []
    for x, z in zip(rows[FEATURES], rows["logits"], strict=True):
        gradient = np.outer(len(z) * softmax(z) - 1, x)  # of −Σ log p by the weights
        scores.append(-np.abs(gradient).sum())
    return np.array(scores)


@reference("feature_norm")
def feature_norm(d, fit, rows, same):
    return np.array([-math.sqrt(sum(float(v) ** 2 for v in x)) for x in rows[d.key]])


@reference("pnml")
def pnml(d, fit, rows, same):
    weight, bias = fit["head"]
    unit = np.array([x / np.linalg.norm(x) for x in fit[FEATURES]])
    inverse = np.linalg.pinv(unit.T @ unit, hermitian=True)
    span = inverse @ (unit.T @ unit)
    scores = []
    for x in rows[FEATURES]:
        x = x / np.linalg.norm(x)
        p = softmax(weight @ x + bias)
        energy = x @ inverse @ x
        power = 1.0 if np.linalg.norm(x - span @ x) > 1e-6 else energy / (1 + energy)
        scores.append(math.log(sum(q / (q + (1 - q) * q**power) for q in p)))
    return np.array(scores)


@reference("nac")
def nac(d, fit, rows, same):
    weight = fit["head"][0]

    def bins_of(x, z):
        """Bin of every unit; the gradient of KL(u‖p) by the input of the head."""
        p = softmax(z)
        slope = sum((p[c] - 1 / len(p)) * weight[c] for c in range(len(p)))
        states = [
            1 / (1 + math.exp(min(700.0, -d.steepness * v * g)))
            for v, g in zip(x, slope, strict=True)
        ]
        return [min(d.bins - 1, int(s * d.bins + 1e-9)) for s in states]

    counts = np.zeros((fit[FEATURES].shape[1], d.bins))
    for x, z in zip(fit[FEATURES], fit["logits"], strict=True):
        for unit, place in enumerate(bins_of(x, z)):
            counts[unit, place] += 1
    density = counts / len(fit[FEATURES]) * d.bins
    scores = []
    for x, z in zip(rows[FEATURES], rows["logits"], strict=True):
        covered = [min(density[u, b], d.r) / d.r for u, b in enumerate(bins_of(x, z))]
        scores.append(-np.mean(covered))
    return np.array(scores)
