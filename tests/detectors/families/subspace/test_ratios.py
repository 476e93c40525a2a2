import pytest
import torch

from latentood.detectors.fitted import Fitted, fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.evaluation.warnings import warnings_of
from latentood.latents import Latents
from latentood.testing.detector_contract import assert_close
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 1},
        {"dim": 15},
        {"standardise": False},
        {"max_logit": False},
        {"layer": "mc.entropy/penultimate", "standardise": False, "max_logit": False},
    ],
    ids=str,
)
def test_every_option_of_neco_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "neco", **options)


def head_of(weight):
    return {"head": (weight, torch.zeros(len(weight)))}


def test_nusa_is_the_sine_whose_cosine_the_paper_takes():
    weight = torch.randn(3, 10, dtype=torch.float64)
    rows = torch.randn(20, 10, dtype=torch.float64)
    given = Latents(features={"penultimate": rows}, **head_of(weight))
    sine = fit(detector("nusa"), given).score(given)
    null = torch.linalg.svd(weight).Vh[3:]  # (7, 10)
    square = rows.square().sum(dim=1)
    cosine = (square - (rows @ null.T).square().sum(dim=1)).sqrt() / square.sqrt()
    assert_close(sine.square() + cosine.square(), torch.ones(20, dtype=torch.float64).numpy())


def test_features_the_head_sees_whole_or_not_at_all():
    weight = torch.eye(3, 10, dtype=torch.float64)
    rows = torch.eye(10, dtype=torch.float64)
    given = Latents(
        features={"penultimate": torch.cat([rows, torch.zeros(1, 10)])}, **head_of(weight)
    )
    scores = fit(detector("nusa"), given).score(given)
    assert scores[:3].max() < 1e-12
    assert (scores[3:10] - 1).abs().max() < 1e-9
    assert float(scores[10]) == 0.0


def test_a_head_of_short_rank_sees_less():
    weight = torch.randn(2, 8, dtype=torch.float64).repeat(3, 1)
    given = Latents(features={"penultimate": torch.randn(5, 8)}, **head_of(weight))
    fitted = fit(detector("nusa"), given)
    assert fitted.provenance["diagnostics"] == {"head_rank": 2, "width": 8}
    assert warnings_of(fitted.provenance["diagnostics"], {}) == ()


@pytest.mark.parametrize(("classes", "rank"), [(8, 8), (9, 8)])
def test_a_head_that_sees_everything_is_refused(classes, rank):
    given = Latents(
        features={"penultimate": torch.randn(5, 8)},
        **head_of(torch.randn(classes, 8, dtype=torch.float64)),
    )
    with pytest.raises(DetectorError) as caught:
        fit(detector("nusa"), given)
    assert str(caught.value) == (
        "nusa: the head must have a rank from 1 to 7, less than its features have dimensions, got "
        f"{rank}; without a null space use residual"
    )


def test_a_head_of_zeros_is_refused():
    given = Latents(features={"penultimate": torch.randn(5, 8)}, **head_of(torch.zeros(3, 8)))
    with pytest.raises(DetectorError, match="got 0; without a null space"):
        fit(detector("nusa"), given)


def test_neco_takes_one_axis_less_than_classes(blobs):
    diagnostics = fit(detector("neco"), blobs.train.latents()).provenance["diagnostics"]
    assert diagnostics == {"dim": 3, "rank": 16, "width": 16, "max_logit": True}


def test_neco_leaves_the_largest_logit_out_of_rectified_features(blobs):
    rectified = blobs.rectified()
    train = rectified.train.latents()
    rows = rectified.far.latents()
    auto, without = (fit(detector("neco", max_logit=choice), train) for choice in ("auto", False))
    assert auto.provenance["diagnostics"]["max_logit"] is False
    assert torch.equal(auto.score(rows), without.score(rows))
    assert_agrees(rectified, "neco")


def test_a_file_of_neco_from_before_there_was_auto_means_what_it_did(blobs):
    train, rows = blobs.train.latents(), blobs.far.latents()
    for choice in (True, False):
        fitted = fit(detector("neco", max_logit=choice), train)
        kept = {name: tensor for name, tensor in fitted.state.items() if name != "rectified"}
        assert fitted.detector.diagnostics(kept)["max_logit"] is choice
        assert torch.equal(Fitted(fitted.detector, kept).score(rows), fitted.score(rows))


def test_standardised_neco_does_not_depend_on_the_units_of_a_dimension(blobs):
    units = torch.logspace(-6, 6, 16, dtype=torch.float64)
    scores = []
    for scale in (torch.ones(16), units):
        train = Latents(
            features={"penultimate": blobs.train.features * scale + 3.0}, logits=blobs.train.logits
        )
        rows = Latents(
            features={"penultimate": blobs.far.features * scale + 3.0}, logits=blobs.far.logits
        )
        scores.append(fit(detector("neco", max_logit=True), train).score(rows))
    torch.testing.assert_close(*scores, rtol=1e-6, atol=0)


def test_a_row_at_the_mean_has_no_share(blobs):
    mean = blobs.train.features.mean(dim=0, keepdim=True)
    fitted = fit(detector("neco"), blobs.train.latents())
    score = fitted.score(Latents(features={"penultimate": mean}, logits=torch.ones(1, 4)))
    assert -1e-3 <= float(score[0]) <= 0


@pytest.mark.parametrize(("dim", "limit"), [(16, 15), (40, 15)])
def test_an_id_subspace_as_wide_as_the_features_is_refused(blobs, dim, limit):
    with pytest.raises(DetectorError) as caught:
        fit(detector("neco", dim=dim), blobs.train.latents())
    assert str(caught.value) == (
        f'neco: dim must be ≤ {limit}, the rank of the 240 fit rows of "train" and less than the '
        f"width 16 of features/penultimate, got {dim}; lower dim or extract more rows"
    )
