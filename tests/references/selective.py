"""Slow formulas of selective prediction and of detection at thresholds, from their definitions."""

from itertools import pairwise

import numpy as np
from scipy.integrate import quad


def detection_error(ids, oods):
    thresholds = [*ids, *oods, np.inf]
    return min((np.mean(oods < t) + np.mean(ids >= t)) / 2 for t in thresholds)


def autc(ids, oods):
    """Areas under FPR and FNR over the thresholds of [0, 1], step by step."""
    both = np.concatenate([ids, oods])
    low, high = both.min(), both.max()
    if low == high:
        return 0.5
    ids, oods = (ids - low) / (high - low), (oods - low) / (high - low)
    steps = np.unique(np.concatenate([ids, oods]))
    area = 0.0
    for left, right in pairwise(steps):
        inside = (left + right) / 2
        area += (right - left) * (np.mean(ids >= inside) + np.mean(oods < inside)) / 2
    return area


def errors_at(coverage, scores, right, weights):
    """Accepted errors, as a share of all weight; rows of equal score are accepted in parts."""
    whole, accepted, errors = sum(weights), 0.0, 0.0
    for score in sorted(set(scores)):
        same = [n for n, one in enumerate(scores) if one == score]
        width = sum(weights[n] for n in same) / whole
        wrong = sum(weights[n] for n in same if not right[n]) / whole
        part = min(max(coverage - accepted, 0.0) / width, 1.0)
        accepted, errors = accepted + width, errors + part * wrong
    return errors


def aurc(scores, right, weights):
    """The risk integrated over the coverage, piece by piece."""
    shares = [sum(w for s, w in zip(scores, weights, strict=True) if s <= t) for t in set(scores)]
    ends = [0.0, *sorted(share / sum(weights) for share in shares)]
    return sum(
        quad(lambda c: errors_at(c, scores, right, weights) / c, left, end, epsabs=1e-12)[0]
        for left, end in pairwise(ends)
    )


def aurc_of_the_paper(scores, right):
    """The mean risk at n coverages; of rows of equal score each has their mean loss."""
    risks, errors = [], 0.0
    for accepted, score in enumerate(sorted(scores), start=1):
        same = [not r for s, r in zip(scores, right, strict=True) if s == score]
        errors += sum(same) / len(same)
        risks.append(errors / accepted)
    return sum(risks) / len(risks)


def augrc(scores, right, weights):
    """The chance that a row is wrong and accepted at the threshold of another one."""
    whole = sum(weights)
    area = 0.0
    for threshold, weight in zip(scores, weights, strict=True):
        for score, one, other in zip(scores, right, weights, strict=True):
            if not one:
                area += weight * other * ((score < threshold) + (score == threshold) / 2)
    return area / whole**2
