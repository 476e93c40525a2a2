"""Slow formulas of losses under a Dirichlet distribution, as they stand in the papers."""

import math

from scipy.special import digamma, gammaln


def concentrations(z, evidence: str, reconcile: str = "none", R=None) -> list[float]:
    """α = e + 1 of logits z (C,)."""
    function = {
        "relu": lambda v: max(0.0, v),
        "softplus": lambda v: math.log1p(math.exp(v)),
        "exp": math.exp,
    }[evidence]
    e = [function(float(v)) for v in z]
    taken = {"none": 0.0, "min": 1.0}.get(reconcile)
    if taken is None:
        taken = 1 / (1 + math.exp(-sum(float(r) * v for r, v in zip(R, e, strict=True))))
    return [v - taken * min(e) + 1 for v in e]


def divergence(a, b) -> float:
    """KL(Dir(a) ‖ Dir(b))."""
    a0, b0 = sum(a), sum(b)
    total = gammaln(a0) - gammaln(b0)
    for x, y in zip(a, b, strict=True):
        total += gammaln(y) - gammaln(x) + (x - y) * (digamma(x) - digamma(a0))
    return float(total)


def risk(alpha, label: int, kind: str) -> float:
    """Sensoy et al. 2018, eq. 3, 4 and 5, for a one-hot y."""
    S = sum(alpha)
    total = 0.0
    for k, a in enumerate(alpha):
        y, p = float(k == label), a / S
        match kind:
            case "ml":
                total += y * (math.log(S) - math.log(a))
            case "digamma":
                total += y * float(digamma(S) - digamma(a))
            case "squared":
                total += (y - p) ** 2 + p * (1 - p) / (S + 1)
    return total


def evidential(logits, labels, evidence, kind, kl, reconcile="none", R=None) -> float:
    """Mean over rows of the risk and kl·KL(Dir(α̃) ‖ Dir(1, …, 1))."""
    total = 0.0
    for z, label in zip(logits, labels, strict=True):
        alpha = concentrations(z, evidence, reconcile, R)
        without = [1.0 if k == label else a for k, a in enumerate(alpha)]
        total += risk(alpha, label, kind) + kl * divergence(without, [1.0] * len(alpha))
    return total / len(labels)


def prior(logits, labels, outliers, direction, beta, gamma, epsilon=0.0) -> float:
    """Malinin and Gales 2018 (forward, targets of mean 1−(C−1)ε and ε) and 2019 (reverse)."""

    def loss(z, target):
        alpha = [math.exp(float(v)) for v in z]
        return divergence(alpha, target) if direction == "reverse" else divergence(target, alpha)

    classes = len(logits[0])
    inside = outside = 0.0
    for z, label in zip(logits, labels, strict=True):
        if epsilon:
            means = [1 - (classes - 1) * epsilon if k == label else epsilon for k in range(classes)]
            target = [mean * (beta + classes) for mean in means]
        else:
            target = [beta + 1 if k == label else 1.0 for k in range(classes)]
        inside += loss(z, target)
    for z in outliers:
        outside += loss(z, [1.0] * classes)
    return inside / len(logits) + gamma * outside / len(outliers)
