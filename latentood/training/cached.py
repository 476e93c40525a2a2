"""The job of training a head on features that a cache holds, without the network they are of."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from latentood.device import resolve_device
from latentood.errors import ConfigError, DataError, unknown
from latentood.latents import LABELS, LOGITS, Key, Latents
from latentood.models.heads import FeatureClassifier
from latentood.pipeline.schema import Pipeline
from latentood.pipeline.training import Training
from latentood.stats.moments import column_scale
from latentood.store.cache import Cache, open_cache
from latentood.training.job import Job, build_objective, count_rows, identity_of
from latentood.training.network import Network

log = logging.getLogger(__name__)

_CHUNK = 1 << 24  # numbers that are turned to float64 together


@dataclass(frozen=True, eq=False)
class FeatureRows(Dataset[tuple[Tensor, Tensor]]):
    """Features (N, D) float32 and labels (N,) in memory; the rows of a batch are taken together."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Take one row."""
        return self.features[row], self.labels[row]

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Take the rows of a batch: (B, D), (B,)."""
        index = torch.tensor(rows)
        return self.features[index], self.labels[index]

    @staticmethod
    def collate(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Take a batch as it is."""
        return batch


def prepare(pipeline: Pipeline, store: Path, *, layer: str, device: str | None = None) -> Job:
    """Read the features and labels of a layer, and build the head that is trained on them.

    Of the pipeline only the section ``training:`` and the seed count. The rows to train on are
    those of the split of role ``fit``, and those of role ``val`` choose the best epoch, unless
    ``training.splits`` names others of the cache.

    Raises:
        ConfigError: There is no ``training:``, the cache lacks a split, or the objective gives
            nothing that a cache keeps.
        MissingInput: There are no features of the layer, or no labels.
        DataError: Features are not (N, D), or a label is not that of a class.
        StoreError: It is no cache, or it is damaged.
    """
    config, objective = build_objective(pipeline)
    cache = open_cache(store)
    name = _split(cache, config, "train", "fit")
    if name is None:
        raise ConfigError(
            f"train: {store} must have a split of role fit, got none; name one with "
            "training.splits.train"
        )
    train = _rows(cache[name], layer)
    stated = config.classes or _classes(cache[name])
    classes = stated or int(train.labels.max()) + 1
    counts = count_rows(train.labels, classes, stated=stated is not None)
    val = _split(cache, config, "val", "val")
    outliers = _split(cache, config, "outliers", None)
    if objective.reads_outliers and outliers is None:
        raise ConfigError(
            f"train: there must be a split for the objective {objective.name}, got none; name one "
            "of the cache with training.splits.outliers"
        )
    if config.transform is not None:
        log.warning("train: training.transform is for inputs, so features are taken as they are")
    with torch.random.fork_rng():
        torch.manual_seed(pipeline.seed)
        width = train.features.shape[1]
        classifier = FeatureClassifier(layer, width, classes, config.hidden)
        network = Network(classifier, objective, classes=classes, counts=counts)
    if not network.head.gives:
        raise ConfigError(
            f"train: on features the objective must be one whose head gives a cache more than "
            f"logits, got {objective.name}; choose evidential, prior, posterior, "
            "natural_posterior, prototypes or vos"
        )
    classifier.mean, classifier.scale = _standard(train.features)
    return Job(
        network=network,
        config=config,
        train=train,
        rows=len(train),
        val=None if val is None else _rows(cache[val], layer),
        outliers=None if outliers is None else _rows(cache[outliers], layer, labelled=False),
        device=resolve_device(device or "auto"),
        seed=pipeline.seed,
        identity=identity_of(
            pipeline,
            train.labels,
            cache=cache.header.digest,
            split=name,
            data=cache.splits[name].data.get("fingerprint"),
            layer=layer,
        ),
    )


def _split(cache: Cache, config: Training, use: str, role: Any) -> str | None:
    """Name the split of a cache for a use: as it is named, else by its role."""
    given = getattr(config.splits, use)
    if given is None:
        return next((name for name, one in cache.splits.items() if one.role == role), None)
    if not isinstance(given, str):
        raise ConfigError(
            f"train: on features training.splits.{use} must name a split of the cache, got a data "
            f"set; name one of {', '.join(cache.splits)}"
        )
    if given not in cache.splits:
        raise unknown(f"split in {cache.path} (training.splits.{use})", given, cache.splits)
    return given


def _rows(latents: Latents, layer: str, *, labelled: bool = True) -> FeatureRows:
    key = Key("features", layer)
    latents.require([key, LABELS] if labelled else [key], who="train")
    if len(shape := latents.shape(key)) != 2:
        raise DataError(
            f"train: {key} must be (N, D), got {tuple(shape)}; choose a reduction that gives one "
            "vector for each row"
        )
    latents.require_finite([key])
    labels = latents[LABELS] if labelled else torch.zeros(len(latents), dtype=torch.int64)
    return FeatureRows(latents[key].float(), labels)


def _classes(latents: Latents) -> int | None:
    return latents.shape(LOGITS)[1] if LOGITS in latents else None


def _standard(features: Tensor) -> tuple[Tensor, Tensor]:
    """Give mean and scale of every column, from sums in float64: (D,), (D,) float32."""
    parts = features.split(max(1, _CHUNK // features.shape[1]))
    mean = torch.stack([part.double().sum(dim=0) for part in parts]).sum(dim=0) / len(features)
    squares = [(part.double() - mean).square().sum(dim=0) for part in parts]
    variance = torch.stack(squares).sum(dim=0) / len(features)
    return mean.float(), column_scale(mean, variance).float()
