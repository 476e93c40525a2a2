import logging

import pytest
import torch

from latentood.detectors.families.logits.openmax import CorrectTails
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.blobs import auroc, make_blobs
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize("options", [{"tail": 5}, {"alpha": 1}, {"alpha": 9, "tail": 50}], ids=str)
def test_every_option_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "openmax", **options)


def test_far_rows_are_unknown_where_classes_have_rows_enough_for_their_tails():
    blobs = make_blobs(rows=2400)
    fitted = fit(detector("openmax"), blobs.train.latents())
    assert auroc(*(fitted.score(rows.latents()) for rows in (blobs.id, blobs.far))) > 0.95


def test_scores_are_probabilities_even_of_huge_logits(blobs):
    fitted = fit(detector("openmax"), blobs.train.latents())
    scores = fitted.score(Latents(logits=torch.tensor([[5e3, 0, 0, 0], [-5e3, -4e3, -9e3, -8e3]])))
    assert bool(((scores >= 0) & (scores <= 1)).all())


def test_a_row_on_the_mean_of_its_class_is_known(blobs):
    fitted = fit(detector("openmax", alpha=1), blobs.train.latents())
    assert fitted.score(Latents(logits=fitted.state["means"])).max() < 1e-6


def test_misclassified_rows_do_not_count(blobs):
    wrong = blobs.train.logits.argmax(dim=1) != blobs.train.labels
    spoilt = blobs.train.logits.clone()
    spoilt[wrong] *= 100
    other = Latents(logits=spoilt, labels=blobs.train.labels)
    rows = blobs.far.latents()
    scores = [fit(detector("openmax"), x).score(rows) for x in (blobs.train.latents(), other)]
    torch.testing.assert_close(*scores, rtol=1e-12, atol=0)


def test_tails_are_the_largest_distances_over_all_blocks():
    logits = torch.randn(9000, 3, dtype=torch.float64)
    logits[torch.arange(9000), torch.arange(9000) % 3] += 2
    train = Latents(logits=logits, labels=torch.arange(9000) % 3)
    tails = train.compute(CorrectTails(20))
    for c in range(3):
        own = logits[(train["labels"] == c) & (logits.argmax(dim=1) == c)]
        expected = (own - own.mean(dim=0)).norm(dim=1).sort(descending=True).values[:20]
        torch.testing.assert_close(tails[c], expected, rtol=1e-12, atol=0)


def test_a_class_without_a_tail_is_left_as_it_is_and_named(blobs, caplog):
    few = blobs.train.rows((blobs.train.labels != 2) | (torch.arange(240) == 6))
    with caplog.at_level(logging.WARNING):
        fitted = fit(detector("openmax"), few.latents())
    assert "class 2 has fewer than two correctly classified fit rows" in caplog.text
    assert fitted.provenance["diagnostics"] == {"not_recalibrated": [2]}
    assert fitted.score(blobs.far.latents()).isfinite().all()


def test_no_class_with_a_tail_is_an_error(blobs):
    wrong = Latents(
        logits=blobs.train.logits, labels=(blobs.train.logits.argmax(dim=1) + 1) % 4, name="train"
    )
    with pytest.raises(DetectorError) as caught:
        fit(detector("openmax"), wrong)
    assert str(caught.value) == (
        "openmax: the correctly classified fit rows of some class must have ≥ 2 different "
        'distances to their mean, got none over 240 rows of "train"; extract more rows or check '
        "the labels"
    )
