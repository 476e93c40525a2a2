"""A head trained on the features of a cache: the same objectives and scores, without a network."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import latentood as lo
from latentood import sealed
from latentood.errors import (
    ConfigError,
    DamagedBlock,
    DataError,
    FingerprintMismatch,
    MissingInput,
    StoreError,
    UnknownName,
)
from latentood.models.heads import HEADS, FeatureClassifier, build_feature_head
from latentood.store.writer import SplitWriter
from latentood.training import cached
from latentood.training.train import train
from tests.training.test_loop import NETS, pipeline, same

FAR = {"role": "far", "target": f"{NETS}.Points", "args": {"labelled": False, "seed": 5}}
ID = {"role": "id", "target": f"{NETS}.Points", "args": {"seed": 2}}
ARRAYS = {
    "evidential": ("dirichlet",),
    "prior": ("dirichlet",),
    "posterior": ("dirichlet", "density"),
    "natural_posterior": ("dirichlet", "density"),
    "prototypes": ("distance",),
    "vos": ("weighted_logits",),
}


SETTINGS = {"vos": {"queue": 30, "start": 0.2}}


def described(objective="evidential", **training):
    reads = objective == "prior"
    return pipeline(
        rows=120,
        splits={"far": FAR, "id": ID},
        **{
            "objective": {"name": objective, **SETTINGS.get(objective, {})},
            "epochs": 6,
            "optimiser": {"target": "torch.optim.Adam", "args": {"lr": 0.02}},
            "outliers": "far" if reads else None,
            **training,
        },
    )


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    store = tmp_path_factory.mktemp("cached") / "c.zarr"
    raw = described().model_dump(mode="json")
    raw["extract"]["block_rows"] = 32
    raw["layers"] = ["penultimate", "body.2"]
    lo.extract(lo.parse_pipeline(raw), store)
    return store


@pytest.fixture
def store(extracted, tmp_path):
    return shutil.copytree(extracted, tmp_path / "c.zarr")


def files(store):
    return {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}


@pytest.mark.parametrize("objective", ARRAYS)
def test_what_a_head_gives_becomes_arrays_of_the_cache(store, objective):
    done = lo.train_head(described(objective), store)
    assert done.finished
    assert done.training.out == store.parent / "c-heads" / objective
    assert done.kept.arrays == tuple(f"{kind}/{objective}" for kind in ARRAYS[objective])
    assert done.kept.computed == {"train": 120, "val": 48, "id": 48, "far": 48}
    cache = lo.open_cache(store)
    document, tensors, _ = sealed.read(done.training.weights, AssertionError)
    head = build_feature_head(document, tensors, HEADS)
    for split in cache.splits:
        rows = cache[split]
        for kind, values in head.arrays(rows["features/penultimate"]).items():
            torch.testing.assert_close(rows[f"{kind}/{objective}"], values, rtol=1e-5, atol=1e-5)
    assert lo.verify(store) == []


def test_detectors_of_heads_are_scored_like_any_other(store):
    lo.train_head(described("evidential", epochs=20), store, name="edl")
    lo.train_head(described("posterior"), store, layer="body.2")
    results = lo.score(store, detectors="vacuity,posterior_density,msp").results
    layers = {(one.request.detector, one.request.layer) for one in results}
    assert layers == {
        ("vacuity", "dirichlet/edl"),
        ("vacuity", "dirichlet/posterior"),
        ("posterior_density", "density/posterior"),
        ("msp", "logits"),
    }


def test_a_head_learns_the_classes(store):
    done = lo.train_head(described("evidential", epochs=20), store)
    assert done.training.best["val_accuracy"] > 0.85


def test_the_arrays_of_a_cache_that_was_there_keep_their_bytes(store):
    before = files(store)
    lo.train_head(described(), store)
    after = files(store)
    changed = {path for path in before if before[path] != after.get(path)}
    assert {path.name for path in changed} == {"zarr.json"}  # of the splits, which list arrays
    assert {path.parent.parent.name for path in changed} == {"splits"}


def test_a_second_call_computes_nothing_and_changes_nothing(store):
    lo.train_head(described(), store)
    before = files(store)
    done = lo.train_head(described(), store)
    assert done.training.computed == 0
    assert set(done.kept.computed.values()) == {0}
    assert files(store) == before


def test_splits_extracted_later_get_their_arrays(store, tmp_path):
    lo.train_head(described(), store)
    raw = described().model_dump(mode="json")
    raw["splits"]["more"] = {**FAR, "args": {"labelled": False, "seed": 6}}
    raw["extract"]["block_rows"] = 32
    raw["layers"] = ["penultimate", "body.2"]
    lo.extract(lo.parse_pipeline(raw), store)
    assert "dirichlet/evidential" not in lo.open_cache(store)["more"]
    done = lo.train_head(described(), store)
    assert done.kept.computed == {"train": 0, "val": 0, "id": 0, "far": 0, "more": 48}
    assert "dirichlet/evidential" in lo.open_cache(store)["more"]


def test_a_stop_at_any_block_is_gone_on_from_to_the_same_bytes(store, tmp_path, monkeypatch):
    whole = shutil.copytree(store, tmp_path / "whole" / "c.zarr")
    lo.train_head(described(), whole)
    write = SplitWriter.write
    calls = []

    def killed(self, block, arrays):
        calls.append(block)
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return write(self, block, arrays)

    monkeypatch.setattr(SplitWriter, "write", killed)
    stops = 0
    while True:
        try:
            lo.train_head(described(), store)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 5
    assert files(store) == files(whole)


def test_a_fitted_detector_scores_rows_that_have_features_alone(store, tmp_path):
    lo.train_head(described(), store, name="edl")
    fitted = lo.fit("vacuity", store)
    fitted.save(tmp_path / "v.safetensors")
    loaded = lo.load(tmp_path / "v.safetensors")
    rows = lo.open_cache(store)["far"]
    own = lo.Latents(features={"penultimate": rows["features/penultimate"]})
    expected = lo.score(store, detectors="vacuity").results[0].scores["far"]
    np.testing.assert_allclose(loaded.score(own), expected, rtol=1e-6)
    assert torch.equal(loaded.score(own), fitted.score(own))
    with pytest.raises(MissingInput, match="head edl: needs 'features/penultimate'"):
        loaded.score(lo.Latents(logits=rows["logits"]))


def test_a_detector_that_reads_no_head_has_a_file_of_the_schema_before(store, tmp_path):
    lo.fit("knn", store).save(tmp_path / "k.safetensors")
    assert sealed.read_document(tmp_path / "k.safetensors")["schema"] == 2
    assert "heads" not in sealed.read_document(tmp_path / "k.safetensors")


def test_a_detector_fitted_on_one_head_does_not_score_the_arrays_of_another(store, tmp_path):
    other = shutil.copytree(store, tmp_path / "o" / "c.zarr")
    lo.train_head(described(), store, name="edl")
    lo.train_head(described(epochs=2), other, name="edl")
    fitted = lo.fit("vacuity", store)
    with pytest.raises(FingerprintMismatch, match="dirichlet/edl"):
        lo.score(other, fitted=[fitted])


def test_a_fitted_detector_scores_a_cache_without_the_arrays(store, tmp_path):
    other = shutil.copytree(store, tmp_path / "o" / "c.zarr")
    lo.train_head(described(), store, name="edl")
    fitted = lo.fit("vacuity", store)
    here = lo.score(store, fitted=[fitted]).results[0].scores["far"]
    there = lo.score(other, fitted=[fitted]).results[0].scores["far"]
    np.testing.assert_allclose(here, there, rtol=1e-6)


def test_another_head_of_the_same_name_is_refused_and_replaced_only_on_request(store):
    lo.train_head(described(), store)
    first = lo.open_cache(store)["far"]["dirichlet/evidential"]
    other = described(epochs=2)
    folder = store.parent / "other"
    with pytest.raises(FingerprintMismatch, match=r"another head named 'evidential'; .* --name"):
        lo.train_head(other, store, folder)
    assert torch.equal(lo.open_cache(store)["far"]["dirichlet/evidential"], first)
    done = lo.train_head(other, store, folder, overwrite=True)
    assert done.kept.computed["far"] == 48
    assert not torch.equal(lo.open_cache(store)["far"]["dirichlet/evidential"], first)
    assert lo.verify(store) == []
    lo.fit("vacuity", store)  # whose head is that of the arrays


def test_the_checkpoint_of_another_head_is_refused_with_advice_to_name_this_one(store):
    lo.train_head(described(), store)
    with pytest.raises(StoreError, match="choose another --name or --out, or --overwrite"):
        lo.train_head(described(epochs=2), store)


def test_heads_of_other_kinds_do_not_share_a_name(store):
    lo.train_head(described("posterior"), store, name="x")
    with pytest.raises(StoreError, match="written together"):
        lo.train_head(described(), store, store.parent / "y", name="x", overwrite=True)


def test_a_damaged_head_is_named_and_written_again(store):
    lo.train_head(described(), store)
    whole = files(store)
    file = store / "heads" / "evidential.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    problems = lo.verify(store)
    assert [str(one).split(":")[0] for one in problems] == ["heads/evidential"]
    lo.score(store, detectors="vacuity")  # the arrays are as they were
    with pytest.raises(DamagedBlock, match="run that command again"):
        lo.fit("vacuity", store)
    file.unlink()
    with pytest.raises(DamagedBlock, match=r"got no file; run that command again"):
        lo.fit("vacuity", store)
    lo.train_head(described(), store)
    assert lo.verify(store) == []
    assert files(store).keys() == whole.keys()


def test_overwriting_a_cache_removes_its_heads(store):
    lo.train_head(described(), store)
    raw = described().model_dump(mode="json")
    lo.extract(lo.parse_pipeline(raw), store, overwrite=True)
    assert lo.open_cache(store).head_files == {}
    assert not list(store.glob("heads*"))


def test_overwriting_refuses_to_delete_a_file_of_the_user(store):
    lo.train_head(described(), store)
    (store / "heads" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt"):
        lo.extract(described(), store, overwrite=True)
    assert (store / "heads" / "notes.txt").read_text() == "mine"


def test_hidden_layers_and_standardised_features(store):
    job = cached.prepare(described(hidden=[8, 5]), store, layer="penultimate")
    classifier = job.network.classifier
    assert isinstance(classifier, FeatureClassifier)
    shapes = [tuple(w.shape) for n, w in classifier.named_parameters() if n.endswith("weight")]
    assert shapes == [(8, 16), (5, 8), (3, 5)]
    features = lo.open_cache(store)["train"]["features/penultimate"].double()
    standard = (features - classifier.mean) / classifier.scale
    live = features.std(dim=0) > 0
    torch.testing.assert_close(standard.mean(dim=0), torch.zeros(16).double(), atol=1e-6, rtol=0)
    spread = standard.std(dim=0, correction=0)[live]
    torch.testing.assert_close(spread, torch.ones_like(spread), atol=1e-6, rtol=0)


def test_training_is_gone_on_from_to_the_same_bits(store, tmp_path):
    def prepared():
        return cached.prepare(described(ema=0.9), store, layer="penultimate")

    train(prepared(), tmp_path / "whole")
    for last in (7, 31, 72):  # of 72 steps
        calls = []

        def stop(*now, last=last, calls=calls):
            calls.append(now)
            if now[1] == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(prepared(), tmp_path / str(last), progress=stop)
        train(prepared(), tmp_path / str(last))
        ends = [load_file(tmp_path / name / "last.safetensors") for name in ("whole", str(last))]
        assert same(*ends)


def test_the_weights_do_not_depend_on_the_number_of_cores(store, tmp_path):
    twin = shutil.copytree(store, tmp_path / "twin" / "c.zarr")
    before = torch.get_num_threads()
    ends = []
    for threads, where in ((1, store), (2, twin)):
        torch.set_num_threads(threads)
        done = lo.train_head(described("posterior"), where)
        assert torch.get_num_threads() == threads
        ends.append(load_file(done.training.weights))
    torch.set_num_threads(before)
    assert same(*ends)


@pytest.mark.parametrize(
    ("objective", "layer", "training", "error", "message"),
    [
        ("evidential", "penultimat", {}, MissingInput, "did you mean 'features/penultimate'"),
        ("cross_entropy", "penultimate", {}, ConfigError, "got cross_entropy; choose evidential"),
        ("own_loss", "penultimate", {}, ConfigError, "own_loss"),
        ("evidential", "penultimate", {"classes": 2}, DataError, "from 0 to 1, got 2 in row 2"),
        ("evidential", "penultimate", {"hidden": [0]}, ConfigError, "hidden"),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_anything_is_written(
    store, objective, layer, training, error, message
):
    before = files(store)
    with pytest.raises(error, match=message):
        lo.train_head(described(objective, **training), store, layer=layer)
    assert files(store) == before
    assert not (store.parent / "c-heads").exists()


@pytest.mark.parametrize("splits", [{"train": "far"}, {"val": "vale"}, {"train": dict(FAR)}])
def test_splits_are_those_of_the_cache(store, splits):
    raw = described().model_dump(mode="json")
    raw["training"]["splits"] = {
        use: {k: v for k, v in one.items() if k != "role"} if isinstance(one, dict) else one
        for use, one in splits.items()
    }
    with pytest.raises((MissingInput, UnknownName, ConfigError), match=r"labels|vale|a data set"):
        lo.train_head(lo.parse_pipeline(raw), store)


def test_an_objective_that_needs_ood_rows_says_so(store):
    with pytest.raises(ConfigError, match=r"training\.splits\.outliers"):
        lo.train_head(described("prior", outliers=None), store)
