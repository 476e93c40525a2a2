"""Training by a pipeline: it learns, goes on after a stop to the same bits, and names mistakes."""

import csv
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import latentood as lo
from latentood.errors import ConfigError, DataError, ModelError, StoreError
from latentood.training import checkpoints
from latentood.training.job import prepare
from latentood.training.loop import Run
from latentood.training.train import train
from tests.training.nets import Points

NETS = "tests.training.nets"
ALL_OPTIONS = {
    "schedule": {"target": "torch.optim.lr_scheduler.OneCycleLR", "args": {"max_lr": 0.05}},
    "clip": 1.0,
    "warmup": 5,
    "ema": 0.9,
    "transform": [{"target": f"{NETS}.Jitter"}],
}


def pipeline(*, model=None, splits=None, rows=48, outliers=None, **training):
    raw = {
        "name": "points",
        "model": {"target": f"{NETS}.Mlp", **({"args": model} if model else {})},
        "splits": {
            "train": {"role": "fit", "target": f"{NETS}.Points", "args": {"rows": rows}},
            "val": {"role": "val", "target": f"{NETS}.Points", "args": {"seed": 1}},
            **(splits or {}),
        },
        "extract": {"device": "cpu"},
        "training": {
            "objective": "cross_entropy",
            "optimiser": {"target": "torch.optim.Adam", "args": {"lr": 0.05}},
            "epochs": 4,
            "batch_size": 10,
            "splits": {"outliers": outliers},
            **training,
        },
    }
    return lo.parse_pipeline(raw)


def weights(folder, name="last"):
    return load_file(folder / f"{name}.safetensors")


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return [{name: float(v) for name, v in line.items() if v} for line in csv.DictReader(file)]


def test_a_network_learns_and_its_best_and_last_weights_are_kept(tmp_path):
    calls = []
    done = lo.train(pipeline(epochs=8), tmp_path / "r", progress=lambda *now: calls.append(now))
    assert done.finished
    assert calls[-1] == ("train", 40, 40)
    lines = history(tmp_path / "r")
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"] / 2
    best = max(lines, key=lambda line: (line["val_accuracy"], -line["val_nll"]))
    assert done.best == best
    assert best["val_accuracy"] > 0.85
    assert not same(weights(tmp_path / "r"), weights(tmp_path / "r", "weights"))


@pytest.mark.parametrize("options", [{}, ALL_OPTIONS], ids=["plain", "all options"])
@pytest.mark.parametrize("stops", [(1,), (4, 5, 6), (11, 19)])
def test_a_stopped_training_ends_with_the_bits_of_one_that_was_not(tmp_path, options, stops):
    given = pipeline(**options)
    lo.train(given, tmp_path / "whole")
    for stop in stops:
        run = Run(job := prepare(given), tmp_path / "parts", lambda *_: None)
        if (tmp_path / "parts").exists():
            run.restore(
                checkpoints.load(tmp_path / "parts" / checkpoints.FILE, identity=job.identity)
            )
        (tmp_path / "parts").mkdir(exist_ok=True)
        run.go(lambda run=run, stop=stop: run.step >= stop)
        assert run.step == stop
        torch.rand(3)  # whatever else draws in between
    assert lo.train(given, tmp_path / "parts").finished
    for name in ("last", "weights"):
        assert same(weights(tmp_path / "parts", name), weights(tmp_path / "whole", name))
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_a_finished_training_is_left_as_it_is(tmp_path):
    lo.train(pipeline(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert lo.train(pipeline(), tmp_path).finished
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(int(sys.argv[3]))
import latentood as lo
from tests.training.test_loop import pipeline
at = int(sys.argv[2])
lo.train(pipeline(), sys.argv[1], progress=lambda _, done, __: done == at and os.kill(
    os.getpid(), signal.SIGKILL))
"""


def test_a_killed_training_ends_with_the_bits_of_one_that_was_not(tmp_path, repository):
    lo.train(pipeline(), tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), "13"]
    command.append(str(torch.get_num_threads()))  # with others, sums are added in another order
    done = subprocess.run(command, cwd=repository, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    assert lo.train(pipeline(), tmp_path / "killed").finished
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_random_transforms_do_not_depend_on_the_number_of_processes(tmp_path):
    for workers in (0, 2):
        lo.train(pipeline(**ALL_OPTIONS, epochs=1, workers=workers), tmp_path / str(workers))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "2"))


def test_training_stops_when_the_val_split_gets_no_better(tmp_path):
    done = lo.train(pipeline(epochs=60, patience=3), tmp_path)
    epochs = [line["epoch"] for line in history(tmp_path)]
    assert done.finished
    assert epochs[-1] == done.best["epoch"] + 3 < 60


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"objective": "cros_entropy"}, lo.errors.UnknownName, "did you mean 'cross_entropy'"),
        ({"model": {"softmax": True}}, ModelError, "must give logits, got probabilities"),
        ({"classes": 2}, DataError, "labels must be from 0 to 1, got 2 in row 2"),
        (
            {"splits": {"train": {"role": "far", "target": f"{NETS}.Points"}}},
            ConfigError,
            "there must be a split of role fit, got none; name one with training.splits.train",
        ),
        ({"optimiser": {"target": "torch.optim.Adam", "args": {"lr": -1}}}, ConfigError, "lr"),
    ],
    ids=["objective", "softmax", "labels", "split", "optimiser"],
)
def test_a_mistake_is_named_before_the_first_step(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        lo.train(pipeline(**change), tmp_path / "out")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_pipeline_without_training_is_refused(tmp_path):
    raw = pipeline().model_dump(mode="json") | {"training": None}
    with pytest.raises(ConfigError, match="must have training:, got none"):
        lo.train(raw, tmp_path)


def test_a_loss_that_is_not_finite_stops_with_step_rows_and_cause(tmp_path):
    wild = {"target": "torch.optim.SGD", "args": {"lr": 1e30}}
    with pytest.raises(
        ModelError, match=r"got nan in step \d+ of 20 \(epoch 1; the logits are not"
    ):
        lo.train(pipeline(optimiser=wild), tmp_path)
    assert not (tmp_path / "last.safetensors").exists()


def test_the_checkpoint_of_another_run_is_refused_and_kept(tmp_path):
    lo.train(pipeline(), tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(
        StoreError, match=r"another run \(training\.epochs is 4 there but 5 here\); .*--overw"
    ):
        lo.train(pipeline(epochs=5), tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert lo.train(pipeline(epochs=5), tmp_path, overwrite=True).steps == 25


def test_a_damaged_checkpoint_is_refused(tmp_path):
    lo.train(pipeline(), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="must be a checkpoint of latentood train, got bytes"):
        lo.train(pipeline(), tmp_path)


def test_what_is_trained_is_what_the_job_says(tmp_path):
    job = prepare(pipeline())
    assert train(job, tmp_path).steps == 20


@pytest.mark.parametrize("workers", [0, 1])
def test_a_row_that_cannot_be_read_is_one_line_also_from_a_loader_process(
    tmp_path, monkeypatch, workers
):
    job, item = prepare(pipeline(workers=workers)), Points.__getitem__

    def broken(self, row):
        if row == 40:
            raise OSError("gone")
        return item(self, row)

    monkeypatch.setattr(Points, "__getitem__", broken)
    with pytest.raises(
        DataError, match=r"^split 'train': row 40 \(40\) cannot be read: gone; mend"
    ):
        train(job, tmp_path)


def test_the_learning_rate_of_the_first_steps_is_lowered_and_then_that_of_the_schedule(tmp_path):
    job = prepare(pipeline(warmup=3, epochs=1))
    run, rates = Run(job, tmp_path, lambda *_: None), []
    run.optimiser.register_step_pre_hook(
        lambda optimiser, *_: rates.append(optimiser.param_groups[0]["lr"])
    )
    run.go(lambda: False)
    assert rates == pytest.approx([0.05 / 3, 0.1 / 3, 0.05, 0.05, 0.05])
    assert run.optimiser.param_groups[0]["lr"] == 0.05
