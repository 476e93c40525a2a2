"""Heads that were trained on features: what they give, where rows come without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from latentood.latents import Key, Latents
from latentood.latents.rows import Rows
from latentood.models.heads import HEADS, FeatureHead, build_feature_head

Heads = Mapping[str, FeatureHead]
"""Name → head."""


class OfHead:
    """What a head gives for features, computed as it is read: rows (N, C) float32."""

    def __init__(self, features: Rows, head: FeatureHead, kind: str) -> None:
        self.shape = (features.shape[0], head.head.classes)
        self._features = features
        self._head = head
        self._kind = kind

    def read(self, start: int, stop: int) -> Tensor:
        """Run the head on the features of rows ``start`` to ``stop``."""
        return self._head.arrays(self._features.read(start, stop))[self._kind]


def with_heads(latents: Latents, keys: Iterable[str], heads: Heads) -> Latents:
    """Add the arrays among ``keys`` that are not there, but follow from features that are."""
    derived: dict[Key, Rows] = {}
    for key in map(Key.parse, keys):
        source = source_of(key, latents, heads)
        if source != key:
            latents.require([source], who=f"head {key.layer}")
            derived[key] = OfHead(latents.rows(source), heads[key.layer], key.kind)
    return latents.extended(derived) if derived else latents


def source_of(key: str, latents: Latents, heads: Heads) -> Key:
    """Name what must be read for an array: itself, or the features that a head makes it from."""
    key = Key.parse(key)
    head = heads.get(key.layer)
    if key in latents or head is None or key.kind not in head.kinds:
        return key
    return Key("features", head.layer)


def to_file(heads: Heads) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Give descriptions of heads as JSON values, and all their tensors by names of their own."""
    tensors = {
        f"{_lead(name)}{part}": tensor
        for name, head in heads.items()
        for part, tensor in head.tensors().items()
    }
    return {name: head.describe() for name, head in heads.items()}, tensors


def from_file(
    records: Mapping[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, FeatureHead], dict[str, Tensor]]:
    """Build the heads that :func:`to_file` described; gives them, and the tensors that are left.

    Raises:
        ModelError: There is no such head here.
        KeyError, TypeError, ValueError, RuntimeError: A record or tensors of another kind.
    """
    heads: dict[str, FeatureHead] = {}
    left = dict(tensors)
    for name, record in records.items():
        own = {part: left.pop(part) for part in tensors if part.startswith(_lead(name))}
        parts = {part.removeprefix(_lead(name)): tensor.clone() for part, tensor in own.items()}
        heads[name] = build_feature_head(record, parts, HEADS)
    return heads, left


def _lead(name: str) -> str:
    return f"head/{name}/"
