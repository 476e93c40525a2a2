import pytest
import torch

from latentood.detectors.families.subspace.vim import paper_dim
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize("dim", [1, 8, 15])
def test_any_width_of_the_subspace_agrees_with_the_slow_formula(blobs, dim):
    assert_agrees(blobs, "vim", dim=dim)


def test_the_width_follows_the_rule_of_the_authors():
    assert [paper_dim(d) for d in (2048, 2047, 768, 767, 64, 1)] == [1000, 512, 512, 383, 32, 0]


def test_the_virtual_logit_is_on_average_as_large_as_the_largest_logit(blobs):
    train = blobs.train.latents()
    fitted = fit(detector("vim"), train)
    virtual = fitted.score(train) + torch.logsumexp(blobs.train.logits, dim=1)
    largest = blobs.train.logits.amax(dim=1)
    torch.testing.assert_close(virtual.mean(), largest.mean(), rtol=1e-12, atol=0)
    assert fitted.provenance["diagnostics"]["dim"] == 8


def test_a_subspace_as_wide_as_the_features_is_refused(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("vim", dim=16), blobs.train.latents())
    assert str(caught.value) == (
        "vim: dim must be < the width 16 of features/penultimate, got 16; lower dim, or leave it "
        "at 0 for the paper's rule"
    )


def test_a_subspace_that_holds_all_fit_rows_is_refused(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("vim"), blobs.train.rows(slice(5)).latents())
    assert str(caught.value) == (
        'vim: dim must be < the rank 5 of the 5 fit rows of "train", got 8; lower dim or extract '
        "more rows"
    )


def test_a_head_of_another_layer_is_refused(blobs):
    train = Latents(
        logits=blobs.train.logits,
        features={"penultimate": blobs.train.features},
        head=(torch.zeros(4, 7), torch.zeros(4)),
    )
    with pytest.raises(
        DetectorError, match=r"^vim: the head must read the 16 features .* \(4, 7\)"
    ):
        fit(detector("vim"), train)
