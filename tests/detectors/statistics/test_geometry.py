import torch

from latentood.detectors.statistics.bank import ClassBank, Sample
from latentood.detectors.statistics.bounds import PredictedBounds
from latentood.detectors.statistics.moments import Mean, UnitScatter
from latentood.latents import Latents

KEY = "features/penultimate"


def streamed(blobs, monkeypatch, statistic):
    """The statistic over chunks of 32 rows."""
    chunks = Latents.chunks
    monkeypatch.setattr(
        Latents, "chunks", lambda self, keys, rows=32: chunks(self, keys, min(rows, 32))
    )
    return blobs.train.latents().compute(statistic)


def test_the_mean_is_that_of_all_rows(blobs, monkeypatch):
    mean = streamed(blobs, monkeypatch, Mean(KEY))
    assert torch.allclose(mean, blobs.train.features.mean(dim=0), atol=1e-14)


def test_the_unit_scatter_is_about_zero(blobs, monkeypatch):
    unit = torch.nn.functional.normalize(blobs.train.features)
    scatter = streamed(blobs, monkeypatch, UnitScatter(KEY))
    assert torch.allclose(scatter.matrix, unit.T @ unit, rtol=1e-9)


def test_bounds_are_those_of_the_predicted_class(blobs, monkeypatch):
    bounds = streamed(blobs, monkeypatch, PredictedBounds(KEY))
    predicted = blobs.train.logits.argmax(dim=1)
    for c in range(4):
        own = blobs.train.features[predicted == c]
        assert torch.equal(bounds.low[c], own.amin(dim=0))
        assert torch.equal(bounds.high[c], own.amax(dim=0))
    assert bounds.unseen == ()


def test_a_class_bank_keeps_the_same_rows_of_every_array(blobs, monkeypatch):
    features, labels = (
        streamed(blobs, monkeypatch, ClassBank(key, 0.1, 3)) for key in (KEY, "logits")
    )
    assert torch.equal(features.positions, labels.positions)
    assert torch.equal(features.rows, blobs.train.features[features.positions])
    assert torch.equal(labels.rows, blobs.train.logits[features.positions])


def test_every_row_of_a_class_is_as_likely_to_be_kept(blobs):
    kept = torch.zeros(240)
    for seed in range(200):
        kept[blobs.train.latents().compute(ClassBank(KEY, 0.5, seed)).positions] += 1
    assert kept.min() > 60
    assert kept.max() < 140


def test_a_sample_has_the_rows_asked_for_or_all_there_are(blobs):
    train = blobs.train.latents()
    assert [len(train.compute(Sample(KEY, n, 0)).rows) for n in (7, 239, 240, 999)] == [
        7, 239, 240, 240,
    ]  # fmt: skip
