"""Slow formulas of intervals and paired tests of independent rows, one pair or row at a time."""

from math import sqrt
from statistics import NormalDist

import numpy as np
from scipy.stats import beta, t


def placements(ids, oods):
    """Share of OOD rows above each ID row, and of ID rows below each OOD row; ties one half."""
    x, y = np.asarray(ids)[None, :], np.asarray(oods)[:, None]
    beats = (y > x) + 0.5 * (y == x)
    return beats.mean(axis=0), beats.mean(axis=1)


def delong_covariance(ids, sets):
    """Structural components of DeLong et al. 1988 of OOD sets that share ID rows."""
    parts = [placements(ids, oods) for oods in sets]
    covariance = np.zeros((len(sets), len(sets)))
    for s, (left, own) in enumerate(parts):
        for other, (right, _) in enumerate(parts):
            products = (left - left.mean()) * (right - right.mean())
            covariance[s, other] = products.sum() / (len(ids) - 1) / len(ids)
        covariance[s, s] += own.var(ddof=1) / len(own)
    return covariance


def auroc_interval(ids, oods, level=0.95):
    """Wilson and Jeffreys intervals of as many trials as the placements are worth."""
    sides = placements(ids, oods)
    v = sides[0].mean()
    parts, sizes = [], []
    for side in sides:
        r = len(side)
        kappa = (side.var(ddof=1) + 0.25 / r) / (v * (1 - v) + 0.5 / r)
        parts.append(kappa / r)
        sizes.append(r)
    freedom = sum(parts) ** 2 / sum(p**2 / (r - 1) for p, r in zip(parts, sizes, strict=True))
    return share_interval(v, 1 / sum(parts), freedom, level)


def share_interval(v, trials, freedom, level=0.95):
    tail = (1 - level) / 2
    z = NormalDist().inv_cdf(1 - tail)
    n = trials * (z / t.ppf(1 - tail, freedom)) ** 2
    root = z * sqrt(v * (1 - v) / n + z**2 / (4 * n**2))
    wilson = [(v + z**2 / (2 * n) + sign * root) / (1 + z**2 / n) for sign in (-1, 1)]
    jeffreys = beta.ppf([tail, 1 - tail], v * n + 0.5, (1 - v) * n + 0.5)
    return max(min(wilson[0], jeffreys[0]), 0), min(max(wilson[1], jeffreys[1]), 1)


def paired_auroc(ids, sets):
    """Mean AUROC of detectors, errors of their differences and degrees of freedom."""
    number, many = len(ids), len(sets)
    values = np.zeros(number)
    errors, freedom = np.zeros((number, number)), np.zeros((number, number))
    parts = [[placements(ids[d], oods[d]) for oods in sets] for d in range(number)]
    for a in range(number):
        values[a] = np.mean([own.mean() for _, own in parts[a]])
        for b in range(number):
            passed = sum(parts[a][s][0] - parts[b][s][0] for s in range(many)) / many
            n = len(passed)
            terms = [(passed.var(ddof=1) / n + 0.1 / n**2, n - 1)]
            for s in range(many):
                gap = parts[a][s][1] - parts[b][s][1]
                m = len(gap)
                terms.append(((gap.var(ddof=1) / m + 0.1 / m**2) / many**2, m - 1))
            total = sum(term for term, _ in terms)
            errors[a, b] = sqrt(total)
            freedom[a, b] = total**2 / sum(term**2 / left for term, left in terms)
    return values, errors, freedom


def holm(p_values):
    """Reject the smallest while it is at most level/(tests left): the least such level of each."""
    left = sorted(range(len(p_values)), key=lambda one: p_values[one])
    adjusted, least = {}, 0.0
    for step, one in enumerate(left):
        least = max(least, p_values[one] * (len(left) - step))
        adjusted[one] = min(least, 1.0)
    return [adjusted[one] for one in range(len(p_values))]
