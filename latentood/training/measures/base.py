"""What a measure is: batches are added to it, and it gives values for all of them together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar


class Measure(ABC):
    """Measures a network on a split, batch by batch."""

    ranking: ClassVar[Mapping[str, int]]
    """What epochs are ranked by, the first value before the next; −1 where lower is better."""

    @abstractmethod
    def add(self, network: Any, inputs: Any, targets: Any) -> None:
        """Run a network in eval mode on a batch, and add what it gives."""

    @abstractmethod
    def values(self) -> dict[str, float]:
        """Give the values for all batches, by name; those without any rows are left out."""

    def statistics(self) -> dict[str, Any] | None:
        """Give histograms of all rows as JSON values, where there are any."""
        return None
