"""What detectors ask of the fit rows: statistics of one streaming pass, shared by all of them.

Each is a frozen dataclass, so equal questions are answered once (``Latents.compute``), and any
number of them from one read (``Latents.gather``). The mathematics is in :mod:`latentood.stats`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from latentood.latents import LABELS, LOGITS, Accumulator, Latents
from latentood.stats.linalg import Covariance
from latentood.stats.moments import GroupSums, MomentSums, RowMoments

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pass(Generic[Result]):
    """An accumulator made of two functions."""

    take: Callable[[Latents], None]
    finish: Callable[[], Result]

    def add(self, block: Latents) -> None:
        """Take in the next rows."""
        self.take(block)

    def result(self) -> Result:
        """Close the pass."""
        return self.finish()


@dataclass(frozen=True)
class Moments:
    """Count, mean, scatter and their eigendecomposition, for every detector that needs them."""

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key,)

    def start(self, source: Latents) -> Accumulator[RowMoments]:
        """Begin a pass over ``source``."""
        sums = MomentSums()
        return Pass(lambda block: sums.add(block[self.key]), sums.result)


@dataclass(frozen=True, eq=False)
class Classes:
    """Means of the classes that occur, and the covariance they share.

    Attributes:
        means: (K, D) float64, in order of label.
        tied: Covariance of the rows about the mean of their class.
    """

    means: Tensor  # (K, D)
    tied: Covariance


@dataclass(frozen=True)
class ClassMoments:
    """Class means and tied covariance; the scatter is that of :class:`Moments`, not a second one.

    Asked for together with ``Moments(key)``, as detectors do, both come from one read.
    """

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LABELS)

    def start(self, source: Latents) -> Accumulator[Classes]:
        """Begin a pass over ``source``."""
        present = source[LABELS].long().unique()  # (K,), so an absent class has no mean at all
        sums = GroupSums(len(present), source.shape(self.key)[1], present.device)

        def take(block: Latents) -> None:
            group = torch.searchsorted(present, block[LABELS].long())
            sums.add(block[self.key], group)

        def finish() -> Classes:
            means = sums.means()
            return Classes(means, source.compute(Moments(self.key)).tied(sums.counts, means))

        return Pass(take, finish)


@dataclass(frozen=True, eq=False)
class Patterns:
    """One mean per class of the model's output.

    Attributes:
        means: (C, D) float64.
        no_correct: Classes whose fit rows are all misclassified: mean of all their rows.
        absent: Classes without fit rows: mean of all rows.
    """

    means: Tensor  # (C, D)
    no_correct: tuple[int, ...]
    absent: tuple[int, ...]


@dataclass(frozen=True)
class CorrectClassMeans:
    """Mean of the correctly classified rows of each class."""

    key: str

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key, LOGITS, LABELS)

    def start(self, source: Latents) -> Accumulator[Patterns]:
        """Begin a pass over ``source``."""
        classes, width = source.shape(LOGITS)[1], source.shape(self.key)[1]
        device = source.read(LOGITS, 0, 1).device
        both = GroupSums(2 * classes, width, device)  # of a class, the misclassified come second

        def take(block: Latents) -> None:
            labels = block[LABELS].long()
            missed = block[LOGITS].argmax(dim=1) != labels
            both.add(block[self.key], 2 * labels + missed)

        return Pass(take, lambda: _patterns(both.sums.unflatten(0, (-1, 2)), both.counts))


def _patterns(sums: Tensor, counts: Tensor) -> Patterns:
    """Fill the classes without correct rows from all their rows, or from all rows.

    Args:
        sums: (C, 2, D), of the correctly classified rows and of the others.
        counts: (2·C,) how many.
    """
    correct, every = counts[::2].unsqueeze(1), counts.view(-1, 2).sum(dim=1, keepdim=True)
    total = sums.sum(dim=1)
    own = torch.where(every > 0, total / every, total.sum(dim=0) / every.sum())
    no_correct, absent = (correct == 0) & (every > 0), every == 0
    return Patterns(
        torch.where(correct > 0, sums[:, 0] / correct, own),
        tuple(no_correct.flatten().nonzero().flatten().tolist()),
        tuple(absent.flatten().nonzero().flatten().tolist()),
    )


@dataclass(frozen=True, eq=False)
class BankRows:
    """Fit rows that are kept.

    Attributes:
        rows: (M, D) in their stored dtype: nothing is lost, half precision stays half the size.
        positions: (M,) int64, ascending: where in the fit split they are.
        origin: (32,) uint8, digest of the identity of the fit split.
    """

    rows: Tensor  # (M, D)
    positions: Tensor  # (M,)
    origin: Tensor  # (32,)


@dataclass(frozen=True)
class Bank:
    """A share of the rows, drawn without replacement."""

    key: str
    share: float
    seed: int

    def keys(self) -> tuple[str, ...]:
        """Name the arrays it reads."""
        return (self.key,)

    def start(self, source: Latents) -> Accumulator[BankRows]:
        """Begin a pass over ``source``."""
        chosen = self.chosen(source)
        bank = source.read(self.key, 0, 1).new_empty(len(chosen), *source.shape(self.key)[1:])

        def take(block: Latents) -> None:
            first = block.offset - source.offset
            low, high = torch.searchsorted(chosen, torch.tensor([first, first + len(block)]))
            bank[low:high] = block[self.key][(chosen[low:high] - first).to(bank.device)]

        def finish() -> BankRows:
            positions = (chosen + source.offset).to(bank.device)
            return BankRows(bank, positions, origin_digest(source).to(bank.device))

        return Pass(take, finish)

    def chosen(self, source: Latents) -> Tensor:
        """Draw the row numbers to keep, ascending, on the CPU."""
        return drawn(len(source), self.share, self.seed)


def drawn(rows: int, share: float, seed: int) -> Tensor:
    """Draw a share of row numbers, at least one, ascending; the seed alone decides which."""
    count = max(1, round(share * rows))
    if count >= rows:
        return torch.arange(rows)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


def origin_digest(latents: Latents) -> Tensor:
    """Digest of the identity of a split (32,) uint8: kept in a state, it tells its rows again."""
    digest = hashlib.sha256(latents.origin.encode()).digest()
    return torch.frombuffer(bytearray(digest), dtype=torch.uint8)


def own_positions(positions: Tensor, origin: Tensor, rows: Latents) -> Tensor | None:
    """Find the rows that are themselves in a bank, so that none is its own neighbour.

    Args:
        positions: (M,) of the bank.
        origin: (32,) of the bank.
        rows: Rows to score.

    Returns:
        (N,) place of each row in the bank, −1 if it is not there; None if no row can be.
    """
    if not torch.equal(origin.cpu(), origin_digest(rows)):
        return None
    asked = torch.arange(rows.offset, rows.offset + len(rows), device=positions.device)
    place = torch.searchsorted(positions, asked).clamp(max=len(positions) - 1)
    return torch.where(positions[place] == asked, place, -1)
