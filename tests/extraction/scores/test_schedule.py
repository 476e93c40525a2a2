"""Score taps end to end: columns in the cache, the fit split first, resumed, added later."""

import logging
import os
import signal

import pytest
import torch

from latentood.detectors.families.score_taps.base import SCORE_TAPS
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import (
    ConfigError,
    DataError,
    FingerprintMismatch,
    IncompleteSplit,
    MissingInput,
    ModelError,
)
from latentood.evaluation.inputs.request import select
from latentood.extraction.run import runner
from latentood.extraction.run.job import prepare
from latentood.extraction.run.runner import run
from latentood.store.cache import open_cache
from latentood.store.verify import verify
from latentood.workflows import extract
from tests.extraction.nets import Conv
from tests.extraction.run.test_runner import NETS, pipeline, tree

SCORES = [
    "odin",
    {"iodin": {"epsilon": 0.01}},
    "mahalanobis_perturbed",
    {"rankfeat": {"layer": "conv2"}},
    "adascale",
    {"grood": {"samples": 10}},
]
FREE = {"scores/odin", "scores/iodin", "scores/rankfeat"}
EVERY = {f"scores/{name}" for name in SCORE_TAPS.built_in}


def scored(**changes):
    """The pipeline of the runner's tests with all taps, the fit split listed last."""
    raw = pipeline().model_dump(mode="json", exclude_unset=True)["splits"]
    splits = {name: raw[name] for name in ("far", "id", "train")}
    plain = {"model__target": f"{NETS}.ReluTail", "monte_carlo": None, "layers": ["penultimate"]}
    return pipeline(**plain | {"scores": SCORES, "splits": splits} | changes)


def columns(latents):
    return {key for key in latents.keys() if key.startswith("scores/")}  # noqa: SIM118


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "s.zarr"
    order = []
    summary = extract(scored(), path, progress=lambda name, *rows: order.append(name))
    assert summary.finished
    assert list(dict.fromkeys(order)) == ["train", "far", "id"]
    return path


def test_every_split_gets_its_columns_and_the_fit_split_what_others_need_of_it(store):
    cache = open_cache(store)
    assert columns(cache["id"]) == columns(cache["far"]) == EVERY
    assert columns(cache["train"]) == FREE | {"scores/adascale.shift"}
    for key in EVERY:
        column = cache["id"][key]
        assert column.dtype == torch.float64
        assert column.shape == (23,)
        assert len(column.unique()) > 5
    assert verify(store) == []


def test_columns_are_what_the_taps_compute_live(store):
    cache, job = open_cache(store), prepare(scored())
    rows = job.inputs["id"]
    inputs = torch.stack([rows[i][0] for i in range(len(rows))])
    network = job.scores.network
    for tap in job.scores.taps:
        state = tap.prepare(network, cache["train"]) if tap.needs_fit else None
        live = tap.score(network, inputs, state)
        torch.testing.assert_close(cache["id"][tap.column], live, rtol=1e-4, atol=1e-5)


def test_the_settings_of_a_column_are_beside_it(store):
    cache = open_cache(store)
    how = {array.key: array.how for array in cache.splits["id"].arrays}
    assert '"epsilon":0.0014' in how["scores/odin"]
    assert '"temperature":1000.0' in how["scores/odin"]
    assert '"fit":"train"' in how["scores/grood"]
    assert cache.header.pipeline["scores"][1] == {"name": "iodin", "args": {"epsilon": 0.01}}


def test_comparisons_read_the_columns_as_detectors(store):
    cache = open_cache(store)
    selection = select("all", splits=cache)
    assert set(SCORE_TAPS.built_in) <= {one.name for one in selection.detectors}
    fitted = fit(detector("grood"), cache["train"])
    assert torch.equal(fitted.score(cache["far"]), cache.column("far", "grood"))
    with pytest.raises(MissingInput, match="needs 'scores/grood', but train has"):
        fitted.score(cache["train"])


@pytest.mark.parametrize("size", [1, 23])
def test_columns_do_not_depend_on_the_batch_size(store, tmp_path, size):
    extract(scored(extract__batch_size=size), tmp_path / "s")
    there, here = open_cache(store), open_cache(tmp_path / "s")
    for split in ("id", "far", "train"):
        for key in columns(there[split]):
            # A step by the sign of a gradient of nearly 0 may go the other way in float32.
            torch.testing.assert_close(there[split][key], here[split][key], rtol=1e-3, atol=1e-5)


def interrupted(monkeypatch, after: int, path, wanted):
    """Run until so many blocks are done, then fail."""
    real, done = runner.compute_block, []

    def failing(*args):
        if len(done) == after:
            raise RuntimeError("power cut")
        done.append(args)
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(runner, "compute_block", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            extract(wanted, path)


def test_a_resumed_extraction_is_bit_identical(store, tmp_path, monkeypatch):
    path = tmp_path / "cut.zarr"
    for after in (2, 1, 2):  # within the fit split, at its end, within the next one
        interrupted(monkeypatch, after, path, scored())
    extract(scored(), path)
    assert tree(path) == tree(store)


def test_a_stop_in_the_fit_split_leaves_a_store_to_resume(store, tmp_path, monkeypatch):
    path, real = tmp_path / "stopped.zarr", runner.compute_block
    job = prepare(scored())

    def stopping(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return real(*args)

    with monkeypatch.context() as patched:
        patched.setattr(runner, "compute_block", stopping)
        assert not run(job, path).finished
    assert extract(scored(), path).finished
    assert tree(path) == tree(store)


def test_taps_can_be_added_to_a_cache_and_nothing_else_is_computed(store, tmp_path):
    path = tmp_path / "grown.zarr"
    extract(scored(scores=[]), path)
    before = tree(path)
    assert extract(scored(), path).finished
    after = tree(path)
    changed = {name for name in before if before[name] != after[name]}
    assert all(name.endswith("zarr.json") for name in changed)
    there, here = open_cache(store), open_cache(path)
    for split in ("id", "far", "train"):
        for key in columns(there[split]):
            assert torch.equal(there[split][key], here[split][key]), (split, key)
    assert verify(path) == []


def test_other_hyperparameters_are_another_column(store):
    before = tree(store)
    with pytest.raises(FingerprintMismatch, match=r'settings of scores/odin is ".*0\.0014.* here'):
        extract(scored(scores=[{"odin": {"epsilon": 0.002}}]), store)
    assert tree(store) == before


def test_a_split_can_follow_once_the_fit_split_is_there(store, tmp_path):
    path = tmp_path / "later.zarr"
    with pytest.raises(IncompleteSplit, match=r"split 'train' \(role fit\) must have all rows of"):
        extract(scored(), path, splits=["id"])
    assert not path.exists()
    extract(scored(), path, splits=["train"])
    extract(scored(), path, splits=["far", "id"])
    assert tree(path) == tree(store)
    with pytest.raises(IncompleteSplit, match="run latentood extract with --split train first"):
        extract(scored(), path, splits=["id"], overwrite=True)
    assert tree(path) == tree(store)


def test_a_fit_split_extracted_without_what_a_tap_reads_is_named(tmp_path):
    path = tmp_path / "bare.zarr"
    extract(scored(scores=["odin"]), path)
    with pytest.raises(IncompleteSplit, match=r"to compute adascale, .* none of scores/adascale"):
        extract(scored(scores=["odin", "adascale"]), path, splits=["id"])


def test_taps_without_fit_rows_need_no_fit_split(tmp_path):
    splits = scored().model_dump(mode="json", exclude_unset=True)["splits"]
    del splits["train"]
    extract(scored(splits=splits, scores=["odin"]), tmp_path / "s")
    assert columns(open_cache(tmp_path / "s")["id"]) == {"scores/odin"}
    message = (
        r"^scores: grood must have exactly one split of role fit, got 'far' \(far\), 'id' \(id\); "
    )
    with pytest.raises(ConfigError, match=message):
        extract(scored(splits=splits, scores=["odin", "grood"]), tmp_path / "t")


def test_a_fit_split_without_labels_is_named(tmp_path):
    unlabelled = {"rows": 50, "labelled": False}
    with pytest.raises(
        MissingInput, match=r"^score tap mahalanobis_perturbed: needs 'labels', but"
    ):
        extract(scored(splits__train__args=unlabelled), tmp_path / "s")


def test_a_tap_named_twice_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^scores: each tap must be named once, got 'odin' twice"
    ):
        extract(scored(scores=["odin", {"odin": {"epsilon": 0.1}}]), tmp_path / "s")


def test_a_tap_that_does_not_fit_is_refused_before_the_store_is_made(tmp_path):
    with pytest.raises(ModelError, match=r"^score tap rankfeat: layer must be a module that gives"):
        extract(scored(scores=[{"rankfeat": {"layer": "conv9"}}]), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_row_whose_logits_are_not_finite_is_named_as_before(tmp_path):
    broken = {"rows": 23, "nan_row": 9}
    with pytest.raises(DataError, match=r"split 'id': the logits of row 9 \(9\) are not finite"):
        extract(scored(splits__id__args=broken), tmp_path / "s")


class SteepAtZero(Conv):
    """Logits that are finite where their gradient is not."""

    def forward(self, x):
        return super().forward((x * (x > 0)).sqrt())


def test_a_score_that_is_not_finite_is_named_by_its_row(tmp_path):
    steep = {"model__target": f"{__name__}.SteepAtZero", "scores": ["odin"]}
    with pytest.raises(DataError, match=r"split 'far': the scores/odin of row 0 .* not finite"):
        extract(scored(**steep), tmp_path / "s")


def test_running_out_of_gpu_memory_halves_the_batch_for_the_taps_too(
    store, tmp_path, monkeypatch, caplog
):
    job, real = prepare(scored()), SCORE_TAPS["odin"].score

    def small(tap, network, inputs, state):
        if len(inputs) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(tap, network, inputs, state)

    monkeypatch.setattr(SCORE_TAPS["odin"], "score", small)
    with caplog.at_level(logging.WARNING):
        run(job, tmp_path / "s")
    assert "going on with halves" in caplog.text
    whole, halved = open_cache(store)["id"], open_cache(tmp_path / "s")["id"]
    for key in columns(whole):
        torch.testing.assert_close(whole[key], halved[key], rtol=1e-3, atol=1e-5)
