"""The commands that make a comparison again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latentood.errors import LatentOODError
from latentood.evaluation.inputs.request import combinations
from latentood.report.html.document import Document, Entry


def commands(document: Document) -> str:
    """Give the lines that extract, score and report again; file names are the reader's."""
    by_name: dict[str, list[Entry]] = {}
    for entry in document.entries:
        by_name.setdefault(entry.name[0], []).append(entry)
    words = ["latentood", "score", "CACHE", "--detectors", ",".join(sorted(by_name))]
    for name, entries in sorted(by_name.items()):
        for setting in _settings(name, [one.hyperparameters for one in entries]):
            words += ["--set", setting]
    if document.unit != "image":
        words += ["--unit", document.unit]
    if document.provenance.get("image_score"):
        words += ["--image-score", str(document.provenance["image_score"])]
    return "\n".join(
        [
            "latentood extract PIPELINE --store CACHE",
            shlex.join([*words, "--out", "RESULTS"]),
            "latentood report RESULTS --store CACHE --images PIPELINE --out report.html",
        ]
    )


def _settings(name: str, given: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Give what is not the default, as ``--set`` takes it."""
    try:
        defaults = next(combinations(name, {})).hyperparameters()
    except LatentOODError:  # of a package that is not installed here
        defaults = {}
    for key in given[0]:
        values = {_text(one.get(key)): None for one in given}
        if list(values) != [_text(defaults.get(key))]:
            yield f"{name}.{key}={','.join(values)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
