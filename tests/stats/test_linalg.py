import torch

from latentood.stats.linalg import Covariance, lengths, nearest_squared


def covariance_of(rows: torch.Tensor) -> Covariance:
    matrix = torch.cov(rows.T, correction=0)
    return Covariance(matrix, noise=1e-12 * float(matrix.diagonal().mean()))


def test_a_whitener_gives_the_mahalanobis_distance():
    rows = torch.randn(200, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    covariance = covariance_of(rows)
    x = torch.randn(9, 6, dtype=torch.float64)
    expected = (x @ torch.linalg.inv(covariance.matrix) * x).sum(dim=1)
    squared = (x @ covariance.whitener(0.0)).square().sum(dim=1)
    torch.testing.assert_close(squared, expected, rtol=1e-10, atol=0)


def test_the_ridge_is_a_share_of_the_mean_variance_at_every_scale():
    rows = torch.randn(200, 6, dtype=torch.float64)
    x = torch.randn(9, 6, dtype=torch.float64)
    for scale in (1e-8, 1.0, 1e8):
        whitened = (x * scale) @ covariance_of(rows * scale).whitener(0.1)
        torch.testing.assert_close(
            lengths(whitened), lengths(x @ covariance_of(rows).whitener(0.1)), rtol=1e-10, atol=0
        )


def test_rank_counts_directions_with_spread_and_not_rounding():
    rows = torch.randn(50, 3, dtype=torch.float64) @ torch.randn(3, 8, dtype=torch.float64)
    assert covariance_of(rows).rank == 3


def test_rounding_is_not_magnified_by_a_small_ridge():
    rows = torch.randn(5, 8, dtype=torch.float64)
    covariance = covariance_of(rows)
    across = torch.linalg.svd(rows - rows.mean(dim=0)).Vh[4:]  # directions without spread
    lengths_across = lengths(across @ covariance.whitener(1e-9))
    expected = torch.full((4,), (1e-9 * covariance.scale) ** -0.5, dtype=torch.float64)
    torch.testing.assert_close(lengths_across, expected, rtol=1e-12, atol=0)


def test_components_have_variance_one_and_come_largest_first():
    rows = torch.randn(500, 4, dtype=torch.float64) * torch.tensor([1.0, 5.0, 2.0, 0.1])
    covariance = covariance_of(rows)
    assert torch.equal(covariance.spectrum[0], covariance.spectrum[0].sort(descending=True).values)
    projected = (rows - rows.mean(dim=0)) @ covariance.components(2)
    torch.testing.assert_close(
        torch.cov(projected.T, correction=0), torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_the_nearest_centre_is_measured_without_cancellation():
    centres = torch.tensor([[1e8, 0.0], [0.0, 1e8], [-1e8, 3.0]], dtype=torch.float64)
    rows = centres + torch.tensor([[1e-3, 0.0]], dtype=torch.float64)
    exact = (rows - centres).square().sum(dim=1)  # the expanded square is off by 1 here
    assert torch.equal(nearest_squared(rows, centres), exact)


def test_one_centre_is_the_nearest():
    rows = torch.randn(5, 3, dtype=torch.float64)
    centre = torch.randn(1, 3, dtype=torch.float64)
    assert torch.equal(nearest_squared(rows, centre), (rows - centre).square().sum(dim=1))


def test_a_well_conditioned_covariance_is_whitened_without_its_eigenvalues():
    covariance = covariance_of(torch.randn(200, 6, dtype=torch.float64))
    whitener = covariance.whitener(0.0)
    assert "spectrum" not in vars(covariance)
    assert covariance.rank == 6
    assert torch.equal(whitener, whitener.triu())
    by_eigenvalues = covariance.spectrum[1] * covariance.spectrum[0].rsqrt()
    torch.testing.assert_close(
        whitener @ whitener.T, by_eigenvalues @ by_eigenvalues.T, rtol=1e-11, atol=1e-11
    )
