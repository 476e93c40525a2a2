"""How far classes have collapsed to their means, and how many directions a covariance fills.

V. Papyan, X. Y. Han, D. L. Donoho, "Prevalence of neural collapse during the terminal phase of
deep learning training", PNAS 117(40), 2020, arXiv:2008.08186: NC1 to NC3 as its section "Results"
measures them, on class means that are centred on their own mean. The paper's classes are of equal
size, where that mean is the mean of all rows too; here classes may differ in size, and a simplex
stays one.

O. Roy, M. Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentood.stats.linalg import EPSILON, lengths

_ROWS = 1024  # class means that are compared with all others at a time


def centred_means(means: Tensor) -> Tensor:
    """Subtract the mean of the class means: (C, D) → (C, D)."""
    return means - means.mean(dim=0)


def between_whitener(centred: Tensor) -> Tensor:
    """Give A (D, r) with ``A·Aᵀ = Σ_B⁺``, for Σ_B = MᵀM/C of the centred class means M (C, D).

    NC1 is then the mean over rows of ``‖(h − μ_y)·A‖²/C``, which is tr(Σ_W Σ_B⁺)/C: rows can stream
    by, and no (D, D) matrix is inverted. Directions in which the means differ by rounding alone
    are left out; r is 0 where all means are equal.
    """
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = sizes.square() > EPSILON * max(centred.shape) * sizes[0].square()
    whitener: Tensor = directions[kept].mT * (len(centred) ** 0.5 / sizes[kept])
    return whitener


def norm_inequality(centred: Tensor) -> float:
    """NC2, equal norms: standard deviation of ‖μ_c − μ‖ by their mean, ≥ 0; 0 is collapsed.

    The deviation divides by C, where the authors' code divides by C − 1.
    """
    norms = lengths(centred)
    return float(norms.std(correction=0) / norms.mean())


def angle_inequality(centred: Tensor) -> tuple[float, float]:
    """NC2, equal and largest angles: of the cosines between centred means (C, D), C ≥ 2.

    Returns:
        Their standard deviation over pairs of different classes, and the mean of
        |cos + 1/(C − 1)|, how far they are from those of a simplex; ≥ 0, and 0 is collapsed.
    """
    classes = len(centred)
    unit = centred / lengths(centred).clamp(min=EPSILON).unsqueeze(1)
    pairs = classes * (classes - 1)
    # Cosines are at most 1, and so many that two sums of squares would cancel only at rounding.
    mean = float(unit.sum(dim=0).square().sum() - unit.square().sum()) / pairs
    squares = gaps = 0.0
    for start in range(0, classes, _ROWS):
        part = unit[start : start + _ROWS]
        cosines = part @ unit.mT
        other = torch.arange(classes, device=unit.device) != torch.arange(
            start, start + len(part), device=unit.device
        ).unsqueeze(1)
        chosen = cosines[other]
        squares += float((chosen - mean).square().sum())
        gaps += float((chosen + 1 / (classes - 1)).abs().sum())
    return (squares / pairs) ** 0.5, gaps / pairs


def duality_gap(weight: Tensor, centred: Tensor) -> float:
    """NC3: ``‖W/‖W‖_F − M/‖M‖_F‖²_F`` of a head and centred means (C, D), in [0, 4].

    0 where the weights are the centred means, up to one factor. The weights are not centred.
    """
    own = weight / torch.linalg.matrix_norm(weight)
    return float((own - centred / torch.linalg.matrix_norm(centred)).square().sum())


def effective_rank(eigenvalues: Tensor) -> float:
    """Give the exponential of the entropy of the normalised eigenvalues (D,) ≥ 0: in [1, D].

    Roy and Vetterli 2007, eq. 3, take the singular values of a matrix; these are the eigenvalues
    of a covariance, the squares of those of the centred rows.
    """
    shares = eigenvalues / eigenvalues.sum()
    return float(torch.special.entr(shares).sum().exp())


def participation_ratio(eigenvalues: Tensor) -> float:
    """Give ``(Σ λ)²/Σ λ²`` of eigenvalues (D,) ≥ 0: in [1, D], below the effective rank."""
    return float(eigenvalues.sum().square() / eigenvalues.square().sum())
