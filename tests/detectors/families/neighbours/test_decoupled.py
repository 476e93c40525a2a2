import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.blobs import auroc
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize(
    "options",
    [
        {"k": 1},
        {"k": 5, "variance": 0.4, "alpha": 0.2},
        {"k": 20, "variance": 0.99, "alpha": 1.0},
        {"k": 3, "layer": "gram"},
    ],
)
def test_options_agree_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "dknn", **options)


def collapsed(rows: int = 300, width: int = 32) -> tuple[Latents, Latents]:
    """Rows along four directions; OOD has the same there, but four times as much beside them."""
    noise = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(1))
    centres = 10 * torch.eye(width)[torch.arange(rows) % 4]
    spread = torch.ones(2, 1, width)
    spread[0, :, 4:], spread[1, :, 4:] = 0.05, 0.2
    known, other = centres + spread * noise
    return tuple(Latents(features={"penultimate": h}) for h in (known, other))


def test_a_weak_residual_counts_that_knn_overlooks():
    known, other = collapsed()
    found = {}
    for name in ("knn", "dknn"):
        fitted = fit(detector(name), known)
        found[name] = auroc(fitted.score(known), fitted.score(other))
    assert found["dknn"] > 0.99
    assert found["knn"] < 0.7


def test_fit_rows_score_0_on_average(blobs):
    train = blobs.train.latents()
    scores = fit(detector("dknn"), train).score(train)
    assert float(scores.mean()) == pytest.approx(0, abs=1e-12)


def test_a_sample_of_the_fit_rows_calibrates(blobs):
    train = blobs.train.latents()
    whole, part, again = (
        fit(detector("dknn", calibration=rows), train).state["moments"] for rows in (240, 60, 60)
    )
    assert torch.equal(part, again)
    assert not torch.equal(part, whole)
    torch.testing.assert_close(part, whole, rtol=0.3, atol=0)


def test_copies_by_their_digest_are_no_neighbours(blobs):
    hashes = torch.arange(240)
    train = Latents(features={"penultimate": blobs.train.features}, hashes=hashes, name="train")
    fitted = fit(detector("dknn", k=1), train)
    copies = Latents(features={"penultimate": blobs.train.features[:9]}, hashes=hashes[:9])
    strangers = Latents(features={"penultimate": blobs.train.features[:9]}, hashes=hashes[:9] + 999)
    torch.testing.assert_close(fitted.score(copies), fitted.score(train)[:9])
    assert bool((fitted.score(strangers) < fitted.score(copies)).all())


def test_more_neighbours_than_rows_are_refused(blobs):
    with pytest.raises(DetectorError, match=r"^dknn: k must be ≤ the bank's 240 rows, got 241; "):
        fit(detector("dknn", k=240), blobs.train.latents())


def test_rows_of_one_direction_are_refused():
    train = Latents(features={"penultimate": torch.ones(60, 4)}, name="train")
    with pytest.raises(DetectorError) as caught:
        fit(detector("dknn"), train)
    assert str(caught.value) == (
        "dknn: distances between features/penultimate must vary between the rows of a fit, got 60 "
        'rows of "train" without spread; extract more rows or choose another layer'
    )
