"""All detectors by name: the built-in ones and those other packages register.

A third party adds one by the entry-point group ``latentood.detectors``: the entry point's
name is the detector's name, its object the :class:`~latentood.detectors.base.Detector` class.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from latentood.detectors.base import Detector
from latentood.errors import DetectorError, unknown

BUILT_IN: tuple[type[Detector], ...] = ()

ENTRY_POINT_GROUP = "latentood.detectors"


@cache
def registry() -> dict[str, type[Detector]]:
    """List all detectors, built-in first.

    Returns:
        name → class.

    Raises:
        DetectorError: A plug-in is not a Detector or takes a name that is in use.
    """
    known = {cls.name: cls for cls in BUILT_IN}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        plugin = point.load()
        if not (isinstance(plugin, type) and issubclass(plugin, Detector)):
            raise DetectorError(
                f"plug-in {point.name!r}: {point.value} must be a subclass of "
                f"latentood.Detector, got {plugin!r}; mend or uninstall that package"
            )
        if point.name in known:
            raise DetectorError(
                f"plug-in {point.name!r}: that name is in use by {known[point.name].__module__}; "
                "give the plug-in another name"
            )
        known[point.name] = plugin
    return known


def detector(name: str, **hyperparameters: Any) -> Detector:
    """Build a detector by name.

    Args:
        name: As listed by ``latentood detectors``.
        **hyperparameters: Those of the detector; the rest keep the paper's defaults.

    Raises:
        UnknownName: No such detector or hyperparameter (names the nearest).
        DetectorError: A hyperparameter is outside its range.
    """
    known = registry()
    if name not in known:
        raise unknown("detector", name, known)
    return known[name].make(**hyperparameters)
