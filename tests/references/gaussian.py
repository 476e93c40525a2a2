"""Slow formulas of detectors that fit Gaussians, one alone or several in a mixture."""

import math

import numpy as np
from sklearn.mixture import GaussianMixture

from latentood.testing.formulas import logsumexp, ridged, squared_distance
from tests.references.registry import REFERENCES, reference


def unit(x: np.ndarray) -> np.ndarray:
    return x / (np.linalg.norm(x) + 1e-10)


def covariance_of(h: np.ndarray, divisor: int) -> np.ndarray:
    mu = h.mean(axis=0)
    return sum(np.outer(x - mu, x - mu) for x in h) / divisor


def log_normal(x: np.ndarray, mu: np.ndarray, cov: np.ndarray) -> float:
    _, log_det = np.linalg.slogdet(cov)
    distance = squared_distance(x, mu, cov)
    return -0.5 * (distance + log_det + len(x) * math.log(2 * math.pi))


@reference("ssd")
def ssd(d, fit, rows, same):
    h, queries = fit[d.key], rows[d.key]
    if d.normalise:
        h, queries = (np.array([unit(x) for x in each]) for each in (h, queries))
    cov = ridged(covariance_of(h, len(h)), d.ridge)
    return np.array([squared_distance(x, h.mean(axis=0), cov) for x in queries])


@reference("mahalanobis_layers")
def mahalanobis_layers(d, fit, rows, same):
    total = np.zeros(len(rows["labels"]))
    for number, distance in enumerate(d.distances):
        scores = REFERENCES["mahalanobis"](distance, fit, rows, same)
        match d.fusion:
            case "uniform":
                total += scores
            case "weighted":
                total += d.alpha[number] * scores
            case "standardised":
                usual = REFERENCES["mahalanobis"](distance, fit, fit["val"], False)
                total += (scores - usual.mean()) / usual.std()
    return total


@reference("ddu")
def ddu(d, fit, rows, same):
    h, y = fit[d.key], fit["labels"]
    groups = [h[y == c] for c in sorted(set(y.tolist()))]
    width = h.shape[1]
    covs = [covariance_of(own, max(1, len(own) - d.unbiased)) for own in groups]
    mean_variance = sum(len(own) * np.trace(cov) for own, cov in zip(groups, covs, strict=True))
    mean_variance /= len(h) * width
    if min(np.linalg.matrix_rank(cov, hermitian=True) for cov in covs) < width:
        covs = [cov + d.jitter * mean_variance * np.eye(width) for cov in covs]
    scores = []
    for x in rows[d.key]:
        logs = [
            log_normal(x, own.mean(axis=0), cov) + d.priors * math.log(len(own) / len(h))
            for own, cov in zip(groups, covs, strict=True)
        ]
        scores.append(-logsumexp(np.array(logs)))
    return np.array(scores)


def form_of_covariance(d, h: np.ndarray) -> str:
    """What the rows suffice for: 10 per component and dimension, or 4 per dimension."""
    if d.covariance != "auto":
        return d.covariance
    by_dimension = len(h) / h.shape[1]
    return (
        "full"
        if by_dimension >= 10 * d.components
        else "principal"
        if by_dimension >= 4
        else "diag"
    )


def mixture(d, h: np.ndarray, queries: np.ndarray, along_axes: bool = False) -> np.ndarray:
    """Densities under the mixture that scikit-learn fits to rows, one row and component each.

    Rows that lie along principal axes already need not be turned.
    """
    form = form_of_covariance(d, h)
    if form == "principal" and along_axes:
        form = "diag"
    if form == "principal":
        _, axes = np.linalg.eigh(covariance_of(h, len(h)))
        h, queries, form = h @ axes[:, ::-1], queries @ axes[:, ::-1], "diag"
    ridge = d.ridge * float(h.var(axis=0).mean())
    model = GaussianMixture(
        d.components,
        covariance_type=form,
        reg_covar=ridge,
        max_iter=d.iterations,
        tol=d.tolerance * h.shape[1],
        n_init=d.restarts,
        random_state=d.seed,
    ).fit(h)
    width = h.shape[1]
    scores = []
    for x in queries:
        logs = []
        for k in range(d.components):
            cov = {
                "full": lambda k: model.covariances_[k],
                "tied": lambda _: model.covariances_,
                "diag": lambda k: np.diag(model.covariances_[k]),
                "spherical": lambda k: model.covariances_[k] * np.eye(width),
            }[form](k)
            logs.append(math.log(model.weights_[k]) + log_normal(x, model.means_[k], cov))
        scores.append(-logsumexp(np.array(logs)))
    return np.array(scores)


def standardised(h: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mu, sigma = h.mean(axis=0), h.std(axis=0)
    sigma[sigma < 1e-12] = 1.0
    return (h - mu) / sigma, (queries - mu) / sigma


@reference("gmm")
def gmm(d, fit, rows, same):
    h, queries = fit[d.key], rows[d.key]
    return mixture(d, *(standardised(h, queries) if d.standardise else (h, queries)))


def tied_gaussian(h: np.ndarray, y: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    means, cov = [], np.zeros((h.shape[1], h.shape[1]))
    for c in sorted(set(y.tolist())):
        own = h[y == c]
        mu = own.mean(axis=0)
        means.append(mu)
        for x in own:
            cov += np.outer(x - mu, x - mu)
    return means, cov / len(h)


@reference("mahalanobis")
def mahalanobis(d, fit, rows, same):
    means, cov = tied_gaussian(fit[d.key], fit["labels"])
    cov = ridged(cov, d.ridge)
    return np.array([min(squared_distance(x, mu, cov) for mu in means) for x in rows[d.key]])


@reference("rmd")
def rmd(d, fit, rows, same):
    h = fit[d.key]
    background = ridged(np.cov(h.T, bias=True).reshape(h.shape[1], -1), d.ridge)
    nearest = mahalanobis(d, fit, rows, same)
    overall = [squared_distance(x, h.mean(axis=0), background) for x in rows[d.key]]
    return nearest - np.array(overall)


def scaled(rows, beta):
    return np.array([x / np.linalg.norm(x) ** beta for x in rows])


def chosen_beta(d, fit):
    """The β whose scaled rows are likeliest, as densities of the rows before scaling."""
    if len(d.betas) == 1:
        return d.betas[0]
    h, y = fit["features/penultimate"], fit["labels"]
    width = h.shape[1]
    likelihoods = {}
    for beta in d.betas:
        rows = scaled(h, beta)
        centred = np.array([x - rows[y == c].mean(axis=0) for x, c in zip(rows, y, strict=True)])
        tied = centred.T @ centred / len(rows)
        tied = ridged(tied, 1e-6)
        total = 0.0
        for x in h:
            # of φ(h) = h/‖h‖^β: 1−β along h, 1 across it, all by ‖h‖^−β
            radius = np.linalg.norm(x)
            along = np.outer(x, x) / radius**2
            jacobian = radius**-beta * (np.eye(width) - beta * along)
            total += np.linalg.slogdet(jacobian)[1]
        likelihoods[beta] = total / len(h) - np.linalg.slogdet(tied)[1] / 2
    return max(likelihoods, key=likelihoods.get)


@reference("mahalanobis_radial")
def mahalanobis_radial(d, fit, rows, same):
    beta = chosen_beta(d, fit)
    h, y = scaled(fit[d.key], beta), fit["labels"]
    means = {c: h[y == c].mean(axis=0) for c in sorted(set(y.tolist()))}
    tied = sum(np.outer(x - means[c], x - means[c]) for x, c in zip(h, y, strict=True)) / len(h)
    tied = ridged(tied, d.ridge)
    return np.array(
        [
            min(squared_distance(x, m, tied) for m in means.values())
            for x in scaled(rows[d.key], beta)
        ]
    )
