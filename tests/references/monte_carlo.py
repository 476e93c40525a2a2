"""Slow formulas of detectors that read the spread of T passes."""

from itertools import combinations

import numpy as np

from latentood.testing.formulas import shannon, softmax
from tests.references.registry import reference


@reference("mcd_msp")
def mcd_msp(d, fit, rows, same):
    return np.array(
        [-max(np.mean([softmax(z) for z in passes], axis=0)) for passes in rows["mc.logits"]]
    )


@reference("expected_entropy")
def expected_entropy(d, fit, rows, same):
    return np.array(
        [np.mean([shannon(softmax(z)) for z in passes]) for passes in rows["mc.logits"]]
    )


def votes(passes: np.ndarray) -> list[int]:
    return [int(z.argmax()) for z in passes]


@reference("variation_ratio")
def variation_ratio(d, fit, rows, same):
    ballots = [votes(passes) for passes in rows["mc.logits"]]
    return np.array([1 - max(b.count(c) for c in b) / len(b) for b in ballots])


@reference("disagreement")
def disagreement(d, fit, rows, same):
    ballots = [votes(passes) for passes in rows["mc.logits"]]
    return np.array([np.mean([a != c for a, c in combinations(b, 2)]) for b in ballots])


def variances(passes: np.ndarray) -> np.ndarray:
    """Variance of every dimension over the passes, (D,)."""
    mean = passes.mean(axis=0)
    return sum((p - mean) ** 2 for p in passes) / len(passes)


@reference("mcd_feature_variance")
def mcd_feature_variance(d, fit, rows, same):
    usual = 1.0
    if d.standardise:
        usual = np.mean([variances(passes) for passes in fit[d.key]], axis=0)
        usual = usual + d.ridge * usual.mean()
    return np.array([np.mean(variances(passes) / usual) for passes in rows[d.key]])


@reference("mcd_variance")
def mcd_variance(d, fit, rows, same):
    scores = []
    for passes in rows["mc.logits"]:
        p = np.array([softmax(z) for z in passes])  # (T, C)
        mean = p.sum(axis=0) / len(p)
        scores.append(
            np.mean([((p[:, c] - mean[c]) ** 2).sum() / len(p) for c in range(len(mean))])
        )
    return np.array(scores)


@reference("predictive_entropy")
def predictive_entropy(d, fit, rows, same):
    return np.array(
        [shannon(np.mean([softmax(z) for z in passes], axis=0)) for passes in rows["mc.logits"]]
    )


@reference("mutual_information")
def mutual_information(d, fit, rows, same):
    expected = [np.mean([shannon(softmax(z)) for z in passes]) for passes in rows["mc.logits"]]
    return np.maximum(predictive_entropy(d, fit, rows, same) - np.array(expected), 0.0)
