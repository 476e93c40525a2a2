"""All detectors by name: the families of latentood and those of other packages.

The families add themselves when :mod:`latentood.detectors` is imported. Another package adds a
detector by an entry point of the group ``latentood.detectors``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentood.detectors.base import Detector
from latentood.plugins import Registry, hyperparameters_of

DETECTORS: Registry[Detector] = Registry(Detector, group="latentood.detectors", noun="detector")


def registry() -> Mapping[str, type[Detector]]:
    """List all detectors, built-in first.

    Returns:
        name → class.

    Raises:
        DetectorError: A plug-in is not a Detector or takes a name that is in use.
    """
    return DETECTORS.known()


def detector(name: str, **hyperparameters: Any) -> Detector:
    """Build a detector by name.

    Args:
        name: As listed by ``latentood detectors``.
        **hyperparameters: Those of the detector; the rest keep the paper's defaults.

    Raises:
        UnknownName: No such detector or hyperparameter (names the nearest).
        DetectorError: A hyperparameter is outside its range.
    """
    return DETECTORS.build(name, **hyperparameters)


def detector_table() -> list[dict[str, Any]]:
    """Describe every detector in the order of the registry, for the command line and the docs."""
    return [_described(name, cls) for name, cls in registry().items()]


def _described(name: str, cls: type[Detector]) -> dict[str, Any]:
    needs = cls().needs()
    return {
        "name": name,
        "family": cls.family,
        "summary": (cls.__doc__ or "").partition("\n")[0],
        "paper": cls.paper,
        "works": cls.works,
        "fails": cls.fails,
        "cost": cls.cost,
        "per_layer": cls.per_layer,
        "cannot_fit_on": cls.cannot_fit_on,
        "needs": {"score": needs.score, "fit": needs.fit, "val": needs.val},
        "hyperparameters": [
            {"name": one.name, "default": one.default, "range": one.allowed, "doc": one.doc}
            for one in hyperparameters_of(cls)
        ],
    }
