import numpy as np
import pytest
import torch

from latentood.stats import collapse
from latentood.stats.collapse import (
    angle_inequality,
    between_whitener,
    centred_means,
    duality_gap,
    effective_rank,
    norm_inequality,
    participation_ratio,
)
from tests.references import collapse as slow


def simplex(classes: int, width: int, seed: int = 0) -> torch.Tensor:
    """Give class means (C, D) at the corners of a turned simplex, away from the origin."""
    corners = torch.zeros(classes, width, dtype=torch.float64)
    corners[:, :classes] = torch.eye(classes, dtype=torch.float64) * 3
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    return corners @ turn + 5


def drawn(seed: int = 0):
    generator = np.random.default_rng(seed)
    y = np.repeat([0, 1, 2, 3], [30, 20, 25, 25])
    means = generator.standard_normal((4, 6)) * 2
    return means[y] + generator.standard_normal((100, 6)) * generator.uniform(0.2, 2, 6), y


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_simplex_is_collapsed(classes):
    means = centred_means(simplex(classes, 12))
    assert norm_inequality(means) == pytest.approx(0, abs=1e-12)
    assert angle_inequality(means) == pytest.approx((0, 0), abs=1e-12)
    assert duality_gap(means * 7, means) == pytest.approx(0, abs=1e-12)
    assert duality_gap(-means, means) == pytest.approx(4)


def test_what_is_no_simplex_is_not_collapsed():
    means = simplex(4, 6)
    means[0] += means[0] - means.mean(dim=0) + means[1] / 5
    longer = centred_means(means)
    assert norm_inequality(longer) > 0.05
    angles, gap = angle_inequality(longer)
    assert angles > 0.05
    assert gap > 0.05


@pytest.mark.parametrize("rows", [1, 3, 1024])
def test_measures_are_those_of_the_slow_formulas(rows, monkeypatch):
    monkeypatch.setattr(collapse, "_ROWS", rows)
    h, y = drawn()
    means = centred_means(torch.tensor(slow.class_means(h, y)))
    assert norm_inequality(means) == pytest.approx(slow.nc2_norms(h, y), rel=1e-12)
    angles, gap = angle_inequality(means)
    assert angles == pytest.approx(slow.nc2_angles(h, y), rel=1e-10)
    assert gap == pytest.approx(slow.nc2_simplex(h, y), rel=1e-12)
    weight = np.random.default_rng(1).standard_normal((4, 6))
    assert duality_gap(torch.tensor(weight), means) == pytest.approx(
        slow.nc3(h, y, weight), rel=1e-12
    )


def test_the_whitener_inverts_the_covariance_of_the_means_where_they_differ():
    means = centred_means(simplex(4, 6))
    whitener = between_whitener(means)
    assert whitener.shape == (6, 3)
    between = means.T @ means / 4
    torch.testing.assert_close(whitener @ whitener.T, torch.linalg.pinv(between))
    assert between_whitener(torch.zeros(3, 5, dtype=torch.float64)).shape == (5, 0)


def test_effective_rank_counts_equal_directions():
    assert effective_rank(torch.ones(9)) == pytest.approx(9)
    assert participation_ratio(torch.ones(9)) == pytest.approx(9)
    one = torch.tensor([2.0, 0, 0, 0])
    assert effective_rank(one) == participation_ratio(one) == 1
    h, _ = drawn()
    values = torch.tensor(slow.eigenvalues(h).copy())
    assert effective_rank(values) == pytest.approx(slow.effective_rank(slow.eigenvalues(h)))
    assert 1 < participation_ratio(values) < effective_rank(values) < 6
