import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.blobs import auroc


def test_fit_rows_score_0_on_average(blobs):
    train = blobs.train.latents()
    assert float(fit(detector("core"), train).score(train).mean()) == pytest.approx(0, abs=1e-12)


def test_directions_beside_a_class_are_orthogonal_to_its_weight(blobs):
    state = fit(detector("core"), blobs.train.latents()).state
    crossing = (state["along"] * state["beside"]).sum(dim=1)
    torch.testing.assert_close(crossing, torch.zeros(4).double(), atol=1e-12, rtol=0)


def test_a_residual_of_another_class_shows_where_logits_are_the_same(blobs):
    train = blobs.train.latents()
    fitted = fit(detector("core"), train)
    along = fitted.state["along"][blobs.id.logits.argmax(dim=1)]
    part = (blobs.id.features * along).sum(dim=1, keepdim=True) * along
    turned = Latents(features={"penultimate": 2 * part - blobs.id.features}, logits=blobs.id.logits)
    assert auroc(fitted.score(blobs.id.latents()), fitted.score(turned)) > 0.9


def test_less_energy_shows_where_residuals_are_the_same(blobs):
    fitted = fit(detector("core"), blobs.train.latents())
    weak = Latents(features={"penultimate": blobs.id.features}, logits=0.3 * blobs.id.logits)
    assert bool((fitted.score(weak) > fitted.score(blobs.id.latents())).all())


def test_a_signal_that_does_not_vary_is_only_centred():
    draw = torch.Generator().manual_seed(0)
    logits = torch.tensor([[2.0, 0.0]]) * (1 + torch.rand(20, 1, generator=draw))
    features = torch.rand(20, 1, generator=draw) * torch.tensor([[1.0, 1.0]])  # one residual
    labels = torch.zeros(20, dtype=torch.int64)
    head = (torch.eye(2), torch.zeros(2))
    train = Latents(features={"penultimate": features}, logits=logits, labels=labels, head=head)
    fitted = fit(detector("core"), train)
    assert fitted.state["moments"][:, 1].tolist() == pytest.approx([1.0, 1.0])
    energy = logits.double().logsumexp(dim=1)
    expected = (energy.mean() - energy) / energy.std(correction=0)
    torch.testing.assert_close(fitted.score(train), expected, rtol=1e-9, atol=1e-9)


def test_fit_rows_that_are_all_the_same_are_refused(blobs):
    same = blobs.train.rows(torch.zeros(9, dtype=torch.int64)).latents()
    with pytest.raises(DetectorError) as caught:
        fit(detector("core"), same)
    assert str(caught.value) == (
        "core: energies or residuals must vary between the rows of a fit, got 9 rows of "
        '"train" without spread; extract more rows or choose another layer'
    )
