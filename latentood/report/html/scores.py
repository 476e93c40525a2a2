"""The scores of a comparison, read from ``scores.parquet`` one detector at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentood.errors import ConfigError, one_line
from latentood.evaluation.comparison import NO_CLASS
from latentood.evaluation.metrics import Array

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Name = tuple[str, str, str]
"""Detector, layer and hyperparameters as one line of JSON."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a split that were scored."""

    ids: Sequence[str]  # (N,)
    labels: NDArray[np.int64]  # (N,), NO_CLASS where there is none
    predictions: NDArray[np.int64]  # (N,)
    ood: NDArray[np.int64] | None  # (N,) 0 ID, 1 OOD, 255 neither; None where it is not kept


class Scores:
    """The table of scores; a row group is one detector × layer × split.

    Args:
        path: The file.

    Raises:
        ConfigError: It is not there, or is no table of scores.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._groups: dict[Name, dict[str, list[int]]] = {}
        with self._named_errors():
            for number in range(self._file.num_row_groups):
                names = ("detector", "layer", "hyperparameters", "split")
                table = self._file.read_row_group(number, columns=names).slice(0, 1)
                detector, layer, own, split = (table[one][0].as_py() for one in names)
                of_detector = self._groups.setdefault((detector, layer, own), {})
                of_detector.setdefault(split, []).append(number)

    @property
    def detectors(self) -> set[Name]:
        """Whose scores there are."""
        return set(self._groups)

    @cached_property
    def rows(self) -> Mapping[str, Rows]:
        """Split → its rows, as every detector scored them."""
        first = next(iter(self._groups.values()), {})
        with self._named_errors():
            return {split: self._rows(groups) for split, groups in first.items()}

    def of(self, name: Name) -> dict[str, Array]:
        """Give the scores of a detector: split → (N,)."""
        with self._named_errors():
            return {
                split: self._numbers(groups, "score")
                for split, groups in self._groups[name].items()
            }

    @cached_property
    def _file(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.path)

    def _values(self, groups: list[int], column: str) -> Iterator[Any]:
        for group in groups:
            yield self._file.read_row_group(group, columns=[column])[column]

    def _numbers(self, groups: list[int], column: str) -> NDArray[Any]:
        parts = self._values(groups, column)
        whole = (part.fill_null(NO_CLASS) if part.null_count else part for part in parts)
        return np.concatenate([part.to_numpy() for part in whole])

    def _rows(self, groups: list[int]) -> Rows:
        ids = [one for part in self._values(groups, "id") for one in part.to_pylist()]
        kept = "ood" in self._file.schema_arrow.names
        return Rows(
            ids,
            self._numbers(groups, "label"),
            self._numbers(groups, "prediction"),
            self._numbers(groups, "ood") if kept else None,
        )

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, LookupError) as error:  # pyarrow's are such, too
            raise ConfigError(
                f"report: the scores must be those that latentood score wrote, but {self.path} "
                f"cannot be read ({one_line(error)}); run latentood score again"
            ) from error
