"""Slow, obvious formulas of the score taps: a loop over rows, plain autograd, no shared code.

The network is taken apart by hand: ``body`` gives the last map, ``tail`` the logits of a map.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

REFERENCES: dict[str, Callable[..., float]] = {}


def reference(name: str) -> Callable[[Callable[..., float]], Callable[..., float]]:
    """Register the formula of a tap: (tap, net, one row (1, …), fit) → score."""

    def register(formula: Callable[..., float]) -> Callable[..., float]:
        REFERENCES[name] = formula
        return formula

    return register


def body(net, x):
    """The last map of a ReluTail network."""
    return F.relu(net.bn(net.conv1(x)))


def tail(net, second):
    return net.fc(pooled(second))


def pooled(second):
    """The input of the head, from the output of the second convolution."""
    return F.relu(second).mean(dim=(2, 3))


def penultimate(net, x):
    return pooled(net.conv2(body(net, x)))


def slope(value: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Gradient of a number with respect to one row."""
    leaf = x.clone().requires_grad_()
    value(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


def step(tap, x, direction):
    out = x.clone()
    for channel in range(x.shape[1]):
        unit = tap.std[channel] if tap.std else 1.0
        out[:, channel] += tap.epsilon * direction[:, channel] / unit
    return out


def log_confidence(tap, net, x):
    z = net(x)[0] / tap.temperature
    return z[z.argmax()] - torch.logsumexp(z, dim=0)


@reference("odin")
def odin(tap, net, x, fit):
    loss = slope(lambda x: -log_confidence(tap, net, x), x)
    return -math.exp(log_confidence(tap, net, step(tap, x, -torch.sign(loss))))


@reference("iodin")
def iodin(tap, net, x, fit):
    loss = slope(lambda x: -log_confidence(tap, net, x), x)
    places = sorted(range(loss.numel()), key=lambda i: -abs(float(loss.flatten()[i])))
    direction = torch.zeros(loss.numel(), dtype=loss.dtype)
    for place in places[: tap.values]:
        direction[place] = -math.copysign(1.0, float(loss.flatten()[place]))
    return -math.exp(log_confidence(tap, net, step(tap, x, direction.view_as(x))))


def gaussian(tap, fit: Mapping[str, Any]):
    h, y = fit["features"], fit["labels"]
    means = {int(c): h[y == c].mean(dim=0) for c in y.unique()}
    scatter = torch.zeros(h.shape[1], h.shape[1], dtype=h.dtype)
    for row, label in zip(h, y, strict=True):
        scatter += torch.outer(row - means[int(label)], row - means[int(label)])
    covariance = scatter / len(h)
    ridge = tap.ridge * float(covariance.trace()) / h.shape[1]
    return means, torch.linalg.inv(covariance + ridge * torch.eye(h.shape[1], dtype=h.dtype))


@reference("mahalanobis_perturbed")
def mahalanobis_perturbed(tap, net, x, fit):
    means, precision = gaussian(tap, fit)

    def distance(x):
        h = penultimate(net, x)[0]
        return min((h - mean) @ precision @ (h - mean) for mean in means.values())

    moved = step(tap, x, -torch.sign(slope(distance, x)))
    return float(distance(moved))


@reference("rankfeat")
def rankfeat(tap, net, x, fit):
    second = net.conv2(body(net, x))
    matrix = second[0].flatten(1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    matrix = matrix - values[0] * torch.outer(left[:, 0], right[0])
    return -float(torch.logsumexp(tail(net, matrix.view_as(second[0])[None])[0], dim=0))


def shift_of(tap, net, x):
    """Activations and Q′ of a row."""
    gradient = slope(lambda x: net(x)[0].max(), x).flatten()
    quiet = sorted(range(len(gradient)), key=lambda i: abs(float(gradient[i])))
    direction = torch.zeros_like(gradient)
    for place in quiet[: max(1, int(len(gradient) * tap.moved_share))]:
        direction[place] = torch.sign(gradient[place])
    before = penultimate(net, x)[0]
    after = penultimate(net, step(tap, x, direction.view_as(x)))[0]
    order = sorted(range(len(before)), key=lambda i: -float(before[i]))
    few = order[: max(1, int(len(before) * tap.shift_share))]
    more = order[: max(1, int(len(before) * tap.correction_share))]
    shift = sum(abs(float(after[i] - before[i])) for i in few)
    return before, tap.weight * shift + sum(max(0.0, float(after[i])) for i in more)


@reference("adascale")
def adascale(tap, net, x, fit):
    a, q = shift_of(tap, net, x)
    shifts = [shift_of(tap, net, row[None])[1] for row in fit["inputs"]]
    below = sum(other <= q for other in shifts) / len(shifts)
    percentile = tap.low + (1 - below) * (tap.high - tap.low)
    largest = sorted((max(0.0, float(v)) for v in a), reverse=True)
    count = max(1, len(largest) - round(len(largest) * percentile / 100))
    ratio = sum(largest) / sum(largest[:count])
    if tap.scaled == "logits":
        return -float(torch.logsumexp(net.fc(a) * ratio**2, dim=0))
    return -float(torch.logsumexp(net.fc(a * math.exp(ratio)), dim=0))


def prototype_slope(h, means, ood, label):
    """Gradient of the prototype loss with respect to the OOD prototype, by autograd."""
    leaf = ood.clone().requires_grad_()
    distances = [-torch.linalg.vector_norm(h - mean) for mean in means]
    scores = torch.stack([*distances, -torch.linalg.vector_norm(h - leaf)])
    F.cross_entropy(scores[None], torch.tensor([label])).backward()
    return leaf.grad


@reference("grood")
def grood(tap, net, x, fit):
    h, y, z = fit["features"], fit["labels"], fit["logits"]
    means = [h[y == c].mean(dim=0) for c in range(4)]
    generator = torch.Generator().manual_seed(tap.seed)
    noise = torch.randn(tap.samples, *x.shape[1:], generator=generator).to(x)
    ood = torch.stack([penultimate(net, row[None])[0] for row in noise]).mean(dim=0)
    kept = [i for i in range(len(h)) if int((i + 1) * tap.share) > int(i * tap.share)]
    right = [i for i in kept if int(z[i].argmax()) == int(y[i])]
    bank = [prototype_slope(h[i], means, ood, int(y[i])) for i in right]
    slope = prototype_slope(penultimate(net, x)[0], means, ood, int(net(x).argmax()))
    distances = sorted(float(torch.linalg.vector_norm(slope - other)) for other in bank)
    return distances[tap.k - 1]
