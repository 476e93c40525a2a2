"""Files of models that stand side by side: CSV for tables, JSON with everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from latentood.evaluation.pairing import Gap, Line, Model, ModelComparison
from latentood.report.results import new_results, plain, to_text, write_table

FORMAT = 1
"""Version of ``compare.json``."""

_NAMES = {"csv": "compare.csv", "json": "compare.json"}
_OF_GAP = {spec.name: f"gap_{spec.name}" for spec in fields(Gap)}
_OF_LINE = tuple(spec.name for spec in fields(Line) if spec.name != "gap")
_COLUMNS = (*_OF_LINE, "seed_sd", "reference", *_OF_GAP.values())


def write_models(comparison: ModelComparison, out_dir: Path | str) -> dict[str, Path]:
    """Write ``compare.csv`` and ``compare.json``, both or neither; files there are replaced.

    The CSV file has a line for each model × detector × layer × average × metric; columns that
    begin with ``gap_`` compare it with the reference.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    files = {kind: Path(out_dir) / name for kind, name in _NAMES.items()}
    with new_results(files, who="compare") as (table, document):
        write_table(_COLUMNS, (_cells(comparison, line) for line in comparison.lines), table)
        document.write_text(to_text(as_json(comparison), indent=2) + "\n", encoding="utf-8")
    return files


def as_json(comparison: ModelComparison) -> dict[str, Any]:
    """Give a comparison of models as JSON values in full precision.

    ``lines`` has an entry per model × detector × layer × average × metric; ``gap`` in it is the
    difference to the reference, ``seeds`` the value of each seed.
    """
    document = {
        "format": FORMAT,
        "reference": comparison.reference.name,
        "unit": comparison.reference.stores[0].comparison.unit,
        "models": [_model(model) for model in comparison.models],
        "splits": [asdict(pair) for pair in comparison.splits],
        "left_out": comparison.left_out,
        "predictions": [
            {"model": one.model, "split": one.split, "n": one.n, "gap": _gap(one.gap)}
            | {f"{name}{end}": value for name, values in one.values.items()
               for end, value in zip(("", "_low", "_high"), values, strict=True)}
            for one in comparison.qualities
        ],
        "lines": [
            {name: getattr(line, name) for name in _OF_LINE}
            | {"seed_sd": line.seed_sd, "gap": _gap(line.gap)}
            for line in comparison.lines
        ],
        "missing": [
            {"store": one.store, **asdict(one.request), "reason": one.reason}
            for one in comparison.missing
        ],
    }  # fmt: skip
    return {name: plain(value) for name, value in document.items()}


def _model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "stores": [
            {"name": one.name, "seed": one.seed}
            | {key: one.comparison.provenance[key] for key in ("digest", "weights")}
            for one in model.stores
        ],
    }


def _gap(gap: Gap | None) -> Mapping[str, Any] | None:
    return None if gap is None else asdict(gap)


def _cells(comparison: ModelComparison, line: Line) -> dict[str, Any]:
    cells = {name: getattr(line, name) for name in _OF_LINE}
    cells |= {"seeds": " ".join(map(str, line.seeds)), "seed_sd": line.seed_sd}
    if line.gap is None:
        return cells
    gap = {column: getattr(line.gap, name) for name, column in _OF_GAP.items()}
    return cells | {"reference": comparison.reference.name} | gap
