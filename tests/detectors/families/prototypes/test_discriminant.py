import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"dim": 1}, {"ridge": 0.1}], ids=str)
def test_every_option_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "wdiscood", **options)


def test_both_distances_are_those_of_whitened_features(blobs):
    """All directions together are the Mahalanobis distance; with alpha=1 they add up at least."""
    train, far = blobs.train.latents(), blobs.far.latents()
    parts = fit(detector("wdiscood", alpha=1.0), train).score(far)
    whole = fit(detector("mahalanobis"), train).score(far).sqrt()
    assert bool((parts >= whole * (1 - 1e-9)).all())
    assert bool((parts <= whole * 2**0.5 * (1 + 1e-9)).all())


def test_units_do_not_matter(blobs):
    scale = torch.linspace(0.1, 50, 16, dtype=torch.float64)

    def scores(factor) -> torch.Tensor:
        rows = [
            Latents(features={"penultimate": a.features * factor}, labels=a.labels)
            for a in (blobs.train, blobs.far)
        ]
        return fit(detector("wdiscood", ridge=0.0), rows[0]).score(rows[1])

    assert torch.allclose(scores(1.0), scores(scale), rtol=1e-8)


def test_class_means_on_a_line_leave_one_direction(blobs):
    features = torch.randn(90, 6, dtype=torch.float64)
    labels = torch.arange(90) % 3
    for c in range(3):  # means exactly on a line
        features[labels == c] -= features[labels == c].mean(dim=0)
        features[labels == c, 0] += 5 * c
    train = Latents(features={"penultimate": features}, labels=labels)
    fitted = fit(detector("wdiscood"), train)
    assert fitted.provenance["diagnostics"] == {"dim": 1, "width": 6, "rank": 6}
    with pytest.raises(DetectorError) as caught:
        fit(detector("wdiscood", dim=2), train)
    assert str(caught.value) == (
        "wdiscood: dim must be ≤ the 1 directions in which class means differ, got 2; lower dim, "
        "or leave it at 0 for all"
    )


def test_one_class_is_refused(blobs):
    train = blobs.train.rows(blobs.train.labels == 0).latents()
    with pytest.raises(DetectorError) as caught:
        fit(detector("wdiscood"), train)
    assert str(caught.value).startswith(
        "wdiscood: the means of features/penultimate must differ between classes, got 54 rows of "
        '"train" where they do not; fit on rows of several classes'
    )
