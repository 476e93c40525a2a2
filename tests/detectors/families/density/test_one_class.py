import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.testing.blobs import auroc
from tests.parity.agreement import assert_agrees

BORDERS = ["isolation_forest", "one_class_svm"]


def latents(features, name="train"):
    return Latents(features={"penultimate": features}, name=name)


@pytest.mark.parametrize(
    "options", [{"trees": 7, "seed": 4}, {"trees": 20, "subsample": 32}, {"subsample": 2}], ids=str
)
def test_any_forest_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "isolation_forest", **options)


@pytest.mark.parametrize(
    "options", [{"nu": 0.05}, {"nu": 0.95}, {"gamma": 2.0}, {"gamma": 1e-4}], ids=str
)
def test_any_support_vector_machine_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "one_class_svm", **options)


@pytest.mark.parametrize("name", BORDERS)
def test_entropies_do_as_features(blobs, name):
    assert_agrees(blobs, name, layer="mc.entropy/penultimate")


def test_a_forest_parts_rows_that_differ_in_some_dimension():
    rows = torch.randn(400, 3)
    fitted = fit(detector("isolation_forest"), latents(rows))
    near, far = (fitted.score(latents(torch.randn(100, 3) + shift)) for shift in (0.0, 4.0))
    assert auroc(near, far) > 0.99
    assert bool(((far > 0.5) & (far < 1)).all())


@pytest.mark.parametrize("name", BORDERS)
def test_fitting_again_gives_the_same_and_another_seed_another(blobs, name):
    options = {"rows": 100} if name == "one_class_svm" else {}
    first, again, other = (
        fit(detector(name, seed=seed, **options), blobs.train.latents()).score(blobs.far.latents())
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_support_vector_machine_sees_no_more_rows_than_asked_for(blobs):
    fitted = fit(detector("one_class_svm", rows=60, nu=0.5), blobs.train.latents())
    diagnostics = fitted.provenance["diagnostics"]
    assert diagnostics["rows"] == 60
    assert 30 <= diagnostics["support_vectors"] <= 60
    bank = {tuple(row) for row in blobs.train.features.tolist()}
    assert all(tuple(row) in bank for row in fitted.state["support"].tolist())


def test_a_border_that_leaves_all_rows_outside_is_refused(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("one_class_svm", nu=1.0), blobs.train.latents())
    assert str(caught.value) == (
        "one_class_svm: nu must leave room between the bounds of α, got nu=1 for 240 rows; lower "
        "nu, or use kde, which nu=1 amounts to"
    )


def test_support_vectors_keep_the_type_they_are_stored_in(blobs):
    train = latents(blobs.train.features.half())
    assert fit(detector("one_class_svm"), train).state["support"].dtype == torch.float16


def test_far_rows_are_told_apart_where_the_kernel_hardly_reaches(blobs):
    fitted = fit(detector("one_class_svm"), blobs.train.latents())
    away = torch.linspace(2.0, 25.0, 20, dtype=torch.float64).unsqueeze(1)
    scores = fitted.score(latents(blobs.far.features[:1] * away))
    assert bool((scores.diff() > 0).all())
    assert bool((scores < 0).all())


def test_a_forest_keeps_five_arrays_and_two_numbers(blobs):
    fitted = fit(detector("isolation_forest", trees=9, subsample=64), blobs.train.latents())
    assert fitted.provenance["diagnostics"] == {"subsample": 64, "depth": 6}
    shapes = {tuple(t.shape) for t in fitted.state.values() if t.dim() == 2}
    assert len(shapes) == 1
    assert next(iter(shapes))[0] == 9


@pytest.mark.parametrize("name", BORDERS)
@pytest.mark.parametrize("rows", [1, 50])
def test_rows_without_spread_are_refused(name, rows):
    with pytest.raises(DetectorError) as caught:
        fit(detector(name), latents(torch.full((rows, 3), 0.1)))
    assert str(caught.value) == (
        f"{name}: features/penultimate must vary between the rows of a fit, got {rows} rows of "
        '"train" without spread; extract more rows or choose another layer'
    )


def test_spread_that_float32_cannot_see_is_refused_by_the_forest():
    rows = 1.0 + 1e-12 * torch.randn(50, 3, dtype=torch.float64)
    with pytest.raises(DetectorError, match=r"^isolation_forest: .* without spread"):
        fit(detector("isolation_forest"), latents(rows))


@pytest.mark.parametrize("name", BORDERS)
def test_scoring_needs_no_scikit_learn(blobs, name, monkeypatch):
    fitted = fit(detector(name), blobs.train.latents())
    for module in ("sklearn.ensemble", "sklearn.svm"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    assert len(fitted.score(blobs.far.latents())) == 80
