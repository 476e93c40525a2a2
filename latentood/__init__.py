"""Out-of-distribution detection from a network's latent space.

Run the model once, keep what detectors need in a cache, then fit, score and compare any number
of detectors from it. Higher score = more OOD, everywhere.

The names below are imported on first use, so that ``import latentood`` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentood import errors, stats, training
    from latentood.detectors import statistics
    from latentood.detectors.advice.advice import Advice
    from latentood.detectors.base import Detector, FeatureDetector, Needs, State
    from latentood.detectors.families.score_taps.base import Network, ScoreTap
    from latentood.detectors.fitted import Fitted, load
    from latentood.detectors.registry import detector, registry
    from latentood.detectors.statistics import Bank, ClassMeans, ClassMoments, Mean, Moments
    from latentood.evaluation import metrics
    from latentood.evaluation.comparison import Comparison
    from latentood.evaluation.pairing import ModelComparison
    from latentood.extraction.model.reductions import Reduction
    from latentood.latents import Key, Latents, Reading, Statistic
    from latentood.pipeline.schema import Pipeline, load_pipeline, parse_pipeline
    from latentood.plugins import hyper, plugin
    from latentood.store.cache import Cache, inspect, open_cache
    from latentood.store.verify import verify
    from latentood.workflows import (
        Choice,
        advise,
        compare,
        estimate,
        extract,
        fit,
        layers,
        publish,
        publish_choice,
        report,
        score,
        score_maps,
        train,
        train_head,
        tune,
        write_maps,
    )
    from latentood.workflows import extract as build_cache

__version__ = version("latentood")

_HOMES = {
    "detectors.advice.advice": ("Advice",),
    "detectors.base": ("Detector", "FeatureDetector", "Needs", "State"),
    "detectors.families.score_taps.base": ("Network", "ScoreTap"),
    "detectors.fitted": ("Fitted", "load"),
    "detectors.registry": ("detector", "registry"),
    "detectors.statistics": ("Bank", "ClassMeans", "ClassMoments", "Mean", "Moments"),
    "evaluation.comparison": ("Comparison",),
    "evaluation.pairing": ("ModelComparison",),
    "extraction.model.reductions": ("Reduction",),
    "latents": ("Key", "Latents", "Reading", "Statistic"),
    "pipeline.schema": ("Pipeline", "load_pipeline", "parse_pipeline"),
    "plugins": ("hyper", "plugin"),
    "store.cache": ("Cache", "inspect", "open_cache"),
    "store.verify": ("verify",),
    "workflows": (
        "Choice",
        "advise",
        "compare",
        "estimate",
        "extract",
        "fit",
        "layers",
        "publish",
        "publish_choice",
        "report",
        "score",
        "score_maps",
        "train",
        "train_head",
        "tune",
        "write_maps",
    ),
}
"""Module → the public names that it holds."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {
    "errors": "errors",
    "metrics": "evaluation.metrics",
    "statistics": "detectors.statistics",
    "stats": "stats",
    "training": "training",
}
_ALIASES = {"build_cache": "extract"}
"""Older names that stay."""

__all__ = [
    "Advice", "Bank", "Cache", "Choice", "ClassMeans", "ClassMoments", "Comparison", "Detector",
    "FeatureDetector", "Fitted", "Key", "Latents", "Mean", "ModelComparison", "Moments", "Needs",
    "Network", "Pipeline", "Reading", "Reduction", "ScoreTap", "State", "Statistic", "__version__",
    "advise", "build_cache", "compare", "detector", "errors", "estimate", "extract", "fit",
    "hyper", "inspect", "layers", "load", "load_pipeline", "metrics", "open_cache",
    "parse_pipeline", "plugin", "publish", "publish_choice", "registry", "report", "score",
    "score_maps", "statistics", "stats", "train", "train_head", "training", "tune", "verify",
    "write_maps",
]  # fmt: skip


class _Package(ModuleType):
    """The package, in which ``report`` is the verb also after the folder of that name is imported.

    An import binds each module in its parent, and would hide the verb.
    """

    @property
    def report(self) -> Any:
        return __getattr__("report")

    @report.setter
    def report(self, folder: ModuleType) -> None:
        """Leave the name to the verb; imports from the folder do not need it."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    name = _ALIASES.get(name, name)
    if name in _MODULES:
        return import_module(f"latentood.{_MODULES[name]}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'latentood' has no attribute {name!r}")
    return getattr(import_module(f"latentood.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
