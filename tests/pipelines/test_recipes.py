"""The recipes on images run from training to scores, on small images that are made here."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from latentood.cli import main
from latentood.pipeline.schema import load_pipeline

FOLDER = Path(__file__).parents[2] / "pipelines"
CLASSES = 4


def images(path, rows, *, seed, classes=CLASSES, channels=3, size=32):
    """Write images of noise whose brightness gives their class, and a data set that reads them."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    shape = (rows, size, size, channels) if channels > 1 else (rows, size, size)
    noise = random.integers(0, 60, shape)
    bright = (180 * labels / classes).astype(int).reshape(-1, *[1] * (len(shape) - 1))
    np.savez(path, images=(noise + bright).astype(np.uint8), labels=labels)
    return {"target": "latentood.data.Arrays", "args": {"path": str(path)}}


def call(capsys, *arguments):
    """Run the command line in this process; give what it prints."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert not stop.value.code, err
    return out


def through(capsys, recipe, folder, overrides, *, score):
    """Train, extract and score a recipe; give the results."""
    settings = [part for one in overrides for part in ("--set", one)]
    pipeline, store = FOLDER / f"{recipe}.yaml", folder / "c.zarr"
    call(capsys, "train", pipeline, "--out", folder / "run", *settings, "--tracking", "none")
    weights = f"model.weights={folder}/run/weights.safetensors"
    call(capsys, "extract", pipeline, "--store", store, *settings, "--set", weights)
    return json.loads(call(capsys, "score", store, *score, "--tracking", "none", "--json"))


def as_split(role, data_set):
    return json.dumps({"role": role, **data_set})


def short(*lengths):
    """Make the made-up splits of a recipe small."""
    return [f"splits.{name}.args.length=8" for name in lengths]


def test_the_msp_baseline_separates_right_from_wrong_and_id_from_ood(capsys, tmp_path):
    train = images(tmp_path / "train.npz", 64, seed=0)
    asked = [
        f"model.args.num_classes={CLASSES}",
        f"splits.train={as_split('fit', train)}",
        f"splits.id_test={as_split('id', images(tmp_path / 'test.npz', 40, seed=1))}",
        f"splits.svhn={as_split('far', images(tmp_path / 'far.npz', 8, seed=2))}",
        *short("gaussian", "rademacher", "blob"),
        "training.epochs=2",
        "training.schedule.args.milestones=[1]",
        "training.batch_size=32",
        "extract.device=cpu",
    ]
    recipe = "cifar100_resnet18_msp"
    results = through(capsys, recipe, tmp_path, asked, score=("--detectors", "msp"))
    assert {row["split"] for row in results["rows"]} == {"gaussian", "rademacher", "blob", "svhn"}
    assert all(row["n_id"] == 5 * row["n_ood"] for row in results["rows"])
    (wrong,) = results["wrong_predictions"]
    assert wrong["n_id"] + wrong["n_ood"] == 40
    assert wrong["n_id"] / 40 == results["id"]["accuracy"]
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        assert [float(line["lr"]) for line in csv.DictReader(file)] == pytest.approx([0.1, 0.01])


def test_the_msp_baseline_is_set_as_in_the_tutorial():
    pipeline = load_pipeline(FOLDER / "cifar100_resnet18_msp.yaml")
    training = pipeline.training
    assert pipeline.model.target == "torchvision.models.resnet18"
    assert training.optimiser.target == "torch.optim.SGD"
    assert training.optimiser.args == {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    assert training.schedule.args == {"milestones": [50, 75]}
    assert (training.schedule.per, training.epochs, training.batch_size) == ("epoch", 100, 128)
    crop, flip = training.transform[1:3]
    assert (crop.args, flip.target.rsplit(".", 1)[1]) == (
        {"size": 32, "padding": 4}, "RandomHorizontalFlip",
    )  # fmt: skip


@pytest.mark.parametrize("spectral", [False, True], ids=["plain", "spectral"])
def test_larex_is_scored_over_widths_of_the_pca(capsys, tmp_path, spectral):
    small = {"num_classes": CLASSES, "width": 4, "dropblock": 0.4, "dropout": 0.3}
    model = {"target": "latentood.models.cifar_resnet18", "args": small}
    if spectral:
        normalised = "latentood.models.spectral_normalised"
        model = {"target": normalised, "args": {"model": model, "coefficient": 3.0}}
    data = images(tmp_path / "train.npz", 64, seed=0)
    roles = {"train": "fit", "val": "val", "id_test": "id", "cifar100": "near", "svhn": "far"}
    asked = [
        f"model={json.dumps(model)}",
        *(f"splits.{name}={as_split(role, data)}" for name, role in roles.items()),
        *short("gaussian"),
        "monte_carlo.passes=4",
        "training.epochs=1",
        "extract.device=cpu",
    ]
    sweep = ("--detectors", "lared,larem,msp", "--layers", "dropblock3", "--allow-overlap")
    widths = ("--set", "lared.pca=0,2", "--set", "larem.pca=0,2")
    recipe = "cifar10_resnet18_larex"
    results = through(capsys, recipe, tmp_path, asked, score=(*sweep, *widths))
    scored = {
        (row["detector"], row["layer"], row["hyperparameters"].get("pca"))
        for row in results["rows"]
    }
    layer = "mc.entropy/dropblock3"
    expected = {(name, layer, width) for name in ("lared", "larem") for width in (0, 2)}
    assert scored == expected | {("msp", "logits", None)}


def test_mnist_trains_with_the_loss_and_evidence_that_are_set(capsys, tmp_path):
    data = images(tmp_path / "mnist.npz", 120, seed=0, channels=1, size=28, classes=10)

    def rows(**bounds):
        return {"target": "latentood.data.Rows", "args": {"source": data, **bounds}}

    other = images(tmp_path / "other.npz", 8, seed=1, channels=1, size=28)
    asked = [
        f"splits.train={as_split('fit', rows(stop=60))}",
        f"splits.val={as_split('val', rows(start=60, stop=90))}",
        f"splits.id_test={as_split('id', rows(start=90))}",
        f"splits.turned={as_split('near', rows(start=90))}",
        f"splits.fashion={as_split('far', other)}",
        *short("gaussian"),
        "monte_carlo.passes=2",
        "training.objective={name: evidential, risk: digamma, evidence: softplus}",
        "training.epochs=1",
        "extract.device=cpu",
    ]
    score = ("--detectors", "vacuity,msp", "--allow-overlap")
    results = through(capsys, "mnist_evidential", tmp_path, asked, score=score)
    vacuity = next(row for row in results["rows"] if row["detector"] == "vacuity")
    assert vacuity["layer"] == "dirichlet/network"
    assert not results["failed"]
