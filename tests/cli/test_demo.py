"""Preparing the demo: weights that are good enough, and made only once."""

import inspect
import json

import pytest
import torch
from safetensors.torch import load_file

from latentood.cli import demo
from latentood.data import Digits
from latentood.models import digits_resnet
from latentood.pipeline.schema import load_pipeline
from latentood.training import accuracy


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The real thing, trained once for all tests here."""
    folder = tmp_path_factory.mktemp("demo")
    calls = []
    return demo.prepare(folder, progress=lambda done, of: calls.append((done, of))), calls


def record(weights):
    return json.loads(weights.with_suffix(".json").read_text())


@pytest.fixture
def quick(monkeypatch):
    """A recipe of one short epoch on tiny images, for tests of what is written and when."""
    monkeypatch.setattr(demo, "SIZE", 8)
    short = demo.RECIPE | {"training": {"epochs": 1, "lr": 0.01, "batch_size": 256, "seed": 0}}
    monkeypatch.setattr(demo, "RECIPE", short)


def epochs_run(folder):
    calls = []
    demo.prepare(folder, progress=lambda done, of: calls.append(done))
    return len(calls)


def test_the_network_is_right_on_97_of_100_unseen_digits(prepared):
    weights, _ = prepared
    model = digits_resnet(7)
    model.load_state_dict(load_file(weights))
    measured = accuracy(model, Digits(demo.CLASSES, "test"))
    assert measured >= 0.97
    assert record(weights)["id_test_accuracy"] == pytest.approx(measured)


def test_progress_counts_all_epochs(prepared):
    _, calls = prepared
    total = demo.RECIPE["training"]["epochs"]
    assert calls == [(done, total) for done in range(1, total + 1)]


def test_weights_lie_where_the_pipeline_looks_for_them(prepared, repository):
    weights, _ = prepared
    pipeline = load_pipeline(repository / "pipelines" / "demo.yaml")
    assert pipeline.model.weights.parts[-2:] == weights.parts[-2:]


def test_the_pipeline_and_the_recipe_mean_the_same_network_and_digits(repository):
    pipeline = load_pipeline(repository / "pipelines" / "demo.yaml")
    assert pipeline.model.target == demo.RECIPE["model"]["target"]
    assert pipeline.model.args == {"num_classes": demo.RECIPE["model"]["num_classes"]}
    size = inspect.signature(Digits).parameters["size"].default
    for name in ("train", "val", "id_test", "held_out"):
        args = pipeline.splits[name].args
        assert args["classes"] == list(demo.HELD_OUT if name == "held_out" else demo.CLASSES)
        assert args.get("size", size) == demo.SIZE


def test_weights_of_the_same_recipe_are_used_again(quick, tmp_path):
    assert [epochs_run(tmp_path), epochs_run(tmp_path)] == [1, 0]


def test_another_recipe_trains_anew(quick, tmp_path, monkeypatch):
    epochs_run(tmp_path)
    changed = demo.RECIPE | {"training": demo.RECIPE["training"] | {"epochs": 2}}
    monkeypatch.setattr(demo, "RECIPE", changed)
    assert epochs_run(tmp_path) == 2


@pytest.mark.parametrize("damage", ["weights", "record", "record missing", "weights missing"])
def test_damaged_or_missing_files_train_anew(quick, tmp_path, damage):
    weights = demo.prepare(tmp_path)
    victim = weights if damage.startswith("weights") else weights.with_suffix(".json")
    if damage.endswith("missing"):
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-10])
    assert epochs_run(tmp_path) == 1
    assert epochs_run(tmp_path) == 0


def test_the_number_of_threads_decides_nothing_and_stays_as_it_was(quick, tmp_path):
    weights = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        weights.append(demo.prepare(tmp_path / str(threads)).read_bytes())
        assert torch.get_num_threads() == threads
    assert weights[0] == weights[1]


def test_the_record_says_how_the_weights_were_made(quick, tmp_path):
    recorded = record(demo.prepare(tmp_path))
    assert recorded["recipe"] == demo.RECIPE
    assert recorded["recipe_sha256"] == demo.recipe_digest()
    assert recorded["id_test_rows"] == len(Digits(demo.CLASSES, "test"))
