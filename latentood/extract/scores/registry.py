"""All score taps by name: the built-in ones and those other packages register.

A third party adds one by the entry-point group ``latentood.score_taps``: the entry point's name is
the tap's name, its object the :class:`~latentood.extract.scores.base.ScoreTap` class. A detector
of the same name (group ``latentood.detectors``) then makes its column take part in comparisons.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from latentood.errors import ConfigError, unknown
from latentood.extract.scores.adascale import AdaSCALE
from latentood.extract.scores.base import ScoreTap
from latentood.extract.scores.grood import GROOD
from latentood.extract.scores.mahalanobis import PerturbedMahalanobis
from latentood.extract.scores.odin import IODIN, ODIN
from latentood.extract.scores.rankfeat import RankFeat

BUILT_IN: tuple[type[ScoreTap], ...] = (
    ODIN,
    IODIN,
    PerturbedMahalanobis,
    RankFeat,
    AdaSCALE,
    GROOD,
)

ENTRY_POINT_GROUP = "latentood.score_taps"


@cache
def score_taps() -> dict[str, type[ScoreTap]]:
    """List all score taps, built-in first.

    Returns:
        name → class.

    Raises:
        ConfigError: A plug-in is not a ScoreTap or takes a name that is in use.
    """
    known = {cls.name: cls for cls in BUILT_IN}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        plugin = point.load()
        if not (isinstance(plugin, type) and issubclass(plugin, ScoreTap)) or point.name in known:
            raise ConfigError(
                f"plug-in {point.name!r}: must be a subclass of ScoreTap with a name that is not "
                f"in use, got {plugin!r}; mend or uninstall that package"
            )
        known[point.name] = plugin
    return known


def score_tap(name: str, **hyperparameters: Any) -> ScoreTap:
    """Build a score tap by name.

    Args:
        name: As in ``scores:`` of a pipeline.
        **hyperparameters: Those of the tap; the rest keep the paper's defaults.

    Raises:
        UnknownName: There is no such tap or hyperparameter (names the nearest).
        ConfigError: A hyperparameter is outside its range.
    """
    if name not in score_taps():
        raise unknown("score tap", name, score_taps())
    return score_taps()[name].make(**hyperparameters)
