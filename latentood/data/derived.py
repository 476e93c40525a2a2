"""Data sets made of other data sets: some of their rows, or some of their classes.

Each takes a ``source``, in a pipeline file a mapping with ``target`` and ``args``, and leaves its
inputs as they are, before the pipeline's transform. Names of rows are those of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from latentood.data.items import (
    NO_LABEL,
    class_numbers,
    labels_of,
    names_of_classes,
    split_item,
)
from latentood.data.names import Picked, names_of
from latentood.errors import ConfigError


class Derived:
    """Rows of another data set; an item is an input or (input, label).

    Args:
        source: A map-style data set.

    Attributes:
        rows: Which of its rows, in order; all, until a subclass chooses.
        model_space: Whether inputs are ready for a model, as in the source.

    Raises:
        ConfigError: The source has no length.
    """

    input: str | None = None
    label: str | None = None
    """Fields of an item, where items are mappings; see :class:`Fields`."""

    def __init__(self, source: Any) -> None:
        if not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
            raise ConfigError(
                f"{type(self).__name__}: source must be a data set with a length, got "
                f"{type(source).__name__}; name one by target and args"
            )
        self.source = source
        self.rows: Sequence[int] = range(len(source))
        self.model_space = bool(getattr(source, "model_space", False))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"{type(self).__name__}: no row {index} of {len(self)}")
        value, label = split_item(self.source[self.rows[index]], self.input, self.label)
        value, label = self.change(value, index), self.relabel(label)
        return value if label == NO_LABEL else (value, label)

    def change(self, value: Any, index: int) -> Any:
        """Make the input of a row from that of the source."""
        return value

    def relabel(self, label: Any) -> Any:
        """Make the label of a row from that of the source; ``NO_LABEL`` drops it."""
        return label

    @cached_property
    def ids(self) -> Sequence[str]:
        """Names of the rows: those of the source."""
        return Picked(names_of(self.source), self.rows)

    @property
    def labels(self) -> list[int]:
        """Labels of the rows, without reading their inputs where the source allows it."""
        of_source = labels_of(self.source, self.label)
        return [self.relabel(of_source[row]) for row in self.rows]

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Name of a class → its label, where the source names its classes."""
        known = names_of_classes(self.source, self.label)
        labels = {name: self.relabel(label) for name, label in known.items()}
        return {name: label for name, label in labels.items() if label != NO_LABEL}


class Fields(Derived):
    """Items that are mappings as (input, label), where their fields have unusual names.

    Args:
        source: A map-style data set, as Hugging Face's.
        input: Field of an item that is the input.
        label: Field of an item that is the label; default: the first usual name that is there.
    """

    def __init__(self, source: Any, input: str, label: str | None = None) -> None:
        super().__init__(source)
        self.input = input
        self.label = label


class Rows(Derived):
    """Every ``step``-th row from ``start`` up to ``stop``, e.g. to hold back an ID val split.

    Args:
        source: A map-style data set.
        start: First row, from 0; a negative one counts from the end.
        stop: The row behind the last, likewise; default: all.
        step: Distance between rows, ≥ 1.

    Raises:
        ConfigError: No row is left.
    """

    def __init__(self, source: Any, start: int = 0, stop: int | None = None, step: int = 1) -> None:
        super().__init__(source)
        if step < 1 or not self.rows[start:stop:step]:
            raise ConfigError(
                f"Rows: start, stop and step must leave some of {len(source)} rows, got "
                f"{start}, {stop} and {step}; give a stop behind start and a step ≥ 1"
            )
        self.rows = self.rows[start:stop:step]


class OnlyClasses(Derived):
    """The rows of some classes, for the ID side: a label is the place of its class in ``classes``.

    Args:
        source: A map-style data set with labels.
        classes: The classes to keep, by label or by name, in the order of the model's outputs.

    Raises:
        ConfigError: No class, a repeated one, or one of which there is no row.
        DataError: An item has no label.
    """

    def __init__(self, source: Any, classes: Sequence[int | str]) -> None:
        super().__init__(source)
        who = type(self).__name__
        numbers = class_numbers(source, classes)
        self.places = {number: place for place, number in enumerate(numbers)}
        if not numbers or len(self.places) < len(numbers):
            raise ConfigError(
                f"{who}: classes must be different ones, got {list(classes)}; e.g. [0, 1, 2]"
            )
        labels = labels_of(source)
        if absent := sorted(self.places.keys() - set(labels)):
            raise ConfigError(
                f"{who}: classes must be among the labels of {type(source).__name__}, "
                f"{min(labels)} to {max(labels)}, but no row has {absent}; correct classes"
            )
        self.rows = [row for row, number in enumerate(labels) if number in self.places]

    def relabel(self, label: Any) -> Any:
        """Give the place of a class; ``NO_LABEL`` for classes that are left out."""
        return self.places.get(int(label), NO_LABEL)


class HeldOutClasses(OnlyClasses):
    """The rows of classes that the model was not trained on, for the OOD side: without labels.

    Args:
        source: A map-style data set with labels.
        classes: The classes that :class:`OnlyClasses` leaves out on the ID side, by label or name.

    Raises:
        ConfigError: As in :class:`OnlyClasses`.
        DataError: An item has no label.
    """

    def relabel(self, label: Any) -> Any:
        """Drop the label: the class is none of the model's."""
        return NO_LABEL
