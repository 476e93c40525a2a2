"""Latents made of others: some of their rows, the first of their passes, some of their classes.

Nothing is copied before it is read. A view has no statistics in common with what it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latentood.errors import DataError
from latentood.latents.key import HEAD, LABELS, Key
from latentood.latents.latents import Latents
from latentood.latents.rows import Rows


class ChosenRows:
    """Some rows of an array, in their order.

    Args:
        array: (N, …).
        index: (n,) int64, ascending.
    """

    def __init__(self, array: Rows, index: Tensor) -> None:
        self.shape = (len(index), *array.shape[1:])
        self._array = array
        self._index = index

    def read(self, start: int, stop: int) -> Tensor:
        """Read the stretch that holds rows ``start`` to ``stop``, and take them from it."""
        wanted = self._index[start:stop]
        if not len(wanted):
            return self._array.read(0, 0)
        first = int(wanted[0])
        return self._array.read(first, int(wanted[-1]) + 1)[wanted - first]


class AlongAxis:
    """All rows of an array, but only some places along another axis: ``index`` (n,) int64."""

    def __init__(self, array: Rows, axis: int, index: Tensor) -> None:
        self.shape = (*array.shape[:axis], len(index), *array.shape[axis + 1 :])
        self._array = array
        self._axis = axis
        self._index = index

    def read(self, start: int, stop: int) -> Tensor:
        """Read rows ``start`` to ``stop``."""
        return self._array.read(start, stop).index_select(self._axis, self._index)


class Renumbered:
    """Labels (N,) as their places in a table (C,)."""

    def __init__(self, labels: Rows, table: Tensor) -> None:
        self.shape = labels.shape
        self._labels = labels
        self._table = table

    def read(self, start: int, stop: int) -> Tensor:
        """Look up the labels of rows ``start`` to ``stop``."""
        return self._table[self._labels.read(start, stop).long()]


def some_rows(latents: Latents, index: Tensor, *, name: str | None = None) -> Latents:
    """Give the rows ``index`` (n,) int64, ascending."""
    rows = {key: ChosenRows(array, index) for key, array in _rows(latents).items()}
    return _made_of(latents, rows, name or latents.name, f"{len(index)} rows")


def first_passes(latents: Latents, passes: int) -> Latents:
    """Give the first T′ of T stochastic passes; entropies are computed again from their features.

    Entropies of a layer whose features over the passes were not kept are left out. With all
    passes nothing is computed again, since stored features may have fewer bits than the entropies
    beside them were made of.

    Raises:
        DataError: There are fewer passes, or fewer than two were asked for.
    """
    arrays = _rows(latents)
    axes = {key: key.axes.index("T") for key in arrays if "T" in key.axes}
    counts = {arrays[key].shape[axis] for key, axis in axes.items()}
    there = min(counts, default=0)
    if not 2 <= passes <= there:
        raise DataError(
            f"{latents.name}: passes must be from 2 to the {there} that are kept one by one, got "
            f"{passes}; re-run extract with monte_carlo: {{passes: {max(passes, 2)}, keep: "
            "[features, logits]}"
        )
    if passes == there:
        return latents
    index = torch.arange(passes)
    rows: dict[Key, Rows] = {
        key: AlongAxis(array, axes[key], index) if key in axes else array
        for key, array in arrays.items()
        if key.kind != "mc.entropy"
    }
    return _made_of(latents, rows, latents.name, f"{passes} passes")


def without_classes(latents: Latents, kept: Tensor) -> Latents:
    """Give the rows of the classes ``kept`` (C′,) int64, ascending, as if there were no others.

    Rows of other classes are left out, with all others that have no label; labels become places
    in ``kept``; logits, the head and all else with one number for each class lose the others.
    """
    labels = latents[LABELS].cpu().long()
    index = torch.isin(labels, kept).nonzero()[:, 0]
    return _of_classes(latents, some_rows(latents, index), kept)


def with_classes_cut(latents: Latents, kept: Tensor) -> Latents:
    """Give all rows as a network of the classes ``kept`` alone sees them; labels are left out."""
    return _of_classes(latents, latents, kept, labelled=False)


def _of_classes(whole: Latents, chosen: Latents, kept: Tensor, *, labelled: bool = True) -> Latents:
    table = torch.full((int(kept[-1]) + 1,), -1)
    table[kept] = torch.arange(len(kept))
    rows: dict[Key, Rows] = {}
    for key, array in _rows(chosen).items():
        if key == LABELS:
            rows |= {key: Renumbered(array, table)} if labelled else {}
        else:
            has = "C" in key.axes
            rows[key] = AlongAxis(array, key.axes.index("C"), kept) if has else array
    return _made_of(whole, rows, whole.name, f"{len(kept)} classes", kept)


def _rows(latents: Latents) -> dict[Key, Rows]:
    return {key: latents.rows(key) for key in latents.keys() if key != HEAD}  # noqa: SIM118


def _made_of(
    latents: Latents,
    rows: Mapping[Key, Rows],
    name: str,
    what: str,
    classes: Tensor | None = None,
) -> Latents:
    head = latents.head if HEAD in latents else None
    if head is not None and classes is not None:
        head = head[0][classes], head[1][classes]
    made = Latents.from_rows(
        rows, head=head, name=name, origin=f"{latents.origin}:{what}", device=latents.device
    )
    made.unit = latents.unit
    return made
