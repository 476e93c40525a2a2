"""The job of a training run, settled and checked before the first step."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from latentood.data.items import labels_of
from latentood.device import resolve_device
from latentood.errors import ConfigError, DataError, ModelError, unknown
from latentood.extraction.model.weights import build_network
from latentood.extraction.run.inputs import Inputs, open_split
from latentood.extraction.run.job import model_errors
from latentood.pipeline.schema import Pipeline
from latentood.pipeline.sections import DataSet
from latentood.pipeline.training import Training
from latentood.training.batches import Seeded
from latentood.training.network import Network, check_output
from latentood.training.objectives import OBJECTIVES, Objective

log = logging.getLogger(__name__)

_PROBES = 8  # rows that a network is tried on


@dataclass(frozen=True)
class Job:
    """A network, its data, and how it is trained."""

    network: Network
    config: Training
    train: Dataset[Any]
    rows: int  # of the split to train on
    val: Inputs | None
    outliers: Inputs | None
    device: torch.device
    seed: int
    identity: Mapping[str, Any]  # what a checkpoint must have in common


def prepare(pipeline: Pipeline, *, device: str | None = None) -> Job:
    """Build network and data, and check what can be known before the first step.

    Raises:
        ConfigError: There is no ``training:``, it lacks a split, or names what does not exist.
        DataError: A label is not that of a class, or an input cannot be read.
        ModelError: The network gives something else than (B, H), or probabilities.
    """
    config, objective = build_objective(pipeline)
    name = objective.name
    if not objective.predicts:
        raise ConfigError(
            f"train: the objective must be one of a classifier, got {name}, whose network gives no "
            "(B, C); train it in a loop of your own with Network.batch_loss"
        )
    train = _required(_split(pipeline, config, "train"), "train", "of role fit")
    val = _split(pipeline, config, "val")
    outliers = _split(pipeline, config, "outliers")
    if objective.reads_outliers:
        _required(outliers, "outliers", f"for the objective {name}")
    labels = torch.tensor(labels_of(train.source, train.label))[_places(train)]
    classes = config.classes or int(labels.max()) + 1
    counts = count_rows(labels, classes)
    with torch.random.fork_rng():
        torch.manual_seed(pipeline.seed)
        classifier = build_network(pipeline.model)
        width = _width(classifier, train if val is None else val, objective)
        network = Network(classifier, objective, classes=classes, width=width, counts=counts)
    return Job(
        network=network,
        config=config,
        train=train if config.transform is None else Seeded(train, pipeline.seed),
        rows=len(train),
        val=None if val is None else replace(val, classes=classes),
        outliers=outliers,
        device=resolve_device(device or pipeline.extract.device),
        seed=pipeline.seed,
        identity=identity_of(
            pipeline,
            labels,
            model=pipeline.model.model_dump(mode="json", include={"target", "args"}),
            transform=pipeline.model_dump(mode="json", include={"transform"})["transform"],
        ),
    )


def build_objective(pipeline: Pipeline) -> tuple[Training, Objective]:
    """Give the section ``training:`` of a pipeline and its objective.

    Raises:
        ConfigError: There is no such section.
        UnknownName: There is no such objective.
    """
    config = pipeline.training
    if config is None:
        raise ConfigError(
            "train: the pipeline must have training:, got none; add training: {objective: "
            "cross_entropy, epochs: 10}"
        )
    return config, OBJECTIVES.build(config.objective.name, **config.objective.hyperparameters)


def _split(pipeline: Pipeline, config: Training, use: str) -> Inputs | None:
    """Open the split for a use: as it is named, else by its role."""
    given: str | DataSet | None = getattr(config.splits, use)
    if given is None and use != "outliers":
        role = {"train": "fit", "val": "val"}[use]
        given = next((name for name, one in pipeline.splits.items() if one.role == role), None)
    if given is None:
        return None
    if isinstance(given, str):
        if given not in pipeline.splits:
            raise unknown(f"split (training.splits.{use})", given, pipeline.splits)
        name, given = given, pipeline.splits[given]
    else:
        name = f"training.{use}"
    if use == "train" and config.transform is not None:
        given = given.model_copy(update={"transform": config.transform})
    return open_split(pipeline, name, given)


def _required(split: Inputs | None, use: str, why: str) -> Inputs:
    if split is None:
        raise ConfigError(
            f"train: there must be a split {why}, got none; name one with training.splits.{use}"
        )
    return split


def _places(inputs: Inputs) -> list[int]:
    return [inputs.place(row) for row in range(len(inputs))]


def count_rows(labels: Tensor, classes: int) -> Tensor:
    """Count the rows of every class: (C,)."""
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"train: labels must be from 0 to {classes - 1}, got {int(labels[row])} in row {row}; "
            "check training.classes, or the data set"
        )
    counts = torch.bincount(labels, minlength=classes)
    if empty := (counts == 0).nonzero().flatten().tolist():
        log.warning("train: class %s has no rows", ", ".join(map(str, empty[:10])))
    return counts


def _width(classifier: nn.Module, inputs: Inputs, objective: Objective) -> int:
    """Try the network on a few rows: it must give (B, H), and no probabilities."""
    batch = inputs.first(_PROBES)
    with model_errors(batch), torch.no_grad():
        output = check_output(classifier.eval()(batch), objective.name)
    sums = output.double().sum(dim=1)
    if bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-5):
        raise ModelError(
            "train: the network must give logits, got probabilities, whose sums are 1; remove "
            "the softmax at its end"
        )
    return int(output.shape[1])


def identity_of(pipeline: Pipeline, labels: Tensor, **source: Any) -> dict[str, Any]:
    """Give what a checkpoint must have in common: settings, labels, and where inputs come from."""
    raw = pipeline.model_dump(mode="json")
    settings = {name: value for name, value in raw["training"].items() if name != "workers"}
    return {
        **source,
        **{f"training.{name}": value for name, value in settings.items()},
        "seed": raw["seed"],
        "rows": len(labels),
        "labels": hashlib.sha256(labels.numpy().tobytes()).hexdigest(),
    }
