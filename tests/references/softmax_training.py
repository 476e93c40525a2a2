"""Losses of networks that end in a softmax, one number at a time."""

import math

import numpy as np


def log_softmax(z):
    largest = max(z)
    total = sum(math.exp(value - largest) for value in z)
    return [value - largest - math.log(total) for value in z]


def cross_entropy(logits, labels, smoothing=0.0):
    """Szegedy et al. 2016, sec. 7: labels (1−s)·δ + s/C."""
    total = 0.0
    for z, y in zip(logits, labels, strict=True):
        log_p = log_softmax(z)
        for k in range(len(z)):
            target = smoothing / len(z) + (1 - smoothing if k == y else 0.0)
            total -= target * log_p[k]
    return total / len(logits)


def logit_norm(logits, labels, tau):
    """Wei et al. 2022, eq. 4."""
    scaled = []
    for z in logits:
        norm = math.sqrt(sum(value**2 for value in z))
        scaled.append([value / (tau * norm) for value in z])
    return cross_entropy(scaled, labels)


def outlier_exposure(logits, labels, outliers, weight):
    """Hendrycks et al. 2019, sec. 4.3."""
    total = 0.0
    for z in outliers:
        total -= sum(log_p / len(z) for log_p in log_softmax(z))
    return cross_entropy(logits, labels) + weight * total / len(outliers)


def weighted_energy(z, w):
    """Du et al. 2022, sec. 3.2: −log Σ_k w_k·exp(f_k)."""
    return -math.log(sum(w[k] * math.exp(z[k]) for k in range(len(z))))


def uncertainty_loss(known, unknown, slope, offset):
    """Du et al. 2022, sec. 3.2, of energies, with φ(E) = slope·E + offset."""
    outliers = [-math.log(1 / (1 + math.exp(-(slope * e + offset)))) for e in unknown]
    inliers = []
    for e in known:
        likelihood = math.exp(-(slope * e + offset))
        inliers.append(-math.log(likelihood / (1 + likelihood)))
    return sum(outliers) / len(outliers) + sum(inliers) / len(inliers)


def tied_gaussians(rows, labels):
    """Du et al. 2022, sec. 3.1: the mean of each class and the covariance within all."""
    rows, labels = np.asarray(rows), np.asarray(labels)
    means = {y: rows[labels == y].mean(axis=0) for y in sorted(set(labels.tolist()))}
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    for row, y in zip(rows, labels.tolist(), strict=True):
        covariance += np.outer(row - means[y], row - means[y]) / len(rows)
    return np.array(list(means.values())), covariance


def least_likely(means, covariance, candidates, rng):
    """Du et al. 2022, sec. 3.1, with t = 1: of each class the draw of lowest density."""
    inverse = np.linalg.inv(covariance)
    kept = []
    for mean in means:
        draws = rng.multivariate_normal(mean, covariance, candidates)
        distances = [(d - mean) @ inverse @ (d - mean) for d in draws]
        kept.append(draws[int(np.argmax(distances))])
    return np.array(kept)


def pixel_cross_entropy(logits, targets, ignored):
    """Mean of −log p_y over the pixels of (B, C, H, W) that count."""
    total, count = 0.0, 0
    for image, mask in zip(logits, targets, strict=True):
        for i in range(mask.shape[0]):
            for j in range(mask.shape[1]):
                if mask[i, j] != ignored:
                    total -= log_softmax(list(image[:, i, j]))[int(mask[i, j])]
                    count += 1
    return total / count
