"""Comparison files, which hold all results.

They are written before any tracking, all under other names first, so that files that are there are
whole and of one comparison.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentood.errors import ConfigError, masked, printable
from latentood.evaluation.comparison import (
    NO_CLASS,
    ROW_COLUMNS,
    Comparison,
    Request,
    Result,
    ScoredSplit,
    Standing,
    Unscored,
)
from latentood.evaluation.metrics import ClassMetrics
from latentood.evaluation.uncertainty.predictions import quality_intervals
from latentood.files import new_files

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2
"""Version of ``results.json``."""

_FILES = {
    "csv": "results.csv",
    "json": "results.json",
    "scores": "scores.parquet",
    "classes": "classes.csv",
}
_OF_CLASS = tuple(spec.name for spec in fields(ClassMetrics))

# What JSON may hold as it is, but a terminal takes for a command, or UTF-8 cannot hold.
_TO_ESCAPE = re.compile(r"[\x7f-\x9f\ud800-\udfff]")


def write_results(comparison: Comparison, out_dir: Path | str) -> dict[str, Path]:
    """Write ``results.csv``, ``results.json``, ``scores.parquet`` and ``classes.csv``.

    Files of these names are replaced; the result maps ``csv``, ``json``, ``scores`` and
    ``classes`` to them. The last has a line for each detector × layer × OOD split × ID class.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    files = {kind: Path(out_dir) / name for kind, name in _FILES.items()}
    with new_results(files, who="results") as drafts:
        writers = (_write_csv, _write_json, _write_scores, _write_classes)
        for write, draft in zip(writers, drafts, strict=True):
            write(comparison, draft)
    return files


@contextmanager
def new_results(files: Mapping[str, Path], *, who: str) -> Iterator[list[Path]]:
    """Give drafts of files of one folder, which is made; without an error all are put in place.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    paths = list(files.values())
    folder = paths[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with new_files(paths) as drafts:
            yield drafts
    except OSError as error:
        raise ConfigError(
            f"{who}: {folder} must be a folder that can be written to, but it is not "
            f"({error.strerror or error}); choose another --out"
        ) from error


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Give a comparison, without its scores, as JSON values in full precision.

    ``rows`` has an entry per detector × layer × OOD split, ``averages`` one per role instead.
    ``wrong_predictions`` has one per detector × layer, where the ID split has right and wrong
    predictions: its right ones take the place of ID, its wrong ones that of OOD; ``selective`` has
    the same as selective prediction. ``predictions`` is how good those of the ID split are.
    ``standings`` are the paired tests against the best detector, of each average; ``best`` marks it
    and all that cannot be told from it. ``open_set`` and ``components`` have one entry per
    detector × layer × mixed split, of boxes and of cells.
    """
    document = {
        "format": FORMAT,
        "provenance": comparison.provenance,
        "unit": comparison.unit,
        "id": _id_facts(comparison),
        "rows": [asdict(row) for row in comparison.rows],
        "averages": [
            asdict(result.request)
            | asdict(average)
            | _standing(result.standings.get(f"auroc.{average.role}"))
            for result in comparison.results
            for average in result.averages.values()
        ],
        "standings": [
            asdict(result.request) | {"of": what} | asdict(standing)
            for result in comparison.results
            for what, standing in result.standings.items()
        ],
        "open_set": [one for r in comparison.results for one in _by_split(r.request, r.open_set)],
        "components": [
            one for r in comparison.results for one in _by_split(r.request, r.components)
        ],
        "predictions": _quality(comparison.id_split),
        "selective": [
            asdict(r.request) | asdict(r.selective) for r in comparison.results if r.selective
        ],
        "cost": [asdict(r.request) | asdict(r.cost) for r in comparison.results if r.cost],
        "wrong_predictions": [asdict(r.wrong) for r in comparison.results if r.wrong],
        "fitted": [asdict(r.request) | {"provenance": r.provenance} for r in comparison.results],
        "failed": [_unscored(one) for one in comparison.failed],
        "skipped": [_unscored(one) for one in comparison.skipped],
        "warnings": comparison.warnings,
        "shared_seconds": comparison.shared_seconds,
    }
    return {name: plain(value) for name, value in document.items()}


def _by_split(
    request: Request, metrics: Mapping[str, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    for split, values in metrics.items():
        yield asdict(request) | {"split": split} | dict(values)


def _id_facts(comparison: Comparison) -> dict[str, Any] | None:
    ids = comparison.id_split
    if ids is None:
        return None
    return {"split": ids.name, "rows": len(ids.labels), "accuracy": ids.accuracy}


def _standing(standing: Standing | None) -> dict[str, Any]:
    return {"best": None, "p_value": None} if standing is None else asdict(standing)


def _quality(split: ScoredSplit | None) -> dict[str, Any] | None:
    """Give the metrics of the predictions of the ID split, with intervals, where known."""
    if split is None or split.outputs is None:
        return None
    values = {"split": split.name, **asdict(split.outputs.quality())}
    for name, (low, high) in quality_intervals(split.outputs).items():
        values |= {f"{name}_low": low, f"{name}_high": high}
    return values


def plain(value: Any) -> Any:
    """Give a value as JSON has it: arrays as lists, NaN, infinity and the unknown as texts.

    Passwords in URIs are hidden.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if hasattr(value, "tolist"):  # a tensor or an array, such as a vector of class weights
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, int) else masked(str(value))


def to_text(value: Any, indent: int | None = None) -> str:
    """Write a value as JSON, without an indent as one line."""
    return _json(plain(value), indent)


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _TO_ESCAPE.sub(lambda one: f"\\u{ord(one[0]):04x}", text)


def _unscored(one: Unscored) -> dict[str, Any]:
    return asdict(one.request) | {"reason": one.reason, "error": one.error, "place": one.place}


def _write_csv(comparison: Comparison, path: Path) -> None:
    write_table(ROW_COLUMNS, (asdict(row) for row in comparison.rows), path)


def _write_classes(comparison: Comparison, path: Path) -> None:
    requested = tuple(spec.name for spec in fields(Request))
    lines = (
        asdict(result.request) | {"split": split, "class": number} | asdict(one)
        for result in comparison.results
        for split, of_split in result.classes.items()
        for number, one in of_split.items()
    )
    write_table((*requested, "split", "class", *_OF_CLASS), lines, path)


def write_table(columns: Sequence[str], lines: Iterable[dict[str, Any]], path: Path) -> None:
    """Write a CSV file whose lines have, among others, the column ``hyperparameters``."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for line in lines:
            cells = line | {"hyperparameters": to_text(line["hyperparameters"])}
            texts = {name: printable(cell) for name, cell in cells.items() if isinstance(cell, str)}
            table.writerow(cells | texts)


def _write_json(comparison: Comparison, path: Path) -> None:
    path.write_text(_json(as_json(comparison), indent=2) + "\n", encoding="utf-8")


def _write_scores(comparison: Comparison, path: Path) -> None:
    """Write one row group per detector × layer × split, so that a reader can skip the others."""
    import pyarrow.parquet as pq

    schema = _score_schema()
    with pq.ParquetWriter(path, schema, compression="zstd") as table:
        for split in comparison.splits:
            shared = _row_columns(split)
            for result in comparison.results:
                table.write_table(_score_table(schema, shared, split, result))


def _score_schema() -> pa.Schema:
    import pyarrow as pa

    name = pa.dictionary(pa.int32(), pa.string())  # a few values, many times
    return pa.schema(
        {
            "split": name,
            "row": pa.int64(),
            "id": pa.string(),
            "label": pa.int64(),
            "prediction": pa.int64(),
            "ood": pa.uint8(),
            "detector": name,
            "layer": name,
            "score": pa.float64(),
            "hyperparameters": name,
        }
    )


def _row_columns(split: ScoredSplit) -> dict[str, Any]:
    """Give the columns that are the same for every detector."""
    import pyarrow as pa

    return {
        "row": pa.array(np.arange(len(split.labels))),
        "id": pa.array([unicode_name(name) for name in split.ids], pa.string()),
        "label": pa.array(split.labels, mask=split.labels == NO_CLASS),
        "prediction": pa.array(split.predictions, mask=split.predictions == NO_CLASS),
        "ood": pa.array(split.truth.ood),
    }


def unicode_name(name: str) -> str:
    """Replace what is not Unicode: file names may hold it, Parquet may not."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _score_table(
    schema: pa.Schema, shared: Mapping[str, Any], split: ScoredSplit, result: Result
) -> pa.Table:
    import pyarrow as pa

    def repeated(text: str) -> pa.Array:
        index = pa.array(np.zeros(len(split.labels), dtype=np.int32))
        return pa.DictionaryArray.from_arrays(index, pa.array([text]))

    request = result.request
    columns = {
        **shared,
        "split": repeated(split.name),
        "detector": repeated(request.detector),
        "layer": repeated(request.layer),
        "score": pa.array(result.scores[split.name]),
        "hyperparameters": repeated(to_text(request.hyperparameters)),
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)
