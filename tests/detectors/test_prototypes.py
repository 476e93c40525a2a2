import logging

import pytest
import torch

from latentood.detectors.fitting import fit
from latentood.detectors.registry import detector
from latentood.latents import Latents
from tests.detectors.agreement import assert_agrees


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
