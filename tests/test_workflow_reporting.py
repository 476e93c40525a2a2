"""``lo.report``: a page from results, a cache and the data sets of its pipeline."""

import json
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

import latentood as lo
from latentood.errors import ConfigError
from latentood.latents.splits import MemberSplits
from latentood.report.html import read_document
from latentood.workflows import report_inputs, reporting
from tests.extraction.members.test_extract_cells import extract as extract_cells
from tests.extraction.members.test_extract_cells import pipeline as cells_pipeline
from tests.extraction.run.test_runner import NETS, pipeline

DETECTORS = ["msp", "knn", "larem", "mcd_msp"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A cache, and its results beside it."""
    path = tmp_path_factory.mktemp("report") / "small.zarr"
    lo.extract(pipeline(), path)
    comparison = lo.score(path, detectors=DETECTORS, settings=["knn.k=5"], device="cpu")
    lo.publish(comparison, path.with_name("small-results"), tracking="none")
    return path


def written(path):
    """Give the page, and the data of its charts."""
    text = path.read_text(encoding="utf-8")
    return text, json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_verb_keeps_its_name_beside_the_folder():
    code = (
        "import latentood.report.html.page, latentood as lo\n"
        "from latentood import report\n"
        "from latentood.report import results\n"
        "assert lo.report is report is lo.workflows.report, lo.report\n"
        "assert results.__name__ == 'latentood.report.results'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_report_of_a_cache_has_its_features_passes_calibration_and_images(store, tmp_path):
    path = lo.report(store, tmp_path / "new" / "report.html", images=pipeline(), device="cpu")
    text, data = written(path)
    assert path == tmp_path / "new" / "report.html"
    assert {"PCA"} <= {one["name"] for one in data["projection"]["maps"]}
    assert "PCA of features/penultimate: the axes are those of train" in text
    lines = {(one["title"], one["role"]): one for one in data["convergence"]}
    assert ("mcd_msp · mc.logits", "far") in lines
    assert lines["mcd_msp · mc.logits", "far"]["passes"] == [2, 4]
    assert sum(data["reliability"]["rows"]) == 23
    assert text.count('src="data:image/') > 20


def test_all_passes_give_the_numbers_of_the_results(store, tmp_path):
    _, data = written(lo.report(store, tmp_path / "r.html", device="cpu"))
    for line in data["convergence"]:
        (own,) = (one for one in data["detectors"] if one["title"] == line["title"])
        assert line["values"][-1] == pytest.approx(own["averages"][line["role"]], abs=1e-12)


def test_results_alone_have_a_page_that_says_what_is_missing(store, tmp_path):
    text, data = written(lo.report(store.with_name("small-results"), tmp_path / "r.html"))
    assert data["projection"] is None
    assert "give it with --store" in text
    assert "src=" not in text


def test_results_with_their_cache_are_the_report_of_the_cache(store, tmp_path):
    one = lo.report(store, tmp_path / "one.html", device="cpu").read_bytes()
    folder = store.with_name("small-results")
    assert lo.report(folder, tmp_path / "two.html", store=store, device="cpu").read_bytes() == one


def test_a_cache_without_results_is_scored_once_and_they_stay_beside_it(tmp_path, monkeypatch):
    cache = tmp_path / "c.zarr"
    lo.extract(pipeline(), cache)
    monkeypatch.setattr(reporting, "score", partial(lo.score, detectors="msp,energy"))
    first = lo.report(cache, tmp_path / "r.html", device="cpu").read_bytes()
    assert (tmp_path / "c-results" / "results.json").is_file()
    monkeypatch.setattr(reporting, "score", lambda *a, **k: pytest.fail("it was scored again"))
    assert lo.report(cache, tmp_path / "r.html", device="cpu").read_bytes() == first


def test_results_of_another_cache_are_refused(store, tmp_path):
    other = tmp_path / "other.zarr"
    lo.extract(pipeline(seed=3), other)
    with pytest.raises(
        ConfigError, match=r"must be of the cache .*other\.zarr, but are of another"
    ):
        lo.report(store.with_name("small-results"), tmp_path / "r.html", store=other)
    assert not (tmp_path / "r.html").exists()


def test_images_of_another_pipeline_are_refused(store, tmp_path):
    other = pipeline(splits__id={"role": "id", "target": f"{NETS}.Images", "args": {"rows": 9}})
    with pytest.raises(ConfigError, match=r"images of split 'id' must be those of the cache"):
        lo.report(store, tmp_path / "r.html", images=other, device="cpu")


def test_a_folder_with_neither_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"has neither results\.json nor zarr\.json; run latentood"
    ):
        lo.report(tmp_path, tmp_path / "r.html")


def test_a_cache_is_named_once(store, tmp_path):
    with pytest.raises(ConfigError, match=r"a cache must be given once"):
        lo.report(store, tmp_path / "r.html", store=store)


def test_the_axes_are_those_of_the_fit_split(store):
    document = read_document(store.with_name("small-results"))
    splits = MemberSplits(lo.open_cache(store), "image")
    made = report_inputs.projections(document, splits, {})
    fit = splits["train"].double("features/penultimate").numpy()
    rows = [splits[name].double("features/penultimate").numpy() for name in made["points"]]
    chosen = [one[made["points"][name]] for one, name in zip(rows, made["points"], strict=True)]
    expected = PCA(2).fit(fit).transform(np.concatenate(chosen))
    xy = made["projections"][0].xy
    np.testing.assert_allclose(np.abs(xy), np.abs(expected), atol=1e-6)


def test_no_more_rows_than_asked_are_projected_and_always_the_same(store, monkeypatch):
    monkeypatch.setattr(report_inputs, "_POINTS", 20)
    document = read_document(store.with_name("small-results"))
    splits = MemberSplits(lo.open_cache(store), "image")
    one, two = (report_inputs.projections(document, splits, {}) for _ in range(2))
    assert {name: len(rows) for name, rows in one["points"].items()} == {"id": 10, "far": 10}
    assert all(np.array_equal(one["points"][name], two["points"][name]) for name in one["points"])


class Umap:
    """In the place of the package."""

    def __init__(self, **options):
        assert options == {"n_components": 2, "random_state": 0, "n_jobs": 1}

    def fit_transform(self, rows):
        return rows[:, :2].astype(np.float32)


@pytest.mark.parametrize("installed", [True, False])
def test_umap_is_drawn_where_it_is_installed_and_named_where_it_is_not(
    store, tmp_path, monkeypatch, installed
):
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap) if installed else None)
    text, data = written(lo.report(store, tmp_path / "r.html", device="cpu"))
    names = [one["name"] for one in data["projection"]["maps"]]
    assert names == ["PCA", "UMAP"] if installed else ["PCA"]
    assert ("UMAP is not installed" in text) != installed


def test_the_gaps_of_the_diagram_add_up_to_the_ece(store):
    document = read_document(store.with_name("small-results"))
    splits = MemberSplits(lo.open_cache(store), "image")
    made = report_inputs.reliability(document, splits)
    bins = made["reliability"]
    gaps = [
        n * abs(c - a) for n, c, a in zip(bins.rows, bins.confidence, bins.accuracy, strict=True)
    ]
    assert sum(gaps) / sum(bins.rows) == pytest.approx(made["predictions"]["ece"], abs=1e-12)


def test_without_kept_passes_the_page_says_which_array_is_needed(tmp_path):
    cache = tmp_path / "c.zarr"
    lo.extract(pipeline(monte_carlo__keep=["entropy"]), cache)
    comparison = lo.score(cache, detectors=["msp", "larem"], device="cpu")
    lo.publish(comparison, tmp_path / "c-results", tracking="none")
    text, data = written(lo.report(cache, tmp_path / "r.html", device="cpu"))
    assert data["convergence"] == []
    assert "numbers of passes need &#x27;mc.features/" in text


def test_cells_have_a_page_without_images(tmp_path):
    cache = tmp_path / "road.zarr"
    wanted = cells_pipeline(monte_carlo=None, layers=("penultimate",))
    extract_cells(cache, wanted)
    comparison = lo.score(cache, detectors=["energy", "msp"], device="cpu")
    lo.publish(comparison, tmp_path / "road-results", tracking="none")
    text, data = written(lo.report(cache, tmp_path / "r.html", device="cpu"))
    assert "the tables count pixels, and the curves cells" in text
    assert data["projection"]["maps"]
    with pytest.raises(ConfigError, match="latentood score --maps draws cells and boxes"):
        lo.report(cache, tmp_path / "r.html", images=wanted, device="cpu")
