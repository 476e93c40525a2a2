import pytest
import torch
from sklearn.decomposition import PCA

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError, MissingInput
from latentood.latents import Latents
from latentood.latents.key import HEAD
from latentood.testing.detector_contract import assert_close
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize(
    "options",
    [{"dim": 1}, {"dim": 15}, {"origin": "mean"}, {"layer": "mc.entropy/penultimate"}],
    ids=str,
)
def test_every_option_of_the_residual_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "residual", **options)


@pytest.mark.parametrize(
    "options",
    [{"dim": 3}, {"variance": 0.5}, {"relative": True}, {"layer": "mc.entropy/penultimate"}],
    ids=str,
)
def test_every_option_of_the_reconstruction_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "pca_reconstruction", **options)


def test_the_residual_is_that_of_vim(blobs):
    train, rows = blobs.train.latents(), blobs.far.latents()
    vim = fit(detector("vim"), train)
    energy = torch.logsumexp(blobs.far.logits, dim=1)
    residual = fit(detector("residual"), train).score(rows)
    torch.testing.assert_close(
        vim.score(rows) + energy, float(vim.state["alpha"]) * residual, rtol=1e-10, atol=1e-10
    )


def test_about_the_mean_both_are_the_same(blobs):
    train, rows = blobs.train.latents(), blobs.far.latents()
    first = fit(detector("residual", origin="mean", dim=6), train).score(rows)
    second = fit(detector("pca_reconstruction", dim=6), train).score(rows)
    assert torch.equal(first, second)


def test_the_error_is_that_of_scikit_learn(blobs):
    h, rows = blobs.train.features.numpy(), blobs.far.features.numpy()
    pca = PCA(5, svd_solver="full").fit(h)
    error = ((rows - pca.inverse_transform(pca.transform(rows))) ** 2).sum(axis=1) ** 0.5
    fitted = fit(detector("pca_reconstruction", dim=5), blobs.train.latents())
    assert_close(fitted.score(blobs.far.latents()), error)


def test_as_few_components_as_keep_the_variance(blobs):
    kept = PCA(svd_solver="full").fit(blobs.train.features.numpy()).explained_variance_ratio_
    for variance in (0.3, 0.75, 0.99):
        chosen = detector("pca_reconstruction", variance=variance)
        dim = fit(chosen, blobs.train.latents()).provenance["diagnostics"]["dim"]
        assert kept[:dim].sum() >= variance > kept[: dim - 1].sum()


def test_only_the_penultimate_layer_needs_the_head(blobs):
    assert HEAD in detector("residual").needs().fit
    assert HEAD not in detector("residual", layer="layer3").needs().fit
    assert HEAD not in detector("residual", origin="mean").needs().fit
    early = Latents(features={"layer3": blobs.train.features}, name="train")
    assert len(fit(detector("residual", layer="layer3"), early).score(early)) == 240
    with pytest.raises(MissingInput, match=r"^residual: needs 'head'"):
        fit(detector("residual"), Latents(features={"penultimate": blobs.train.features}))


def test_a_row_that_a_subspace_holds_leaves_nothing_over():
    rows = torch.randn(50, 3, dtype=torch.float64) @ torch.randn(3, 8, dtype=torch.float64)
    fitted = fit(detector("pca_reconstruction", dim=3), Latents(features={"penultimate": rows}))
    assert fitted.provenance["diagnostics"] == {"dim": 3, "rank": 3, "width": 8}
    assert fitted.score(Latents(features={"penultimate": 2 * rows - rows[:1]})).max() < 1e-12
    off = Latents(features={"penultimate": torch.randn(4, 8, dtype=torch.float64)})
    assert fitted.score(off).min() > 0.1


def test_a_row_of_zeros_has_a_relative_error(blobs):
    fitted = fit(detector("pca_reconstruction", relative=True), blobs.train.latents())
    scores = fitted.score(Latents(features={"penultimate": torch.zeros(1, 16)}))
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("name", ["residual", "pca_reconstruction"])
def test_a_subspace_as_wide_as_the_features_is_refused(blobs, name):
    with pytest.raises(DetectorError) as caught:
        fit(detector(name, dim=16), blobs.train.latents())
    assert str(caught.value) == (
        f"{name}: dim must be < the width 16 of features/penultimate, got 16; lower it, or "
        "nothing is left over"
    )


def test_more_components_than_the_rank_are_refused(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("pca_reconstruction", dim=9), blobs.train.rows(slice(8)).latents())
    assert str(caught.value) == (
        'pca_reconstruction: dim must be ≤ the rank 7 of the 8 fit rows of "train", and that ≥ 1, '
        "got 9; lower dim or extract more rows"
    )


def test_a_head_of_another_layer_is_refused(blobs):
    train = Latents(
        features={"penultimate": blobs.train.features}, head=(torch.zeros(4, 7), torch.zeros(4))
    )
    with pytest.raises(DetectorError, match=r"^residual: the head must read the 16 .* \(4, 7\)"):
        fit(detector("residual"), train)
