"""How the output of a layer becomes one array per row.

A reduction is a value with a function and the shape it declares, so that a cache can be laid
out before anything runs. Other packages add theirs by the entry-point group
``latentood.reductions``: the entry point's object is a :class:`Reduction`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

import torch
from torch import Tensor

from latentood.errors import ModelError, unknown

Shape = tuple[int, ...]
GRAM_POWERS = 5
ENTRY_POINT_GROUP = "latentood.reductions"


@dataclass(frozen=True)
class Reduction:
    """One way to reduce the output of a layer.

    Attributes:
        name: As in ``layers: [{layer3: name}]``.
        apply: (B, …) → (B, …).
        shape: Shape of one row before → after; raises ModelError where it does not apply.
        doc: One line.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    shape: Callable[[Shape], Shape]
    doc: str


def _positions(x: Tensor) -> Tensor:
    """Bring positions last: maps (B, C, …) → (B, C, P), tokens (B, L, D) → (B, D, L)."""
    if x.dim() == 2:
        return x[:, :, None]
    return x.transpose(1, 2) if x.dim() == 3 else x.flatten(2)


def _channels(row: Shape) -> Shape:
    """Channels of maps, tokens or vectors."""
    return (row[-1] if len(row) == 2 else row[0],)


def mean(x: Tensor) -> Tensor:
    """Average over positions."""
    return _positions(x).mean(dim=2)


def std(x: Tensor) -> Tensor:
    """Population standard deviation over positions."""
    return _positions(x).std(dim=2, correction=0)


def gram(x: Tensor) -> Tensor:
    """Row sums of the Gram matrices of order 1 to 5 (Sastry, Oore 2020, arXiv:1912.12510, eq. 1).

    ``G_p = (F^p F^pᵀ)^(1/p)`` for channels × positions F, powers by element, the root signed.
    The rows of G_p are summed, so that 5·C numbers stand for the 5·C² of the paper.
    """
    maps = _positions(x)
    sums = []
    for power in range(1, GRAM_POWERS + 1):
        raised = maps**power
        product = raised @ raised.transpose(1, 2)
        sums.append((product.sign() * product.abs() ** (1 / power)).sum(dim=2))
    return torch.cat(sums, dim=1)


def _last(row: Shape) -> Shape:
    if len(row) < 2:
        raise ModelError(f"reduction tokens-mean: needs positions before the last axis, got {row}")
    return (row[-1],)


def _first_token(row: Shape) -> Shape:
    if len(row) != 2:
        raise ModelError(f"reduction cls: needs tokens (L, D) per row, got {row}; use mean")
    return (row[1],)


def _flat(row: Shape) -> Shape:
    size = 1
    for length in row:
        size *= length
    return (size,)


BUILT_IN = (
    Reduction("mean", mean, _channels, "mean over positions: maps (C, …), tokens (L, D)"),
    Reduction("max", lambda x: _positions(x).amax(dim=2), _channels, "largest over positions"),
    Reduction("std", std, _channels, "standard deviation over positions"),
    Reduction(
        "mean+std",
        lambda x: torch.cat([mean(x), std(x)], dim=1),
        lambda row: (2 * _channels(row)[0],),
        "mean, then standard deviation, over positions",
    ),
    Reduction(
        "tokens-mean",
        lambda x: x.flatten(1, -2).mean(dim=1),
        _last,
        "mean over all axes but the last: channels-last maps (H, W, C), tokens (L, D)",
    ),
    Reduction("cls", lambda x: x[:, 0], _first_token, "first token of (L, D)"),
    Reduction("flatten", lambda x: x.flatten(1), _flat, "every value, as one vector"),
    Reduction(
        "gram",
        gram,
        lambda row: (GRAM_POWERS * _channels(row)[0],),
        "row sums of Gram matrices of order 1 to 5, for the detector gram",
    ),
    Reduction("map", lambda x: x, lambda row: row, "everything, unreduced"),
)


@cache
def reductions() -> dict[str, Reduction]:
    """List all reductions by name, built-in first."""
    known = {one.name: one for one in BUILT_IN}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        plugin = point.load()
        if not isinstance(plugin, Reduction) or plugin.name in known:
            raise ModelError(
                f"plug-in {point.name!r}: must be a Reduction with a name that is not in use, "
                f"got {plugin!r}; mend or uninstall that package"
            )
        known[plugin.name] = plugin
    return known


def reduction(name: str) -> Reduction:
    """Find a reduction by name.

    Raises:
        UnknownName: No such reduction (names the nearest).
    """
    if name not in reductions():
        raise unknown("reduction", name, reductions())
    return reductions()[name]
