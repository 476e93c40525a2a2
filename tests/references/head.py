"""Slow formulas of detectors that read features by the geometry of the head."""

import math

import numpy as np

from latentood.testing.formulas import logsumexp, softmax
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


@reference("weiper")
def weiper(d, fit, rows, same):
    weight, bias = fit["head"]
    noise = np.random.RandomState(d.seed).standard_normal((d.repeats, *weight.shape))
    heads = []
    for drawn in noise:
        perturbed = [
            w + d.distance * np.linalg.norm(w) * e / np.linalg.norm(e)
            for w, e in zip(weight, drawn, strict=True)
        ]
        heads.append(np.array(perturbed))

    def projections(x):
        return np.array([head @ x + bias for head in heads])  # (repeats, classes)

    every = [(x, projections(x).ravel()) for x in fit[FEATURES]]
    both = zip(*every, strict=True)
    spans = [(min(v.min() for v in one), max(v.max() for v in one)) for one in both]

    def histogram(values, span):
        low, high = span
        counts = np.zeros(d.bins)
        for value in values:
            place = (value - low) / (high - low) * d.bins
            if -1e-9 <= place <= d.bins + 1e-9:
                counts[min(d.bins - 1, int(place + 1e-9))] += 1
        return counts / len(values)

    def smoothed(shares, width):
        before = (width - 1) // 2
        places = [range(i - before, i - before + width) for i in range(d.bins)]
        return np.array([np.mean([shares[min(max(j, 0), d.bins - 1)] for j in p]) for p in places])

    def divergence(mean, own, epsilon):
        p, q = (mean + epsilon) / (mean + epsilon).sum(), (own + epsilon) / (own + epsilon).sum()
        return sum(a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True))

    means = [np.mean([histogram(one[i], spans[i]) for one in every], axis=0) for i in (0, 1)]
    widths = (d.smoothing, d.smoothing_perturbed)
    scores = []
    for x in rows[FEATURES]:
        z = projections(x)
        own, perturbed = (
            divergence(means[i], smoothed(histogram(v, spans[i]), widths[i]), d.epsilon[i])
            for i, v in enumerate((x, z.ravel()))
        )
        confidence = np.mean([softmax(one).max() for one in z])
        scores.append(own + d.lambda_1 * perturbed - d.lambda_2 * confidence)
    return np.array(scores)


@reference("core")
def core(d, fit, rows, same):
    weight = fit["head"][0]
    h, y, z = fit[FEATURES], fit["labels"], fit["logits"]
    residuals = []
    for c, w in enumerate(weight):
        own, correct = h[y == c], h[(y == c) & (z.argmax(axis=1) == c)]
        mean = (correct if len(correct) else own if len(own) else h).mean(axis=0)
        residuals.append(mean - (mean @ w) / (w @ w) * w)

    def signals(x, logits):
        c = int(logits.argmax())
        residual = x - (x @ weight[c]) / (weight[c] @ weight[c]) * weight[c]
        lengths = np.linalg.norm(residual) * np.linalg.norm(residuals[c])
        return logsumexp(logits), residual @ residuals[c] / lengths

    known = np.array([signals(x, logits) for x, logits in zip(h, z, strict=True)])
    scores = []
    for x, logits in zip(rows[FEATURES], rows["logits"], strict=True):
        standard = (np.array(signals(x, logits)) - known.mean(axis=0)) / known.std(axis=0)
        scores.append(-standard.sum())
    return np.array(scores)
