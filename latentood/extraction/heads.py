"""Run a head over the features of a cache, and keep what it gives beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from latentood import sealed
from latentood.errors import DamagedBlock, DataError, FingerprintMismatch, IncompleteSplit
from latentood.extraction.model.weights import hash_tensors
from latentood.extraction.run.runner import stop_signals
from latentood.latents import Key, Latents
from latentood.latents.facts import canonical
from latentood.latents.key import NETWORK, missing
from latentood.latents.rows import first_not_finite
from latentood.models.heads import HEADS, FeatureHead, build_feature_head
from latentood.store.cache import Cache, open_cache, read_head
from latentood.store.heads import head_file, place_for_head
from latentood.store.schema import ArraySpec
from latentood.store.writer import reopen_writer

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, rows done, and rows in all."""

DTYPE = "float32"
"""Type of the arrays: log densities reach beyond what float16 holds."""


@dataclass(frozen=True)
class KeptHead:
    """What a cache holds of a head."""

    store: Path  # of the cache
    name: str  # of the head
    arrays: tuple[str, ...]  # keys
    rows: dict[str, int]  # split → rows that have them now
    computed: dict[str, int]  # split → rows computed by this call
    finished: bool  # False if a signal stopped it; the same call goes on


def feature_head(content: sealed.Content, where: Path) -> FeatureHead:
    """Build the head that a file describes.

    Raises:
        DamagedBlock: It describes something else.
        ModelError: There is no such head here.
    """
    try:
        return build_feature_head(content.document, content.arrays, HEADS)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedBlock(
            f"{where}: must hold a head that latentood train --from wrote, got something else "
            f"({error}); run that command again"
        ) from error


def heads_of(cache: Cache, keys: Mapping[str, str]) -> dict[str, FeatureHead]:
    """Give the heads that made arrays of a cache, by name.

    Args:
        cache: Where they are.
        keys: Arrays → how they were made.

    Raises:
        DamagedBlock: The file of a head is damaged or missing, or is not that of the arrays.
    """
    heads: dict[str, FeatureHead] = {}
    for key, how in keys.items():
        name = (parsed := Key.parse(key)).layer
        if parsed.about.made_by != "head" or name == NETWORK:
            continue
        content, file = cache.learnt_head(name), head_file(cache.path, name)
        if how != _how(content):
            raise DamagedBlock(
                f"{file}: must hold the head that {key} was made with, got "
                "another one; run latentood train --from again"
            )
        heads[name] = feature_head(content, file)
    return heads


def keep_head(
    store: Path,
    name: str,
    file: Path,
    *,
    anew: bool = False,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> KeptHead:
    """Add what a head gives for the cached features of its layer to every split that has them.

    The arrays of a split are committed block by block; what is there of an earlier call stays.

    Args:
        store: Folder of the cache.
        name: What to call the head in the names of its arrays.
        file: Its weights.
        anew: Replace arrays of this name that another head made.
        device: Where to compute.
        progress: See :data:`Progress`.

    Raises:
        FingerprintMismatch: The cache has arrays of that name by another head.
        MissingInput: No split has features of the layer.
        DataError: What the head gives for a row is not finite.
        StoreError: The cache or the file is damaged, or another process writes to it.
    """
    content = read_head(file)
    head = NamedHead(name, feature_head(content, file).to(device), _how(content), device)
    cache = open_cache(store)
    if not anew:
        _refuse_other(cache, head)
    splits = _with_features(cache, head.features)
    computed = dict.fromkeys(splits, 0)
    with reopen_writer(store) as writer, stop_signals() as stopped:
        groups = [writer.add(split, head.specs, anew=anew) for split in splits]
        # After arrays of another head were withdrawn, and before there are any of this one.
        sealed.write(place_for_head(store, name), content.document, content.arrays)
        cache = open_cache(store)  # as it is now
        rows = {split: cache[split] for split in splits}
        blocks = [
            (group, block, *group.bounds(block)) for group in groups for block in group.pending()
        ]
        total = sum(stop - start for *_, start, stop in blocks)
        for group, block, start, stop in blocks:
            if stopped.is_set():
                break
            split = group.spec.name
            group.write(block, head.compute(rows[split], start, stop))
            computed[split] += stop - start
            if progress is not None:
                progress("keep", sum(computed.values()), total)
    return KeptHead(
        store=store,
        name=name,
        arrays=tuple(head.keys.values()),
        rows={split: len(latents) for split, latents in rows.items()},
        computed=computed,
        finished=not any(group.pending() for group in groups),
    )


@dataclass(frozen=True, eq=False)
class NamedHead:
    """A head under the name that its arrays have in a cache."""

    name: str
    head: FeatureHead
    how: str  # how the arrays follow from the features
    device: torch.device | str  # where it is

    @property
    def features(self) -> Key:
        """The array it reads."""
        return Key("features", self.head.layer)

    @property
    def keys(self) -> dict[str, Key]:
        """The arrays it gives, by kind."""
        return {kind: Key(kind, self.name) for kind in self.head.kinds}

    @property
    def specs(self) -> list[ArraySpec]:
        """The arrays it gives, as a split declares them."""
        tail = (self.head.head.classes,)
        return [ArraySpec(key, tail, DTYPE, self.how) for key in self.keys.values()]

    def compute(self, latents: Latents, start: int, stop: int) -> dict[str, np.ndarray]:
        """Give its arrays for rows ``start`` to ``stop``.

        Raises:
            DataError: One is not finite.
        """
        arrays = self.head.arrays(latents.read(self.features, start, stop).to(self.device))
        for kind, values in arrays.items():
            if (row := first_not_finite(values)) is not None:
                raise DataError(
                    f"split {latents.name!r}: {self.keys[kind]} of row {start + row} must be "
                    "finite, and is not; look at that row's features, or train with a lower "
                    "learning rate"
                )
        return {self.keys[kind]: values.cpu().numpy() for kind, values in arrays.items()}


def _how(content: sealed.Content) -> str:
    """Say how arrays follow from the features, for their metadata."""
    about = {name: content.document.get(name) for name in ("features", "head")}
    return canonical({**about, "weights": hash_tensors(content.arrays)})


def _refuse_other(cache: Cache, head: NamedHead) -> None:
    for split, info in cache.splits.items():
        for key in head.keys.values():
            if info.made.get(key, head.how) != head.how:
                raise FingerprintMismatch(
                    f"{cache.path}: split {split!r} has {key} of another head named {head.name!r}; "
                    "choose another --name, or --overwrite to replace it"
                )


def _with_features(cache: Cache, key: Key) -> list[str]:
    """Name the splits with complete features of a layer."""
    keys: dict[str, tuple[Key, ...]] = {}
    for name in cache.splits:
        try:
            keys[name] = cache[name].keys()
        except IncompleteSplit as error:
            log.warning("%s; then run this command again", error)
    chosen = [name for name, there in keys.items() if key in there]
    if not chosen:
        raise missing(key, [one for there in keys.values() for one in there], where=str(cache.path))
    return chosen
