"""Slow formulas of detectors that split features by the classes."""

import math

import numpy as np
import torch
from safetensors.numpy import load_file

from latentood.testing.formulas import softmax
from tests.references.registry import reference


@reference("wdiscood")
def wdiscood(d, fit, rows, same):
    h, y = fit[d.key], fit["labels"]
    mu = h.mean(axis=0)
    means = [h[y == c].mean(axis=0) for c in sorted(set(y.tolist()))]
    within = np.zeros((h.shape[1], h.shape[1]))
    for x, c in zip(h, np.searchsorted(sorted(set(y.tolist())), y), strict=True):
        within += np.outer(x - means[c], x - means[c]) / len(h)
    within += d.ridge * np.trace(within) / len(within) * np.eye(len(within))
    values, vectors = np.linalg.eigh(within)
    white = vectors @ np.diag(values**-0.5) @ vectors.T  # symmetric, as in the paper
    between = [white @ (m - mu) for m in means]
    _, spread, axes = np.linalg.svd(np.array(between))
    dim = d.dim or int((spread > 1e-9 * max(1.0, spread[0])).sum())
    differ = axes[:dim]
    scores = []
    for x in rows[d.key]:
        w = white @ (x - mu)
        nearest = min(math.sqrt(((differ @ (w - m)) ** 2).sum()) for m in between)
        rest = w - differ.T @ (differ @ w)
        scores.append(nearest + d.alpha * np.linalg.norm(rest))
    return np.array(scores)


@reference("she")
def she(d, fit, rows, same):
    h, y, predicted = fit[d.key], fit["labels"], fit["logits"].argmax(axis=1)
    patterns = []
    for c in range(fit["logits"].shape[1]):
        correct, own = h[(y == c) & (predicted == c)], h[y == c]
        chosen = correct if len(correct) else own if len(own) else h
        patterns.append(chosen.mean(axis=0))
    scores = []
    for x, z in zip(rows[d.key], rows["logits"], strict=True):
        s = patterns[int(z.argmax())]
        match d.similarity:
            case "inner":
                scores.append(-(x @ s))
            case "cosine":
                scores.append(-(x @ s) / (np.linalg.norm(x) * np.linalg.norm(s)))
            case "euclidean":
                scores.append(np.linalg.norm(x - s))
    return np.array(scores)


@reference("prototype_distance")
def prototype_distance(d, fit, rows, same):
    return np.array([min(row) for row in rows[f"distance/{d.head}"]])


@reference("neglabel")
def neglabel(d, fit, rows, same):
    texts = load_file(d.texts)
    known, words = (
        [x / np.linalg.norm(x) for x in texts[name].astype(np.float64)]
        for name in ("id", "negative")
    )
    likeness = [np.quantile([word @ label for label in known], d.quantile) for word in words]
    count = max(1, int(d.kept * len(words)))
    negative = [words[i] for i in np.argsort(likeness, kind="stable")[:count]]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(d.seed)).tolist()
    groups = min(d.groups, count)
    size = count // groups
    scores = []
    for x in rows[d.key]:
        x = x / np.linalg.norm(x)
        shares = []
        for g in range(groups):
            own = [negative[i] for i in order[g * size : (g + 1) * size]]
            p = softmax(np.array([x @ text for text in [*known, *own]]) / d.temperature)
            shares.append(p[: len(known)].sum())
        scores.append(-np.mean(shares))
    return np.array(scores)
