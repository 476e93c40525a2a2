import pytest
import torch
from sklearn.decomposition import PCA

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.detector_contract import assert_close
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize("pca", [0, 1, 5, 16])
def test_any_number_of_components_agrees_with_the_slow_formula(blobs, pca):
    assert_agrees(blobs, "lared", pca=pca, bandwidth=0.7)
    assert_agrees(blobs, "larem", pca=pca)


def test_after_whitened_components_larem_is_their_length_scaled(blobs):
    e = blobs.train.mc_entropy.numpy()
    n = len(e)
    y = PCA(5, whiten=True, svd_solver="full").fit(e).transform(blobs.far.mc_entropy.numpy())
    fitted = fit(detector("larem", pca=5), blobs.train.latents())
    assert_close(fitted.score(blobs.far.latents()), n / (n - 1) * (y**2).sum(axis=1))


@pytest.mark.parametrize("name", ["lared", "larem"])
def test_more_components_than_the_rank_are_refused(blobs, name):
    with pytest.raises(DetectorError) as caught:
        fit(detector(name, pca=9), blobs.train.rows(slice(8)).latents())
    assert str(caught.value) == (
        f"{name}: pca must be ≤ the rank 7 of mc.entropy/penultimate over the 8 rows of "
        '"train", got 9; lower pca or extract more rows'
    )


def test_a_bank_of_one_row_is_refused(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("lared", share=0.001), blobs.train.latents())
    assert str(caught.value) == (
        "lared: a density must have ≥ 2 rows in its bank, got 1; raise share or extract more of "
        '"train"'
    )


def test_the_layer_names_the_entropies(blobs):
    rows = Latents(mc_entropy={"layer3": blobs.train.mc_entropy})
    for layer in ("layer3", "mc.entropy/layer3"):
        chosen = detector("larem", layer=layer)
        assert chosen.needs().score == ("mc.entropy/layer3",)
        assert len(fit(chosen, rows).score(rows)) == len(rows)


def test_a_share_of_the_bank_keeps_its_rows_apart_from_themselves(blobs):
    train = blobs.train.latents()
    fitted = fit(detector("lared", share=0.5, bandwidth=1e-3), train)
    inside = torch.zeros(len(train), dtype=torch.bool)
    inside[fitted.state["positions"]] = True
    own, stranger = fitted.score(train), fitted.score(blobs.train.latents())
    assert bool((own[inside] > stranger[inside] + 100).all())
    assert torch.equal(own[~inside], stranger[~inside])
