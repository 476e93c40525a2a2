"""Densities of several radial flows at once, from inner products alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FLOOR = 1e-24  # of a squared distance: a root has no gradient at 0


def radial_log_density(rows: Tensor, centres: Tensor, alpha: Tensor, gamma: Tensor) -> Tensor:
    """Log density of rows under F flows of L radial transforms each, over a standard Gaussian.

    Rezende & Mohamed 2015, arXiv:1505.05770, eq. (14): ``f(z) = z + β·h·(z − z₀)``,
    ``h = 1/(α + r)``, ``r = ‖z − z₀‖``, with β = −α + γ, which is invertible for γ > 0
    (appendix A.2). With γ the determinant is a product of positive numbers, so that nothing
    cancels: ``((r+γ)/(r+α))^(H−1) · (r² + 2αr + αγ)/(r+α)²``.

    Departures: f takes the rows to the Gaussian, as in posterior networks, where the paper takes
    the Gaussian to the rows, because a density needs f in this direction and its inverse has no
    short form. And f(z) = (1+βh)·z − βh·z₀ stays a combination of the row and the centres, so its
    norm and its distances follow from inner products: no (N, F, H) array is made.

    Args:
        rows: (N, H) float64.
        centres: (L, F, H) float64, the z₀ in the order in which they are applied.
        alpha: (L, F) float64 > 0.
        gamma: (L, F) float64 > 0; γ = α leaves a row where it is.

    Returns:
        (N, F) float64, nats; finite for every finite row whose square is.
    """
    width = rows.shape[1]
    gram = torch.einsum("lfh,mfh->lmf", centres, centres).unsqueeze(3)  # (L, L, F, 1)
    products = centres @ rows.mT  # (L, F, N), of z with the centres that are still to come
    square = rows.square().sum(dim=1).expand(products.shape[1:])  # (F, N), of z
    log_det = torch.zeros_like(square)
    for step, (a, c) in enumerate(zip(alpha.unsqueeze(2), gamma.unsqueeze(2), strict=True)):
        own, after = products[0], gram[step, step + 1 :]
        r = (square - 2 * own + gram[step, step]).clamp(min=_FLOOR).sqrt()
        outer = r + a
        scale, shift = (r + c) / outer, (c - a) / outer  # 1 + βh and βh
        along = (r * (r + 2 * a) + a * c) / outer**2
        log_det = log_det + (width - 1) * scale.log() + along.log()
        square = scale**2 * square - 2 * scale * shift * own + shift**2 * gram[step, step]
        products = scale * products[1:] - shift * after
    return (log_det - 0.5 * (square + width * math.log(2 * math.pi))).mT
