"""Out-of-distribution detection from a network's latent space.

Run the model once, keep what detectors need in a cache, then fit, score and compare any number
of detectors from it. Higher score = more OOD, everywhere.

The names below are imported on first use, so that ``import latentood`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentood import errors
    from latentood.config import Pipeline, load_pipeline, parse_pipeline
    from latentood.detectors.base import Detector, Needs, State, hyper
    from latentood.detectors.fitting import Fitted, fit
    from latentood.detectors.loading import load
    from latentood.detectors.registry import detector, registry
    from latentood.evaluation import metrics
    from latentood.extract.runner import build_cache
    from latentood.latents import Latents
    from latentood.store.cache import Cache, open_cache
    from latentood.store.verify import verify

__version__ = version("latentood")

_HOMES = {
    "Cache": "store.cache",
    "Detector": "detectors.base",
    "Fitted": "detectors.fitting",
    "Latents": "latents",
    "Needs": "detectors.base",
    "build_cache": "extract.runner",
    "Pipeline": "config",
    "State": "detectors.base",
    "detector": "detectors.registry",
    "fit": "detectors.fitting",
    "hyper": "detectors.base",
    "load": "detectors.loading",
    "load_pipeline": "config",
    "open_cache": "store.cache",
    "parse_pipeline": "config",
    "registry": "detectors.registry",
    "verify": "store.verify",
}

_MODULES = {"errors": "latentood.errors", "metrics": "latentood.evaluation.metrics"}

__all__ = [
    "Cache", "Detector", "Fitted", "Latents", "Needs", "Pipeline", "State", "__version__",
    "build_cache", "detector", "errors", "fit", "hyper", "load", "load_pipeline", "metrics",
    "open_cache", "parse_pipeline", "registry", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'latentood' has no attribute {name!r}")
    return getattr(import_module(f"latentood.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
