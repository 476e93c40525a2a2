import math

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents

HEAD = (torch.eye(3, 4, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))


def rows(features: torch.Tensor) -> Latents:
    return Latents(features={"penultimate": features}, head=HEAD)


@pytest.fixture
def plane() -> torch.Tensor:
    """Features that never use the last of four units."""
    features = torch.randn(50, 4, dtype=torch.float64)
    features[:, 3] = 0
    return features


def test_a_row_outside_the_span_of_the_fit_rows_has_the_regret_of_the_paper(plane):
    """κ = 1: the learner fits any label, so each genie probability is 1/(2−p)."""
    x = plane[:1].clone()
    x[0, 3] = 0.01 * x.norm()
    p = (x / x.norm() @ HEAD[0].T).softmax(dim=1)
    expected = math.log(float((1 / (2 - p)).sum()))
    fitted = fit(detector("pnml"), rows(plane))
    assert float(fitted.score(rows(x))) == pytest.approx(expected, rel=1e-12)
    assert fitted.provenance["diagnostics"] == {"rank": 3, "width": 4}


def test_rounding_does_not_lead_outside(plane):
    x = plane.clone()
    x[:, 3] = 1e-9
    fitted = fit(detector("pnml"), rows(plane))
    assert torch.allclose(fitted.score(rows(x)), fitted.score(rows(plane)), atol=1e-6)


def test_regret_grows_with_distance_from_what_fit_rows_use(plane):
    """The same probabilities along a direction that is rare in the fit rows."""
    plane[:, 2] *= 0.02
    fitted = fit(detector("pnml"), rows(plane))
    seen, rare = torch.eye(4, dtype=torch.float64)[[0, 2]].unsqueeze(1)
    assert float(fitted.score(rows(rare))) > float(fitted.score(rows(seen))) + 0.01


def test_many_rows_leave_little_regret():
    features = torch.randn(50_000, 4, dtype=torch.float64)
    scores = fit(detector("pnml"), rows(features)).score(rows(features[:100]))
    assert bool((scores >= 0).all())
    assert scores.max() < 1e-3


def test_length_does_not_matter(plane):
    fitted = fit(detector("pnml"), rows(plane))
    assert torch.allclose(fitted.score(rows(plane)), fitted.score(rows(40 * plane)), atol=1e-12)


def test_a_sure_prediction_gets_a_number(plane):
    head = (HEAD[0] * 1e6, HEAD[1])
    train = Latents(features={"penultimate": plane}, head=head)
    scores = fit(detector("pnml"), train).score(train)
    assert bool(scores.isfinite().all())
    assert float(scores.median()) == 0.0


def test_features_that_are_all_zero_are_refused():
    with pytest.raises(DetectorError) as caught:
        fit(detector("pnml"), rows(torch.zeros(5, 4)))
    assert str(caught.value) == (
        'pnml: features/penultimate must not be 0 everywhere, got 5 such rows in "latents"; '
        "look at the extraction"
    )
