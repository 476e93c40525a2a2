"""The verbs: what the command line and Python both call."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

import latentood as lo
from latentood import workflows
from latentood.detectors.registry import detector
from latentood.errors import ConfigError, DataError, DetectorError, MissingInput, UnknownName
from latentood.evaluation.scoring import score_all
from latentood.latents.splits import SplitsInMemory
from latentood.testing.blobs import make_blobs

NETS = "tests.extraction.nets"
NAMES = ("msp", "mahalanobis", "knn", "temp_scaling", "larem")


@pytest.fixture(scope="module")
def rows():
    """Arguments of ``score`` as latents, two sets of each kind of OOD rows."""
    blobs, others = make_blobs().rectified(), make_blobs(seed=1).rectified()
    return {
        "train": blobs.train.latents("train"),
        "val": others.id.latents("val"),
        "id": blobs.id.latents("id"),
        "near": {"close": blobs.far.rows(slice(30)).latents("close")},
        "far": {
            "noise": blobs.far.latents("noise"),
            "texture": others.far.latents("texture"),
        },
    }


def as_mapping(latents):
    """The keyword arguments that make these latents, as NumPy arrays."""
    given = {"head": tuple(part.numpy() for part in latents.head)}
    for key in latents.keys():  # noqa: SIM118
        kind, _, layer = key.partition("/")
        name = kind.replace(".", "_")
        if layer:
            given.setdefault(name, {})[layer] = latents[key].numpy()
        elif key != "head":
            given[name] = latents[key].numpy()
    return given


@pytest.fixture(scope="module")
def mappings(rows):
    """The same arguments as mappings of arrays."""
    return {
        part: {name: as_mapping(one) for name, one in given.items()}
        if isinstance(given, dict)
        else as_mapping(given)
        for part, given in rows.items()
    }


@pytest.fixture(scope="module")
def expected(rows):
    """The comparison of the same arrays as splits in memory."""
    splits = SplitsInMemory.of(
        fit=("fit", rows["train"]),
        val=("val", rows["val"]),
        id=("id", rows["id"]),
        close=("near", rows["near"]["close"]),
        noise=("far", rows["far"]["noise"]),
        texture=("far", rows["far"]["texture"]),
    )
    return score_all(splits, [detector(name) for name in NAMES], device="cpu")


def assert_same(one, other):
    """Two comparisons have the same detectors, splits, scores and numbers."""
    assert [(s.name, s.role) for s in one.splits] == [(s.name, s.role) for s in other.splits]
    assert one.failed == other.failed == ()
    for mine, theirs in zip(one.results, other.results, strict=True):
        assert mine.request == theirs.request
        assert mine.scores.keys() == theirs.scores.keys()
        for split, scores in mine.scores.items():
            np.testing.assert_array_equal(scores, theirs.scores[split])
        assert mine.averages == theirs.averages


def raw(**changes):
    """A pipeline of a small network, as a mapping."""

    def images(role, count, seed):
        return {
            "role": role,
            "target": f"{NETS}.Images",
            "args": {"rows": count, "seed": seed},
        }

    given = {
        "name": "small",
        "model": {"target": f"{NETS}.OwnDropout"},
        "layers": ["conv1", "conv2", "penultimate"],
        "monte_carlo": {"passes": 4, "activate": True, "keep": ["entropy", "logits"]},
        "splits": {
            "train": images("fit", 60, 0),
            "val": images("val", 30, 1),
            "id": images("id", 23, 2),
            "far": {
                "role": "far",
                "target": "latentood.data.GaussianNoise",
                "args": {"length": 17, "shape": [3, 8, 8]},
            },
        },
        "extract": {"block_rows": 16, "batch_size": 5, "device": "cpu"},
    }
    return given | changes


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The pipeline as a file."""
    path = tmp_path_factory.mktemp("pipelines") / "small.yaml"
    path.write_text(yaml.safe_dump(raw()))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A cache of that pipeline."""
    path = tmp_path_factory.mktemp("stores") / "small.zarr"
    assert lo.extract(raw(), path).finished
    return path


# score


@pytest.mark.parametrize("form", ["latents", "mappings"])
def test_arrays_in_memory_score_as_the_same_arrays_as_splits(form, rows, mappings, expected):
    given = rows if form == "latents" else mappings
    assert_same(lo.score(detectors=list(NAMES), device="cpu", **given), expected)


def test_latents_and_mappings_may_be_given_together(rows, mappings, expected):
    mixed = {**rows, "train": mappings["train"], "far": {**rows["far"]}}
    mixed["far"]["noise"] = mappings["far"]["noise"]
    assert_same(lo.score(detectors=list(NAMES), device="cpu", **mixed), expected)


def test_detectors_may_be_objects_names_or_both(rows, expected):
    objects = [detector(name) for name in NAMES]
    assert_same(lo.score(detectors=objects, device="cpu", **rows), expected)
    assert_same(lo.score(detectors=",".join(NAMES), device="cpu", **rows), expected)
    both = [*NAMES[:3], *objects[3:]]
    assert_same(lo.score(detectors=both, device="cpu", **rows), expected)


def test_objects_are_scored_with_their_own_hyperparameters_and_nothing_is_added(rows):
    chosen = [detector("knn", k=3), detector("mahalanobis", layer="gram")]
    comparison = lo.score(detectors=chosen, device="cpu", **rows)
    requests = [result.request for result in comparison.results]
    assert [(one.detector, one.layer) for one in requests] == [
        ("knn", "penultimate"), ("mahalanobis", "gram"),
    ]  # fmt: skip
    assert requests[0].hyperparameters["k"] == 3
    assert comparison.skipped == ()


def test_layers_and_settings_are_those_of_the_names(rows):
    comparison = lo.score(
        detectors="knn", layers="gram,penultimate", settings=["knn.k=3,5"], device="cpu", **rows
    )
    tried = {(r.request.layer, r.request.hyperparameters["k"]) for r in comparison.results}
    assert tried == {("gram", 3), ("gram", 5), ("penultimate", 3), ("penultimate", 5)}


def test_without_names_every_detector_is_scored(rows):
    few = {part: rows[part] for part in ("train", "id", "far")}
    comparison = lo.score(device="cpu", **few)
    names = {result.request.detector for result in comparison.results}
    skipped = {one.request.detector for one in comparison.skipped}
    assert comparison.failed == ()
    assert names | skipped == set(lo.registry())
    assert "mahalanobis" in names
    assert "temp_scaling" in skipped, "it needs val="


def test_a_cache_may_be_given_open_by_its_path_or_as_text(store):
    cache = lo.open_cache(store)
    by_cache = lo.score(cache, detectors="mahalanobis", device="cpu")
    assert_same(by_cache, score_all(cache, [detector("mahalanobis")], device="cpu"))
    for source in (store, str(store)):
        assert_same(lo.score(source, detectors="mahalanobis", device="cpu"), by_cache)


def test_memory_is_bytes_or_a_size_with_a_unit(rows):
    for memory, size in ((0, 0), ("1MiB", 1 << 20), (12345, 12345)):
        comparison = lo.score(detectors="msp", memory=memory, device="cpu", **rows)
        assert comparison.provenance["memory"]["budget"] == size


def test_a_cache_and_arrays_together_are_refused(rows, store):
    message = (
        r"^score: must be given a cache, or rows as train=, id= and near= or far=, got both; "
        "name one of them$"
    )
    with pytest.raises(ConfigError, match=message):
        lo.score(store, detectors="msp", id=rows["id"])
    with pytest.raises(ConfigError, match=message):
        lo.score(lo.open_cache(store), detectors="msp", far=rows["far"])


@pytest.mark.parametrize("given", [{}, {"near": {}, "far": {}}, {"train": None}], ids=str)
def test_neither_a_cache_nor_arrays_is_refused(given):
    message = (
        r"^score: must be given a cache, or rows as train=, id= and near= or far=, got neither; "
        "name one of them$"
    )
    with pytest.raises(ConfigError, match=message):
        lo.score(detectors="msp", **given)


@pytest.mark.parametrize("name", ["noise", "id", "val"])
def test_the_same_name_twice_is_refused(rows, name):
    twice = {**rows, "near": {name: rows["near"]["close"]}}
    message = (
        rf"^score: each set of rows must have a name of its own, got {name!r} twice; rename one$"
    )
    with pytest.raises(ConfigError, match=message):
        lo.score(detectors="msp", device="cpu", **twice)


@pytest.mark.parametrize(
    ("lacking", "role"), [("train", "fit"), ("id", "id"), ("near far", "near, far or mixed")]
)
def test_a_part_that_is_not_given_is_named(rows, lacking, role):
    given = {part: one for part, one in rows.items() if part not in lacking.split()}
    with pytest.raises(ConfigError, match=rf"^score: needs (exactly|at least) one .*role {role}"):
        lo.score(detectors="mahalanobis", device="cpu", **given)


@pytest.mark.parametrize(("own", "name"), [({}, "noise"), ({"name": "mine"}, "mine")], ids=str)
def test_messages_name_rows_as_their_mapping_does_or_else_as_they_were_given(
    rows, mappings, own, name
):
    spoilt = {**mappings["far"]["noise"], **own}
    spoilt["features"] = {"penultimate": np.full((80, 16), np.nan)}
    given = {**rows, "far": {"noise": spoilt}}
    comparison = lo.score(detectors="mahalanobis", device="cpu", **given)
    reason = comparison.failed[0].reason
    assert reason.startswith(f"{name}: features/penultimate must be finite")


@pytest.mark.parametrize("wrong", [lo.Latents, 3, None], ids=str)
def test_what_is_neither_a_name_nor_a_detector_is_refused(rows, wrong):
    with pytest.raises(ConfigError, match=r"^score: detectors must be names or detectors, got "):
        lo.score(detectors=["msp", wrong], device="cpu", **rows)


def test_fitted_detectors_need_no_rows_to_fit_on(rows, tmp_path):
    fitted = lo.fit("mahalanobis", rows["train"])
    fitted.save(tmp_path / "m.safetensors")
    scored = {part: rows[part] for part in ("id", "far")}
    for one in (fitted, tmp_path / "m.safetensors", str(tmp_path / "m.safetensors")):
        comparison = lo.score(fitted=[one], device="cpu", **scored)
        (result,) = comparison.results
        noise = fitted.score(rows["far"]["noise"]).numpy()
        np.testing.assert_array_equal(result.scores["noise"], noise)


# publish


def test_a_comparison_is_published_in_a_folder_and_tracked_only_where_asked_for(
    rows, tmp_path, monkeypatch
):
    comparison = lo.score(detectors="msp", device="cpu", **rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    files = lo.publish(comparison, "results", tracking="none")
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "results.csv", "results.json", "scores.parquet", "classes.csv",
    }  # fmt: skip
    assert (files.tracking, files.tracking_error) == (None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    uri = f"sqlite:///{tmp_path / 'own.db'}"
    assert lo.publish(comparison, "results", tracking=uri).tracking == uri
    assert (tmp_path / "own.db").is_file()
    written = json.loads(files.results["json"].read_text())
    assert written["rows"][0]["auroc"] == comparison.rows[0].auroc


def test_results_are_written_although_the_tracking_store_is_not_there(rows, tmp_path):
    comparison = lo.score(detectors="msp", device="cpu", **rows)
    files = lo.publish(comparison, tmp_path / "r", tracking="http://127.0.0.1:9")
    assert files.tracking is None
    assert files.tracking_error.startswith("tracking: http://127.0.0.1:9 must take the runs")
    assert all(path.is_file() for path in files.results.values())


def test_results_lie_beside_the_cache_unless_another_folder_is_named(tmp_path):
    assert workflows.results_folder(tmp_path / "a.zarr") == tmp_path / "a-results"
    assert workflows.results_folder(f"{tmp_path}/b/") == tmp_path / "b-results"


# fit


@pytest.mark.parametrize("name", ["mahalanobis", "temp_scaling", "larem"])
def test_fitting_by_name_on_a_cache_is_fitting_the_detector_on_its_rows(store, name):
    cache = lo.open_cache(store)
    layer = "conv2" if name == "larem" else None
    chosen = detector(name, layer=layer) if layer else detector(name)
    alone = lo.fit(chosen, cache["train"], cache["val"])
    for source in (store, str(store), cache):
        fitted = lo.fit(name, source, layer=layer, device="cpu")
        assert fitted.detector == alone.detector
        assert fitted.state.keys() == alone.state.keys()
        for part, values in alone.state.items():
            assert torch.equal(fitted.state[part], values)
        assert torch.equal(fitted.score(cache["far"]), alone.score(cache["far"]))


def test_a_detector_fitted_on_a_cache_knows_which_and_one_fitted_on_rows_does_not(store):
    cache = lo.open_cache(store)
    provenance = lo.fit(detector("mahalanobis"), store, device="cpu").provenance
    assert provenance["cache"]["digest"] == cache.header.digest
    assert provenance["fit"]["rows"] == 60
    assert "cache" not in lo.fit("mahalanobis", cache["train"]).provenance


def test_a_name_on_latents_takes_its_layer_and_settings(rows):
    fitted = lo.fit("knn", rows["train"], layer="gram", settings=["knn.k=3", "knn.normalise=false"])
    alone = lo.fit(detector("knn", layer="gram", k=3, normalise=False), rows["train"])
    assert fitted.detector == alone.detector
    far = rows["far"]["noise"]
    assert torch.equal(fitted.score(far), alone.score(far))
    assert not torch.equal(fitted.score(far), lo.fit("knn", rows["train"]).score(far))


def test_a_name_on_latents_takes_its_entropies(rows):
    fitted = lo.fit("mahalanobis", rows["train"], layer="mc.entropy/penultimate")
    assert fitted.detector.needs().score == ("mc.entropy/penultimate",)


def test_a_name_on_latents_takes_its_validation_rows(rows):
    fitted = lo.fit("temp_scaling", rows["train"], rows["val"])
    alone = lo.fit(detector("temp_scaling"), rows["train"], rows["val"])
    assert torch.equal(fitted.score(rows["id"]), alone.score(rows["id"]))
    with pytest.raises(MissingInput, match=r"^temp_scaling: needs "):
        lo.fit("temp_scaling", rows["train"])


@pytest.mark.parametrize("asked", ["mahalanobis", detector("mahalanobis")], ids=["name", "object"])
def test_no_rows_to_fit_on_are_refused(asked):
    empty = lo.Latents(
        features={"penultimate": torch.zeros(0, 3)}, labels=torch.zeros(0, dtype=torch.int64)
    )
    with pytest.raises(
        DataError, match=r"^latents: there are no rows to fit mahalanobis on; give at least one"
    ):
        lo.fit(asked, empty)


def test_a_request_for_several_detectors_cannot_be_fitted(rows, store):
    message = (
        r"^fit: must be for one detector with one value for each hyperparameter, got 2; "
        "name one detector, one layer and one value each$"
    )
    for source in (rows["train"], store):
        with pytest.raises(ConfigError, match=message):
            lo.fit("knn", source, settings=["knn.k=3,5"])
        with pytest.raises(ConfigError, match=message):
            lo.fit("knn,msp", source)


@pytest.mark.parametrize("source", ["latents", "cache"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layer": "conv1"}, "layer='conv1' beside"),
        ({"settings": ["knn.k=5"]}, r"settings=\['knn.k=5'\] beside"),
        (
            {"layer": "conv1", "settings": ("knn.k=5", "knn.k=6")},
            r"layer='conv1', settings=\['knn.k=5', 'knn.k=6'\] beside",
        ),
    ],
)
def test_a_layer_or_settings_beside_an_object_are_refused(rows, store, source, options, named):
    train = store if source == "cache" else rows["train"]
    with pytest.raises(ConfigError, match=f"got {named} an object of knn; set them on the object"):
        lo.fit(detector("knn", k=5), train, **options)


def test_wrong_names_settings_and_devices_are_refused(rows, store):
    with pytest.raises(UnknownName, match=r"^no detector named 'mahalanobs'; did you mean"):
        lo.fit("mahalanobs", rows["train"])
    with pytest.raises(UnknownName, match=r"^no cached layer named 'grm'; did you mean 'gram'"):
        lo.fit("knn", rows["train"], layer="grm")
    with pytest.raises(DetectorError, match=r"^knn: k must be ≥ 1, got 0"):
        lo.fit("knn", rows["train"], settings=["knn.k=0"])
    with pytest.raises(ConfigError, match=r"^device 'tpu': cannot be used here"):
        lo.fit("knn", store, device="tpu")


def test_a_cache_without_a_fit_split_cannot_be_fitted_on(tmp_path):
    lo.extract(raw(), tmp_path / "s", splits=["id", "far"])
    with pytest.raises(ConfigError, match="needs exactly one split of role fit"):
        lo.fit("mahalanobis", tmp_path / "s")


# extract, estimate, layers


def test_an_older_name_of_extract_stays():
    assert lo.build_cache is lo.extract
    assert lo.extract is workflows.extract


@pytest.mark.parametrize("form", ["path", "text", "mapping", "pipeline"])
def test_extract_takes_a_file_a_mapping_and_a_pipeline_alike(form, file, store, tmp_path):
    given = {
        "path": file,
        "text": str(file),
        "mapping": raw(),
        "pipeline": lo.parse_pipeline(raw()),
    }[form]
    summary = lo.extract(given, tmp_path / "s")
    assert summary.computed == {"train": 60, "val": 30, "id": 23, "far": 17}
    expected, made = lo.open_cache(store), lo.open_cache(tmp_path / "s")
    assert made.header.digest == expected.header.digest
    assert made.splits.keys() == expected.splits.keys()
    for split in expected.splits:
        assert made[split].keys() == expected[split].keys()
        for key in expected[split].keys():  # noqa: SIM118
            if key != "head":
                assert torch.equal(made[split][key], expected[split][key]), (split, key)


def test_keys_of_a_file_can_be_overridden(file, tmp_path):
    summary = lo.extract(
        file, tmp_path / "s", overrides=["extract.batch_size=7", "monte_carlo=null"]
    )
    assert summary.batch_size == 7
    keys = lo.open_cache(tmp_path / "s")["id"].keys()
    assert not any(key.startswith("mc.") for key in keys)


def test_arguments_of_extract_stand_before_what_the_pipeline_says(tmp_path):
    calls = []
    options = {"splits": ["id"], "limit": 9, "batch_size": 4}
    first = lo.extract(raw(), tmp_path / "s", **options, progress=lambda *now: calls.append(now))
    assert (first.rows, first.batch_size) == ({"id": 9}, 4)
    assert calls[-1][:3] == ("id", 9, 9)
    again = lo.extract(raw(), tmp_path / "s", **options)
    assert again.computed == {"id": 0}
    anew = lo.extract(raw(), tmp_path / "s", **options, overwrite=True)
    assert anew.computed == {"id": 9}


@pytest.mark.parametrize("form", ["path", "mapping"])
def test_an_estimate_counts_what_extract_would_write_and_writes_nothing(form, file, tmp_path):
    given = file if form == "path" else raw()
    options = {"splits": ["train", "id"], "limit": 20, "batch_size": 4}
    counted = lo.estimate(given, tmp_path / "s", **options)
    assert counted.rows == {"train": 20, "id": 20}
    assert counted.batch_size == 4
    assert counted.array_bytes["id"]["features/penultimate"] == 20 * 6 * 4
    assert list(tmp_path.iterdir()) == []
    lo.extract(given, tmp_path / "s", **options)
    stored = {facts.name: facts for facts in lo.open_cache(tmp_path / "s").splits.values()}
    for split, arrays in counted.array_bytes.items():
        assert arrays == {a.key: a.nbytes * stored[split].rows for a in stored[split].arrays}


@pytest.mark.parametrize("form", ["path", "mapping", "pipeline"])
def test_the_layers_of_a_pipeline_are_listed_with_its_head(form, file):
    given = {"path": file, "mapping": raw(), "pipeline": lo.parse_pipeline(raw())}[form]
    facts = {one.name: one for one in lo.layers(given)}
    assert {"conv1", "conv2", "drop1", "drop2", "alpha", "fc"} <= facts.keys()
    assert facts["conv1"].shape == (6, 8, 8)
    assert [name for name, one in facts.items() if one.head] == ["fc"]
    noise = {name for name, one in facts.items() if one.stochastic}
    assert noise == {"drop1", "drop2", "alpha"}


def test_a_pipeline_file_that_is_not_there_is_named(tmp_path):
    for verb in (lo.layers, lambda path: lo.estimate(path, tmp_path / "s")):
        with pytest.raises(ConfigError, match=r"none\.yaml.*cannot be read"):
            verb(tmp_path / "none.yaml")


# the public face


@pytest.mark.parametrize("name", lo.__all__)
def test_every_public_name_leads_somewhere(name):
    assert getattr(lo, name) is not None
    assert name in dir(lo)


def test_a_name_that_is_not_public_is_refused():
    with pytest.raises(AttributeError, match="module 'latentood' has no attribute 'scores'"):
        _ = lo.scores


@pytest.mark.parametrize("heavy", ["torch", "pydantic"])
def test_importing_the_package_loads_neither_torch_nor_pydantic(heavy):
    code = "import sys, latentood; print(latentood.__version__, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, *modules = done.stdout.split()
    assert version == lo.__version__
    assert "latentood" in modules
    assert [name for name in modules if name.partition(".")[0] == heavy] == []
