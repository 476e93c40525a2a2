"""What verbs are given: a pipeline or its file, a cache or its folder, arrays of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentood.latents import Latents
from latentood.latents.splits import Splits
from latentood.pipeline.schema import Pipeline, load_pipeline, parse_pipeline
from latentood.pipeline.targets import import_beside
from latentood.store.cache import open_cache

NO_TRACKING = "none"

PipelineSource = Pipeline | Mapping[str, Any] | Path | str
"""A pipeline, or the file that holds it."""

Arrays = Latents | Mapping[str, Any]
"""Rows: latents, or the keyword arguments that make them."""


def pipeline_of(given: PipelineSource, overrides: Sequence[str]) -> Pipeline:
    """Give a pipeline, or read it; ``overrides`` are for a file."""
    if isinstance(given, Pipeline):
        return given
    if isinstance(given, Mapping):
        return parse_pipeline(given)
    import_beside(Path(given).resolve().parent)
    return load_pipeline(given, overrides)


def splits_of(source: Splits | Path | str) -> Splits:
    """Give splits, or open the cache that holds them."""
    return open_cache(source) if isinstance(source, str | Path) else source
