"""The input of an item of a data set, and its label where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from latentood.errors import ConfigError, DataError, suggest

NO_LABEL = -1
INPUT_FIELDS = ("image", "img", "pixel_values", "input")
LABEL_FIELDS = ("label", "labels", "fine_label")
_LABEL_LISTS = ("targets", "labels", "_labels")
_PROBES = 8  # items read to see whether a list of labels is that of the items


def split_item(item: Any, input_field: str | None, label_field: str | None) -> tuple[Any, Any]:
    """Take input and label out of what a data set gives for a row.

    Args:
        item: An input, (input, label, …), or a mapping as Hugging Face data sets give.
        input_field: Name of the input in a mapping; default: the first usual name that is there.
        label_field: Name of the label in a mapping; likewise.

    Returns:
        Input and label; ``NO_LABEL`` where there is none.

    Raises:
        DataError: The mapping has no such field.
    """
    if isinstance(item, Mapping):
        value = _field(item, "input", input_field, INPUT_FIELDS)
    else:
        value = item[0] if isinstance(item, tuple | list) else item
    return value, label_of(item, label_field)


def label_of(item: Any, label_field: str | None) -> Any:
    """Take the label alone; see :func:`split_item`."""
    if isinstance(item, Mapping):
        unlabelled = label_field is None and not any(name in item for name in LABEL_FIELDS)
        return NO_LABEL if unlabelled else _field(item, "label", label_field, LABEL_FIELDS)
    return item[1] if isinstance(item, tuple | list) else NO_LABEL


def _field(item: Mapping[str, Any], what: str, name: str | None, usual: Sequence[str]) -> Any:
    if name is None:
        name = next((one for one in usual if one in item), None)
    if name is None or name not in item:
        raise DataError(
            f"{what}: must name a field of the items, which are {', '.join(map(repr, item))}, "
            f"got {'none' if name is None else repr(name)}; set {what}: of the split, or wrap the "
            "data set in latentood.data.Fields"
        )
    return item[name]


def labels_of(source: Any, label_field: str | None = None) -> list[int]:
    """Read the labels of all items, without their inputs where the data set lists labels.

    Raises:
        DataError: An item has no label.
    """
    labels = _listed(source, label_field)
    if labels is None:
        labels = [int(label_of(source[row], label_field)) for row in range(len(source))]
    if NO_LABEL in labels:
        raise DataError(
            f"{type(source).__name__}: every item must have a label here, got none in item "
            f"{labels.index(NO_LABEL)}; use a data set with labels"
        )
    return labels


def _listed(source: Any, label_field: str | None) -> list[int] | None:
    """Choose a list of labels that agrees with the items: some data sets have several kinds."""
    size = len(source)
    for candidate in _candidates(source, label_field):
        try:
            labels = [int(label) for label in candidate]
        except (TypeError, ValueError):  # masks, boxes or names
            continue
        probes = range(0, size, max(1, size // _PROBES))
        if len(labels) == size and all(
            labels[row] == int(label_of(source[row], label_field)) for row in probes
        ):
            return labels
    return None


def _candidates(source: Any, label_field: str | None) -> list[Any]:
    if getattr(source, "target_transform", None) is not None:
        return []  # what is listed is not what the items give
    columns = getattr(source, "column_names", None)
    if isinstance(columns, list):
        names = (label_field,) if label_field else LABEL_FIELDS
        return [source[name] for name in names if name in columns]
    lists = [getattr(source, name, None) for name in _LABEL_LISTS]
    for name in ("samples", "_samples"):
        pairs = getattr(source, name, None)
        if isinstance(pairs, list) and all(isinstance(pair, tuple) for pair in pairs):
            lists.append([pair[1] for pair in pairs])
    return [one for one in lists if one is not None]


def class_numbers(source: Any, classes: Sequence[int | str]) -> list[int]:
    """Look up the labels of classes that are given by label or by name."""
    known = names_of_classes(source)
    numbers = []
    for one in classes:
        if isinstance(one, str) and one not in known:
            hint = suggest(one, known) if known else "give labels, e.g. [0, 1]"
            raise ConfigError(
                f"{type(source).__name__}: classes must be labels or names of classes, "
                f"got {one!r}; {hint}"
            )
        numbers.append(known[one] if isinstance(one, str) else int(one))
    return numbers


def names_of_classes(source: Any, label_field: str | None = None) -> dict[str, int]:
    """Give name of a class → label; empty where classes have no names."""
    known = getattr(source, "class_to_idx", None)
    if isinstance(known, dict):
        return dict(known)
    names: Any = getattr(source, "classes", None)
    features = getattr(source, "features", None)
    if isinstance(features, dict):
        usual = (label_field,) if label_field else LABEL_FIELDS
        field = next((name for name in usual if name in features), None)
        names = None if field is None else getattr(features[field], "names", None)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return {}
    return {name: label for label, name in enumerate(names)}
