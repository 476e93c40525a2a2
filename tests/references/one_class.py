"""Slow formulas of detectors whose borders scikit-learn fits: each row walked by hand."""

import math

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.svm import OneClassSVM

from tests.references.registry import reference


def mean_depth(n: int) -> float:
    """c(n) of Liu et al. 2008, eq. 1, with the harmonic number by Euler's constant above 2."""
    if n <= 2:
        return float(n == 2)
    return 2 * (math.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n


@reference("isolation_forest")
def isolation_forest(d, fit, rows, same):
    h = fit[d.key].astype(np.float32)
    size = min(d.subsample, len(h))
    forest = IsolationForest(n_estimators=d.trees, max_samples=size, random_state=d.seed).fit(h)
    trees = [
        (t.feature.tolist(), t.threshold.tolist(), t.children_left.tolist(),
         t.children_right.tolist(), t.n_node_samples.tolist())
        for t in (estimator.tree_ for estimator in forest.estimators_)
    ]  # fmt: skip
    scores = []
    for x in rows[d.key].astype(np.float32).tolist():
        lengths = []
        for feature, threshold, left, right, count in trees:
            node, depth = 0, 0
            while left[node] >= 0:
                node = left[node] if x[feature[node]] <= threshold[node] else right[node]
                depth += 1
            lengths.append(depth + mean_depth(count[node]))
        scores.append(2 ** (-np.mean(lengths) / mean_depth(size)))
    return np.array(scores)


@reference("one_class_svm")
def one_class_svm(d, fit, rows, same):
    h = fit[d.key]
    assert len(h) <= d.rows, "the formula takes all rows"
    gamma = d.gamma or 1 / (h.shape[1] * h.var())
    model = OneClassSVM(gamma=gamma, nu=d.nu, tol=d.tolerance).fit(h)
    pairs = list(zip(model.dual_coef_[0], model.support_vectors_, strict=True))
    return np.array(
        [-sum(a * math.exp(-gamma * ((x - s) ** 2).sum()) for a, s in pairs) for x in rows[d.key]]
    )
