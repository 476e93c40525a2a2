import math

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.blobs import auroc
from tests.parity.agreement import assert_agrees


def score(name: str, mc_logits: torch.Tensor) -> torch.Tensor:
    rows = Latents(mc_logits=mc_logits)
    return fit(detector(name), rows).score(rows)


def test_identical_passes_share_no_information_and_have_no_variance():
    passes = torch.randn(20, 1, 5).expand(20, 16, 5)
    information = score("mutual_information", passes)
    assert bool((information >= 0).all())
    assert information.max() < 1e-12
    assert score("mcd_variance", passes).max() < 1e-30


def test_rounding_never_makes_information_negative():
    passes = torch.randn(2000, 1, 50) + 1e-9 * torch.randn(2000, 16, 50)
    assert bool((score("mutual_information", passes.double()) >= 0).all())


def test_passes_that_are_sure_of_different_classes_share_all_information():
    passes = 1000 * torch.eye(4).unsqueeze(0)  # pass t is certain of class t
    assert math.isclose(float(score("mutual_information", passes)), math.log(4))
    assert math.isclose(float(score("predictive_entropy", passes)), math.log(4))


def test_the_variance_divides_by_the_number_of_passes():
    passes = torch.tensor([[[1000.0, 0.0], [0.0, 1000.0]]])  # p = 1, 0 and 0, 1
    assert float(score("mcd_variance", passes)) == 0.25
    assert float(score("mcd_variance", passes[:, :1])) == 0.0


def test_wide_passes_are_scored_in_smaller_blocks_to_the_same_scores(monkeypatch):
    from latentood.detectors import fitted as fitting

    passes = torch.randn(600, 4, 3)
    whole = score("mutual_information", passes)
    seen = []
    original = fitting.Fitted._score_chunk
    monkeypatch.setattr(fitting, "_CHUNK_ELEMENTS", 256 * 12)
    monkeypatch.setattr(
        fitting.Fitted, "_score_chunk", lambda self, b: (seen.append(len(b)), original(self, b))[1]
    )
    assert torch.equal(score("mutual_information", passes), whole)
    assert seen == [256, 256, 88]


def sure_of(*classes: int) -> torch.Tensor:
    """One row whose passes are certain of these classes, of four."""
    return 1000 * torch.eye(4)[list(classes)].unsqueeze(0)


@pytest.mark.parametrize(
    ("votes", "ratio", "disagreement"),
    [
        ((1, 1, 1, 1), 0.0, 0.0),
        ((1, 1, 1, 2), 1 / 4, 3 / 6),
        ((1, 1, 2, 2), 2 / 4, 4 / 6),
        ((1, 1, 2, 3), 2 / 4, 5 / 6),
        ((0, 1, 2, 3), 3 / 4, 1.0),
    ],
)
def test_votes_are_counted_by_the_largest_share_or_by_pairs(votes, ratio, disagreement):
    passes = sure_of(*votes)
    assert math.isclose(float(score("variation_ratio", passes)), ratio, abs_tol=1e-15)
    assert math.isclose(float(score("disagreement", passes)), disagreement, abs_tol=1e-15)


def test_votes_tell_rows_apart_by_how_often_passes_change_their_mind():
    sure = torch.tensor([3.0, 0.0, 0.0]).expand(200, 16, 3) + torch.randn(200, 16, 3)
    unsure = torch.randn(200, 16, 3)
    for name in ("variation_ratio", "disagreement"):
        assert auroc(score(name, sure), score(name, unsure)) > 0.95


def test_expected_entropy_and_information_add_up_to_the_predictive_entropy():
    passes = torch.randn(50, 16, 5)
    parts = score("expected_entropy", passes) + score("mutual_information", passes)
    torch.testing.assert_close(parts, score("predictive_entropy", passes), rtol=1e-13, atol=0)


def test_the_mean_of_opposite_certainties_is_a_coin():
    passes = torch.tensor([[[1000.0, 0.0], [0.0, 1000.0]]])
    assert float(score("mcd_msp", passes)) == -0.5


def test_one_pass_is_msp_and_has_no_votes_to_compare():
    passes = torch.randn(20, 1, 5)
    rows = Latents(logits=passes[:, 0])
    assert torch.equal(score("mcd_msp", passes), fit(detector("msp"), rows).score(rows))
    for name in ("variation_ratio", "disagreement"):
        with pytest.raises(DetectorError) as caught:
            score(name, passes)
        assert str(caught.value) == (
            f"{name}: mc.logits must have ≥ 2 passes, got 1; re-run extract with monte_carlo: "
            "{passes: 16}"
        )


@pytest.mark.parametrize("options", [{"standardise": False}, {"ridge": 0.5}], ids=str)
def test_every_option_of_the_feature_variance_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "mcd_feature_variance", **options)


def features(passes: torch.Tensor) -> Latents:
    return Latents(mc_features={"layer3": passes}, name="train")


def test_the_feature_variance_of_the_fit_rows_is_one_on_average():
    rows = features(torch.randn(300, 8, 6) * torch.tensor([1e-3, 1.0, 1e3, 5.0, 1.0, 2.0]))
    fitted = fit(detector("mcd_feature_variance", layer="layer3", ridge=1e-20), rows)
    assert abs(float(fitted.score(rows).mean()) - 1) < 1e-8


def test_without_standardising_no_fit_is_needed_and_active_dimensions_decide():
    rows = features(torch.tensor([[[0.0, 10.0], [2.0, 30.0]]]))
    chosen = detector("mcd_feature_variance", layer="layer3", standardise=False)
    assert chosen.needs().fit == ()
    assert float(fit(chosen, rows).score(rows)) == (1.0 + 100.0) / 2


@pytest.mark.parametrize("passes", [3, 10, 16])
def test_features_whose_passes_are_equal_are_refused(passes):
    rows = features(torch.randn(40, 1, 5).expand(40, passes, 5))
    with pytest.raises(DetectorError) as caught:
        fit(detector("mcd_feature_variance", layer="layer3"), rows)
    assert str(caught.value) == (
        "mcd_feature_variance: mc.features/layer3 must vary over the passes, got 40 rows of "
        '"train" whose passes are all equal; choose a layer behind the dropout'
    )


def test_features_of_one_pass_are_refused():
    with pytest.raises(DetectorError, match=r"mc\.features/layer3 must have ≥ 2 passes, got 1; "):
        fit(detector("mcd_feature_variance", layer="layer3"), features(torch.randn(40, 1, 5)))
