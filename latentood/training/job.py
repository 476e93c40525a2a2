"""The job of a training run, settled and checked before the first step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from latentood.data.items import labels_of
from latentood.data.targets import CLASS_NUMBERS, TargetKind
from latentood.device import resolve_device
from latentood.errors import ConfigError, DataError, unknown
from latentood.extraction.model.weights import build_network
from latentood.extraction.run.inputs import Inputs, open_split
from latentood.pipeline.schema import Pipeline
from latentood.pipeline.sections import DataSet
from latentood.pipeline.training import Training
from latentood.training.batches import Seeded
from latentood.training.network import Network
from latentood.training.objectives import OBJECTIVES, Objective
from latentood.training.probes import read_targets, refuse_empty, try_network


@dataclass(frozen=True)
class Job:
    """A network, its data, and how it is trained."""

    network: Network
    config: Training
    train: Dataset[Any]
    rows: int  # of the split to train on
    val: Dataset[Any] | None
    outliers: Dataset[Any] | None
    device: torch.device
    seed: int
    identity: Mapping[str, Any]  # what a checkpoint must have in common


def prepare(pipeline: Pipeline, *, device: str | None = None) -> Job:
    """Build network and data, and check what can be known before the first step.

    Raises:
        ConfigError: There is no ``training:``, it lacks a split, or names what does not exist.
        DataError: A target is not what it must be, a class has no rows, or an input cannot be
            read.
        ModelError: The network gives something else than the objective reads, or probabilities.
    """
    config, objective = build_objective(pipeline)
    kind = objective.targets
    train = _required(_split(pipeline, config, "train", kind), "train", "of role fit")
    val = _split(pipeline, config, "val", kind)
    outliers = _split(pipeline, config, "outliers")
    if objective.reads_outliers:
        _required(outliers, "outliers", f"for the objective {objective.name}")
    labels, counts = _labels(train, config) if objective.predicts else _targets(train, config)
    classes = len(counts)
    train = replace(train, classes=classes)
    val = None if val is None else replace(val, classes=classes)
    if val is not None and not objective.predicts:
        read_targets(val, config.workers)  # for its errors
    with torch.random.fork_rng():
        torch.manual_seed(pipeline.seed)
        classifier = build_network(pipeline.model)
        width = try_network(classifier, train if val is None else val, objective, classes)
        network = Network(classifier, objective, classes=classes, width=width, counts=counts)
        source = train if config.transform is None else Seeded(train, pipeline.seed)
        source[0]  # for the errors of its transform
    return Job(
        network=network,
        config=config,
        train=source,
        rows=len(train),
        val=val,
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


def _split(
    pipeline: Pipeline, config: Training, use: str, kind: TargetKind = CLASS_NUMBERS
) -> Inputs | None:
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
    return open_split(pipeline, name, given, kind=kind)


def _required(split: Inputs | None, use: str, why: str) -> Inputs:
    if split is None:
        raise ConfigError(
            f"train: there must be a split {why}, got none; name one with training.splits.{use}"
        )
    return split


def _places(inputs: Inputs) -> list[int]:
    return [inputs.place(row) for row in range(len(inputs))]


def _labels(train: Inputs, config: Training) -> tuple[Tensor, Tensor]:
    """Read the labels (N,) of the rows, and count the rows of every class: (C,)."""
    labels = torch.tensor(labels_of(train.source, train.label))[_places(train)]
    classes = config.classes or int(labels.max()) + 1
    return labels, count_rows(labels, classes, stated=config.classes is not None)


def _targets(train: Inputs, config: Training) -> tuple[Tensor, Tensor]:
    """Digest the targets (N,) of the rows, and count the labels of every class in them: (C,)."""
    digests, counts = read_targets(replace(train, classes=config.classes), config.workers)
    counts = F.pad(counts, (0, (config.classes or len(counts)) - len(counts)))
    refuse_empty(counts, first=train.kind.first, stated=config.classes is not None)
    return digests, counts


def count_rows(labels: Tensor, classes: int, *, stated: bool) -> Tensor:
    """Count the rows of every class: (C,); C was stated, or else is that of the labels.

    Raises:
        DataError: A label is not below C, or a class has no rows and C was not stated.
    """
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"train: labels must be from 0 to {classes - 1}, got {int(labels[row])} in row {row}; "
            "check training.classes, or the data set"
        )
    counts = torch.bincount(labels, minlength=classes)
    refuse_empty(counts, first=0, stated=stated)
    return counts


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
