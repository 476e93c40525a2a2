import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize("pca", [1, 5, 16])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lar_knn", {}),
        ("lar_knn", {"normalise": False, "k": 3, "engine": "torch"}),
        ("lar_gmm", {"components": 3}),
        ("larem_classwise", {}),
        ("larem_classwise", {"ridge": 0.3}),
    ],
)
def test_any_number_of_components_agrees_with_the_slow_formula(blobs, name, options, pca):
    assert_agrees(blobs, name, pca=pca, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lar_knn", {"normalise": False, "metric": "squared_euclidean"}),
        ("lar_gmm", {"components": 2, "standardise": False, "covariance": "diag"}),
        ("larem_classwise", {"ridge": 0.0}),
    ],
)
def test_without_components_any_option_agrees_with_the_slow_formula(blobs, name, options):
    assert_agrees(blobs, name, **options)


@pytest.mark.parametrize(
    ("name", "plain", "options"),
    [
        ("lar_knn", "knn", {"k": 7}),
        ("lar_gmm", "gmm", {"components": 3}),
        ("larem_classwise", "mahalanobis", {}),
        ("lared", "kde", {"bandwidth": 0.7}),
        ("larem", "ssd", {}),
    ],
)
def test_without_components_each_is_a_detector_of_features(blobs, name, plain, options):
    train, rows = blobs.train.latents(), blobs.far.latents()
    ours = fit(detector(name, **options), train).score(rows)
    if plain == "ssd":
        options = {"normalise": False}
    theirs = fit(detector(plain, layer="mc.entropy/penultimate", **options), train).score(rows)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_one_class_of_larem_classwise_is_larem(blobs):
    one = Latents(
        mc_entropy={"penultimate": blobs.train.mc_entropy},
        labels=torch.zeros(240, dtype=torch.int64),
    )
    rows = blobs.far.latents()
    for pca in (0, 5):
        classwise = fit(detector("larem_classwise", pca=pca, ridge=0.0), one).score(rows)
        plain = fit(detector("larem", pca=pca, ridge=0.0), one).score(rows)
        torch.testing.assert_close(classwise, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["lar_knn", "lar_gmm", "larem_classwise"])
def test_more_components_than_the_rank_are_refused(blobs, name):
    options = {"lar_knn": {"k": 3}, "lar_gmm": {"components": 2}}.get(name, {})
    with pytest.raises(DetectorError) as caught:
        fit(detector(name, pca=9, **options), blobs.train.rows(slice(8)).latents())
    assert str(caught.value) == (
        f"{name}: pca must be ≤ the rank 7 of mc.entropy/penultimate over the 8 rows of "
        '"train", got 9; lower pca or extract more rows'
    )


@pytest.mark.parametrize("name", ["lar_knn", "lar_gmm", "larem_classwise"])
def test_components_are_saved_and_loaded_to_the_same_bits(blobs, name, tmp_path):
    from latentood.detectors.fitted import load

    fitted = fit(detector(name, pca=4), blobs.train.latents())
    fitted.save(tmp_path / "fitted.safetensors")
    again = load(tmp_path / "fitted.safetensors")
    assert torch.equal(again.score(blobs.far.latents()), fitted.score(blobs.far.latents()))


def test_whitened_components_are_not_standardised_again(blobs):
    scores = [
        fit(detector("lar_gmm", pca=4, standardise=s), blobs.train.latents()).score(
            blobs.far.latents()
        )
        for s in (True, False)
    ]
    assert torch.equal(*scores)


def test_the_layer_names_the_entropies(blobs):
    rows = Latents(mc_entropy={"layer3": blobs.train.mc_entropy}, labels=blobs.train.labels)
    for name in ("lar_knn", "lar_gmm", "larem_classwise"):
        for layer in ("layer3", "mc.entropy/layer3"):
            chosen = detector(name, layer=layer)
            assert chosen.needs().score == ("mc.entropy/layer3",)
            assert len(fit(chosen, rows).score(rows)) == len(rows)


@pytest.mark.parametrize(("rows", "pca"), [(8, 6), (8, 7), (12, 11), (16, 13)])
def test_classes_leave_fewer_directions_than_there_are_components(blobs, rows, pca):
    """Rows of four classes vary within them in four directions less, also once whitened."""
    chosen = detector("larem_classwise", pca=pca)
    diagnostics = fit(chosen, blobs.train.rows(slice(rows)).latents()).provenance["diagnostics"]
    assert diagnostics == {"rank": rows - 4, "width": pca, "classes": 4}
