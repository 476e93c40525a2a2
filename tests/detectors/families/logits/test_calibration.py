import logging

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents


def fitted(name: str, logits: torch.Tensor, labels: torch.Tensor | None = None):
    val = Latents(logits=logits, labels=labels, name="val")
    return fit(detector(name), val, val)


def test_the_temperature_makes_overconfident_logits_calibrated():
    honest = 2 * torch.randn(4000, 5, dtype=torch.float64)
    labels = torch.multinomial(torch.softmax(honest, dim=1), 1).squeeze(1)
    diagnostics = fitted("temp_scaling", 3 * honest, labels).provenance["diagnostics"]
    assert diagnostics["temperature"] == pytest.approx(3, rel=0.1)


def test_scores_are_msp_at_the_best_temperature(blobs):
    scaled = fit(detector("temp_scaling"), blobs.train.latents(), blobs.id.latents("val"))
    temperature = scaled.provenance["diagnostics"]["temperature"]
    msp = fit(detector("msp", temperature=temperature), blobs.train.latents())
    rows = blobs.far.latents()
    torch.testing.assert_close(scaled.score(rows), msp.score(rows), rtol=1e-14, atol=0)


def test_val_rows_without_a_mistake_have_no_temperature():
    with pytest.raises(DetectorError) as caught:
        fitted("temp_scaling", torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert str(caught.value) == (
        "temp_scaling: some ID val rows must be misclassified, got none, so that T → 0 fits best, "
        'over 2 rows of "val"; use held-out rows with their right labels, or msp'
    )


def test_val_rows_worse_than_chance_have_no_temperature():
    with pytest.raises(DetectorError) as caught:
        fitted("temp_scaling", torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([1, 0]))
    assert str(caught.value) == (
        "temp_scaling: some ID val rows must be better classified than by chance, got logits of "
        "the true class that are no larger than the mean, so that T → ∞ fits best, over 2 rows of "
        '"val"; use held-out rows with their right labels, or msp'
    )


def test_a_typical_row_has_no_divergence():
    logits = torch.randn(300, 4, dtype=torch.float64).repeat_interleave(2, dim=0)
    one_each = torch.stack([logits[logits.argmax(dim=1) == c][0] for c in range(4)])
    scores = fitted("kl_matching", one_each).score(Latents(logits=one_each))
    assert bool((scores >= 0).all())
    assert scores.max() < 1e-14


def test_labels_play_no_part_in_kl_matching(blobs):
    val = Latents(logits=blobs.id.logits, name="val")
    alone = fit(detector("kl_matching"), blobs.train.latents(), val)
    together = fit(detector("kl_matching"), blobs.train.latents(), blobs.id.latents("val"))
    rows = blobs.far.latents()
    assert torch.equal(alone.score(rows), together.score(rows))


def test_a_class_never_predicted_gets_its_one_hot_and_a_warning(caplog):
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    with caplog.at_level(logging.WARNING):
        kl = fitted("kl_matching", logits)
    assert "no ID val row of 'val' is predicted as class 2: one-hot vectors" in caplog.text
    assert kl.provenance["diagnostics"] == {"never_predicted": [2]}
    sure, unsure = kl.score(Latents(logits=torch.tensor([[0.0, 0.0, 900.0], [0.0, 0.0, 3.0]])))
    assert sure == 0
    assert 0 < unsure < 3  # nearer to a class that was predicted than to the one-hot


def test_probabilities_that_underflow_neither_overflow_nor_vanish():
    val = torch.tensor([[2000.0, 0.0], [0.0, 2000.0]])
    kl = fitted("kl_matching", val)
    scores = kl.score(Latents(logits=torch.tensor([[0.0, 0.0], [1.0, 0.0], [2000.0, 0.0]])))
    assert bool(scores.isfinite().all())
    assert scores[0] > scores[1] > scores[2] == 0
