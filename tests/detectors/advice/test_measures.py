"""Measures of ID rows: against slow formulas, on known cases, and on rows that lack something."""

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis

from latentood.detectors.advice import sums
from latentood.detectors.advice.measures import FEWEST, MEASURES, of_entropies, of_layer, of_network
from latentood.errors import DataError
from latentood.latents import Key, Latents
from latentood.latents import latents as module
from tests.detectors.advice.examples import latents, rows
from tests.references import collapse as slow

KEY = Key("features", "penultimate")


def fit_values(table):
    return {name: one.fit for name, one in table.items()}


@pytest.mark.parametrize("chunk", [7, 4096])
def test_measures_of_a_layer_are_those_of_the_slow_formulas(chunk, monkeypatch):
    monkeypatch.setattr(Latents.chunks, "__defaults__", (chunk,))
    given = rows(spread=1.5, shift=0.3, relu=True)
    h, y = given["features"]["penultimate"].numpy(), given["labels"].numpy()
    weight, z = given["head"][0].numpy(), given["logits"].numpy()
    means, spectrum = slow.class_means(h, y), slow.eigenvalues(h)
    norms, wrong = np.linalg.norm(h, axis=1), z.argmax(axis=1) != y
    nearest = slow.nearest_mean(h, means)
    expected = {
        "width": 12, "width_by_classes": 3, "rows_by_width": 20, "class_rows_by_width": 5,
        "rectified": 1, "zeros": np.mean(h == 0), "negatives": 0, "sparsity": slow.hoyer(h),
        "norm": norms.mean(), "norm_spread": norms.std() / norms.mean(),
        "norm_logit": np.corrcoef(norms, z.max(axis=1))[0, 1],
        "norm_wrong": norms[wrong].mean() / norms[~wrong].mean(),
        "kurtosis": kurtosis(h, axis=0).mean(),
        "effective_rank": slow.effective_rank(spectrum),
        "effective_share": slow.effective_rank(spectrum) / 12,
        "participation": spectrum.sum() ** 2 / (spectrum**2).sum(),
        "class_directions": spectrum[:3].sum() / spectrum.sum(),
        "condition": spectrum[0] / spectrum[-1], "dead": 0,
        "nc1": slow.nc1(h, y), "nc2_norms": slow.nc2_norms(h, y),
        "nc2_angles": slow.nc2_angles(h, y), "nc2_simplex": slow.nc2_simplex(h, y),
        "nc3": slow.nc3(h, y, weight), "nc4": np.mean(nearest == z.argmax(axis=1)),
        "fisher": slow.fisher(h, y), "silhouette": slow.silhouette(h, y, means),
        "ncm_accuracy": np.mean(nearest == y),
    }  # fmt: skip
    assert wrong.any()
    table = of_layer(KEY, Latents(**given), None)
    assert set(table) == {name for name, one in MEASURES.items() if one.of == "layer"}
    assert fit_values(table) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_val_rows_are_measured_against_the_means_of_the_fit_rows():
    fit, val = rows(spread=1.5), rows(spread=1.5, seed=1, each=11, shift=0.4)
    table = of_layer(KEY, Latents(**fit), Latents(**val))
    h, y = fit["features"]["penultimate"].numpy(), fit["labels"].numpy()
    means = slow.class_means(h, y)
    v, u = val["features"]["penultimate"].numpy(), val["labels"].numpy()
    assert table["silhouette"].val == pytest.approx(slow.silhouette(v, u, means), rel=1e-12)
    assert table["ncm_accuracy"].val == np.mean(slow.nearest_mean(v, means) == u)
    between = sum(np.outer(m, m) for m in slow.centred(h, y)) / 4
    inverse = np.linalg.pinv(between, rcond=1e-12)
    nc1 = np.mean([(a - means[c]) @ inverse @ (a - means[c]) for a, c in zip(v, u, strict=True)])
    assert table["nc1"].val == pytest.approx(nc1 / 4, rel=1e-10)
    assert table["effective_rank"].val is None


def test_classes_of_different_size_and_classes_without_rows():
    given = rows(classes=5)
    kept = given["labels"] != 1
    kept[given["labels"] == 3] = torch.arange(60) < 25
    for name in ("labels", "logits"):
        given[name] = given[name][kept]
    given["features"] = {"penultimate": given["features"]["penultimate"][kept]}
    table = fit_values(of_layer(KEY, Latents(**given), None))
    h, y = given["features"]["penultimate"].numpy(), given["labels"].numpy()
    assert table["class_rows_by_width"] == pytest.approx(25 / 12)
    assert table["width_by_classes"] == 3
    weight = given["head"][0][[0, 2, 3, 4]].numpy()
    assert table["nc3"] == pytest.approx(slow.nc3(h, y, weight), rel=1e-10)
    assert table["nc1"] == pytest.approx(slow.nc1(h, y), rel=1e-9)
    places = np.searchsorted([0, 2, 3, 4], y)
    assert table["fisher"] == pytest.approx(slow.fisher(h, places), rel=1e-10)


def test_a_collapsed_layer_and_an_isotropic_one():
    collapsed = fit_values(of_layer(KEY, latents(spread=0.0), None))
    for name in ("nc1", "nc2_norms", "nc2_angles", "nc2_simplex", "nc3"):
        assert collapsed[name] == pytest.approx(0, abs=1e-12), name
    assert collapsed["nc4"] == collapsed["ncm_accuracy"] == collapsed["silhouette"] == 1
    assert collapsed["effective_rank"] == pytest.approx(3)
    assert collapsed["class_directions"] == pytest.approx(1)
    assert collapsed["dead"] == 0.75
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 8, generator=generator, dtype=torch.float64)
    labels = torch.arange(20_000) % 4
    blob = fit_values(of_layer(KEY, Latents(features={"penultimate": noise}, labels=labels), None))
    assert blob["effective_rank"] == pytest.approx(8, rel=2e-3)
    assert blob["kurtosis"] == pytest.approx(0, abs=0.1)
    assert blob["nc1"] > 100
    assert blob["ncm_accuracy"] < 0.3


def test_a_common_offset_costs_no_digits():
    near, far = (
        fit_values(of_layer(KEY, latents("head", "logits", shift=shift), None))
        for shift in (0.0, 1e5)
    )
    for name in ("nc1", "nc2_simplex", "fisher", "silhouette", "kurtosis", "effective_rank"):
        assert far[name] == pytest.approx(near[name], rel=1e-6), name


@pytest.mark.parametrize(
    ("leave_out", "missing", "kept"),
    [
        (("labels",), {"nc1": "no labels", "norm_wrong": "no labels"}, ("nc4", "kurtosis")),
        (("head",), {"nc3": "no head"}, ("nc1", "nc4")),
        (("logits",), {"nc4": "no logits", "norm_logit": "no logits"}, ("nc1", "nc3")),
    ],
)
def test_what_is_not_there_is_said_and_the_rest_is_measured(leave_out, missing, kept):
    table = of_layer(KEY, latents(*leave_out), None)
    if leave_out == ("labels",):
        kept, missing = ("kurtosis", "norm_logit"), missing | {"nc4": "no labels"}
    for name, why in missing.items():
        assert table[name].fit is None
        assert why in table[name].missing, name
    assert all(table[name].fit is not None for name in kept)


def test_one_class_few_rows_and_rows_without_spread_leave_measures_out():
    given = rows()
    given["labels"] = torch.zeros_like(given["labels"])
    one = of_layer(KEY, Latents(**given), None)
    assert one["nc1"].missing == one["class_directions"].missing == "all rows are of one class"
    assert one["effective_rank"].fit is not None
    few = of_layer(KEY, latents(each=4), None)
    assert few["nc1"].missing == few["kurtosis"].missing == f"16 fit rows are fewer than {FEWEST}"
    assert few["rows_by_width"].fit == pytest.approx(4 / 3)
    given = rows()
    given["features"] = {"penultimate": torch.full((240, 12), 0.1)}
    flat = of_layer(KEY, Latents(**given), None)
    assert flat["effective_rank"].missing == flat["kurtosis"].missing == "all rows are equal"
    assert flat["nc1"].missing == "all class means are equal"
    assert flat["dead"].fit == 1
    assert flat["norm_spread"].fit == pytest.approx(0, abs=1e-7)


def test_labels_that_are_no_classes_count_as_none():
    given = rows()
    given["labels"] = given["labels"] - 1
    table = of_layer(KEY, Latents(**given), None)
    assert "labels must be ≥ 0" in table["nc1"].missing
    assert table["norm_logit"].fit is not None


def test_a_class_that_val_alone_has_is_left_out_of_class_measures():
    val = rows(seed=1, classes=5, each=20)
    val["logits"] = val["logits"][:, :4]
    val["head"] = (val["head"][0][:4], torch.zeros(4))
    fit = rows()
    kept = val["labels"] < 4
    alone = {**val, "labels": val["labels"][kept], "logits": val["logits"][kept]}
    alone["features"] = {"penultimate": val["features"]["penultimate"][kept]}
    del val["logits"], val["head"], alone["logits"], alone["head"]
    both = [of_layer(KEY, Latents(**fit), Latents(**one))["nc1"].val for one in (val, alone)]
    assert both[0] == pytest.approx(both[1], rel=1e-12)


def test_a_value_that_is_not_finite_names_its_row():
    given = rows()
    given["features"]["penultimate"][5, 2] = torch.nan
    with pytest.raises(DataError, match="row 5"):
        of_layer(KEY, Latents(**given), None)
    with pytest.raises(DataError, match="row 5"):
        of_layer(KEY, latents(), Latents(**given, name="val"))


def test_measures_of_predictions_and_passes():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=generator, dtype=torch.float64) * 5
    labels = torch.arange(50) % 3
    passes = torch.randn(50, 4, 3, generator=generator, dtype=torch.float64) * 3
    table = fit_values(of_network(Latents(logits=logits, labels=labels, mc_logits=passes), None))
    p = logits.softmax(dim=1).sort(dim=1, descending=True).values
    accuracy = float((logits.argmax(dim=1) == labels).double().mean())
    q = passes.softmax(dim=2)
    mean = q.mean(dim=1)
    information = -(mean * mean.log()).sum(dim=1) + (q * q.log()).sum(dim=2).mean(dim=1)
    expected = {
        "classes": 3,
        "accuracy": accuracy,
        "confidence": float(p[:, 0].mean()),
        "overconfidence": float(p[:, 0].mean()) - accuracy,
        "margin": float((p[:, 0] - p[:, 1]).mean()),
        "certain": float((p[:, 0] > sums.CERTAIN).double().mean()),
        "pass_information": float(information.mean() / np.log(3)),
        "evidential": 0,
    }
    assert table == pytest.approx(expected, rel=1e-9)
    bare = of_network(Latents(features={"penultimate": torch.ones(30, 2)}), None)
    assert bare["accuracy"].missing == "there are no logits"
    assert "passes were not kept" in bare["pass_information"].missing
    assert of_network(Latents(dirichlet=logits), None)["evidential"].fit == 1


def test_measures_of_entropies():
    generator = torch.Generator().manual_seed(0)
    entropies = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    entropies[:, 0] = -4
    key = Key("mc.entropy", "layer1")
    table = fit_values(of_entropies(key, Latents(mc_entropy={"layer1": entropies}), None))
    assert table["entropy_spread"] == pytest.approx(
        float(entropies.std(dim=0, correction=0).mean())
    )
    assert table["entropy_constant"] == pytest.approx(0.2)
    assert table["entropy_rows"] == 40
    assert 3 < table["entropy_rank"] <= 4
    flat = of_entropies(key, Latents(mc_entropy={"layer1": torch.ones(50, 3)}), None)
    assert flat["entropy_rank"].missing == "entropies are all equal"
    assert flat["entropy_constant"].fit == 1


def test_nothing_grows_with_the_square_of_the_rows(monkeypatch):
    """The products of a chunk are rows by classes, never rows by rows."""
    largest = []
    real = torch.addmm

    def watched(*arguments, **options):
        result = real(*arguments, **options)
        largest.append(tuple(result.shape))
        return result

    monkeypatch.setattr(torch, "addmm", watched)
    of_layer(KEY, latents(each=1500), None)
    assert set(largest) == {(module.CHUNK_ROWS, 4), (6000 - module.CHUNK_ROWS, 4)}
