import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.detectors.statistics.projections import Projections
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.blobs import auroc
from tests.parity.agreement import assert_agrees


def sparse_net(rows: int = 120, width: int = 96) -> tuple[Latents, Latents]:
    """ID and OOD rows of a wide layer of equal length: ID is a few strong units, OOD many weak."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.eye(4).repeat_interleave(width // 4, dim=1)
    labels = torch.arange(rows) % 4
    noise = torch.rand(2, rows, width, generator=draw)
    known = weight[labels] * noise[0]
    other = 0.4 * noise[1]
    head = (weight - 0.25, torch.zeros(4))
    return tuple(
        Latents(features={"penultimate": h}, logits=h @ head[0].T, labels=labels, head=head)
        for h in (known, other)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"repeats": 3, "bins": 7, "smoothing": 2, "smoothing_perturbed": 9},
        {"repeats": 5, "smoothing": 1, "smoothing_perturbed": 1, "lambda_1": 0.3},
        {"repeats": 2, "distance": 0.0, "lambda_2": 4.0, "seed": 9},
        {"repeats": 2, "epsilon": (0.5, 1e-6)},
    ],
)
def test_options_agree_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "weiper", **options)


@pytest.mark.parametrize("part", ["features", "projections", "confidence"])
def test_each_part_tells_rows_of_other_histograms_or_less_confidence(part):
    known, other = sparse_net()
    big = 1e6
    weights = {
        "features": {"lambda_1": 0.0, "lambda_2": 0.0},
        "projections": {"lambda_1": big, "lambda_2": 0.0},
        "confidence": {"lambda_1": 0.0, "lambda_2": big},
    }[part]
    fitted = fit(detector("weiper", repeats=20, **weights), known)
    assert auroc(fitted.score(known), fitted.score(other)) > 0.9


def test_without_perturbation_the_confidence_is_msp(blobs):
    train, rows = blobs.train.latents(), blobs.far.latents()
    plain = {"repeats": 2, "distance": 0.0, "lambda_1": 0.0}
    with_it = fit(detector("weiper", lambda_2=1.0, **plain), train).score(rows)
    without = fit(detector("weiper", lambda_2=0.0, **plain), train).score(rows)
    msp = fit(detector("msp"), train).score(rows)
    torch.testing.assert_close(with_it - without, msp, rtol=1e-9, atol=1e-9)


def test_perturbations_have_the_length_they_should_and_depend_on_the_seed(blobs):
    weight, bias = blobs.train.head
    ranges = torch.zeros(2, 2)
    first, again, other = (
        Projections(6, 1.8, seed).projector(weight, bias, ranges).weight for seed in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    moved = (first.unflatten(0, (6, 4)) - weight).norm(dim=2)
    torch.testing.assert_close(moved, 1.8 * weight.norm(dim=1).expand(6, -1))


def test_values_beyond_those_of_the_fit_rows_are_in_no_bin(blobs):
    train = blobs.train.latents()
    fitted = fit(detector("weiper", repeats=2, lambda_1=0.0, lambda_2=0.0), train)
    out = Latents(features={"penultimate": torch.full((2, 16), 1e9).double()})
    none = torch.ones(100).double() / 100
    mean = fitted.state["histograms"][0] + 0.01
    mean = mean / mean.sum()
    expected = ((mean - none) * (mean / none).log()).sum()
    torch.testing.assert_close(fitted.score(out), expected.expand(2))


def test_constants_that_leave_logarithms_of_0_are_refused():
    with pytest.raises(DetectorError) as caught:
        detector("weiper", epsilon=(0.01, 0.0))
    assert str(caught.value) == (
        "weiper: epsilon must be > 0, got (0.01, 0.0); the authors have 0.01 and 0.025"
    )
