import logging

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize("similarity", ["inner", "cosine", "euclidean"])
def test_every_similarity_agrees_with_the_slow_formula(blobs, similarity):
    assert_agrees(blobs, "she", similarity=similarity)


def test_misclassified_rows_do_not_count(blobs):
    wrong = blobs.train.logits.argmax(dim=1) != blobs.train.labels
    assert bool(wrong.any())
    spoilt = blobs.train.features.clone()
    spoilt[wrong] = 1e6
    train = blobs.train.latents()
    other = Latents(
        logits=blobs.train.logits, labels=blobs.train.labels, features={"penultimate": spoilt}
    )
    rows = blobs.far.latents()
    assert torch.equal(*(fit(detector("she"), x).score(rows) for x in (train, other)))


def test_a_class_without_correct_rows_falls_back_and_says_so(caplog):
    logits = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [9.0, 0, 0]])
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    train = Latents(
        logits=logits, labels=torch.tensor([0, 1, 1]), features={"penultimate": features}
    )
    with caplog.at_level(logging.WARNING):
        fitted = fit(detector("she"), train)
    assert fitted.state["patterns"].tolist() == [[1.0, 0.0], [0.0, 3.0], [1 / 3, 2.0]]
    assert fitted.provenance["diagnostics"] == {"classes_without_correct_rows": [1, 2]}
    assert "class 1 is classified correctly: its pattern is the mean of all its rows" in caplog.text
    assert "class 2 has no fit row: its pattern is the mean of all rows" in caplog.text


def test_a_full_set_of_patterns_is_silent(blobs, caplog):
    with caplog.at_level(logging.WARNING):
        fit(detector("she"), blobs.train.latents())
    assert caplog.text == ""


def test_the_cosine_of_entropies_agrees_with_the_slow_formula(blobs):
    assert_agrees(blobs, "cosine", layer="mc.entropy/penultimate")


def test_the_cosine_sees_directions_and_no_lengths(blobs):
    fitted = fit(detector("cosine"), blobs.train.latents())
    longer = Latents(features={"penultimate": 1e3 * blobs.far.features})
    torch.testing.assert_close(
        fitted.score(longer), fitted.score(blobs.far.latents()), rtol=1e-9, atol=1e-12
    )


def test_a_class_mean_looks_like_itself_and_zeros_like_nothing(blobs):
    fitted = fit(detector("cosine"), blobs.train.latents())
    rows = torch.cat([fitted.state["directions"], torch.zeros(1, 16)])
    scores = fitted.score(Latents(features={"penultimate": rows}))
    assert (scores[:4] + 1).abs().max() < 1e-9
    assert float(scores[4]) == 0.0


def test_a_class_whose_mean_is_zero_is_like_nothing_and_all_such_are_refused():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    labels = torch.tensor([0, 0, 1, 1])
    train = Latents(features={"penultimate": rows}, labels=labels, name="train")
    scores = fit(detector("cosine"), train).score(train)
    torch.testing.assert_close(scores, torch.tensor([0.0, 0.0, -1.0, -1.0]).double())
    half = Latents(features={"penultimate": rows[:2]}, labels=labels[:2], name="train")
    with pytest.raises(DetectorError) as caught:
        fit(detector("cosine"), half)
    assert str(caught.value) == (
        "cosine: a mean of features/penultimate over a class must be other than 0, got 0 for all "
        '1 classes of "train"; choose another layer'
    )
