"""Preparing the demo: weights that are good enough, and made only once."""

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from latentood.cli import demo
from latentood.extraction.model.weights import load_model
from latentood.extraction.run.inputs import open_inputs
from latentood.pipeline.schema import load_pipeline


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The real thing, trained once for all tests here."""
    calls = []
    pipeline = load_pipeline(demo.pipeline_file())
    folder = tmp_path_factory.mktemp("demo")
    return demo.prepare(pipeline, folder, lambda *now: calls.append(now)), calls


@pytest.fixture
def quick():
    """One short epoch, for tests of what is written and when."""
    short = ["training.epochs=1", "training.batch_size=256", "training.schedule=null"]
    return load_pipeline(demo.pipeline_file(), short)


def steps_run(pipeline, folder):
    calls = []
    assert demo.prepare(pipeline, folder, lambda *now: calls.append(now)).finished
    return len(calls)


def test_the_network_is_right_on_97_of_100_unseen_digits(prepared):
    weights = prepared[0].weights
    pipeline = load_pipeline(demo.pipeline_file(), [f"model.weights={weights}"])
    model = load_model(pipeline.model, 0)
    rows = open_inputs(pipeline, "id_test", limit=None)
    with torch.no_grad():
        right = sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in DataLoader(rows, 200))
    assert right / len(rows) >= 0.97


def test_progress_counts_all_steps(prepared):
    trained, calls = prepared
    assert calls == [("train", done, trained.steps) for done in range(1, trained.steps + 1)]


def test_weights_of_the_same_recipe_are_used_again(quick, tmp_path):
    assert [steps_run(quick, tmp_path), steps_run(quick, tmp_path)] == [3, 0]


def test_another_recipe_trains_anew(quick, tmp_path):
    steps_run(quick, tmp_path)
    changed = quick.model_copy(update={"training": quick.training.model_copy(update={"epochs": 2})})
    assert steps_run(changed, tmp_path) == 6


@pytest.mark.parametrize("damage", ["weights", "checkpoint", "weights missing"])
def test_damaged_or_missing_files_train_anew(quick, tmp_path, damage):
    weights = demo.prepare(quick, tmp_path).weights
    victim = weights.with_name(f"{damage.split()[0]}.safetensors")
    if damage.endswith("missing"):
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-10])
    assert steps_run(quick, tmp_path) == 3
    assert steps_run(quick, tmp_path) == 0


def test_the_number_of_threads_decides_nothing_and_stays_as_it_was(quick, tmp_path):
    weights = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        trained = demo.prepare(quick, tmp_path / str(threads))
        weights.append(load_file(trained.weights))
        assert torch.get_num_threads() == threads
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
