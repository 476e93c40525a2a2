"""Scores that need the model itself: taps compute them at extraction, columns keep them."""

from latentood.detectors.families.score_taps.adascale import AdaSCALE
from latentood.detectors.families.score_taps.base import SCORE_TAPS, column_of
from latentood.detectors.families.score_taps.grood import GROOD
from latentood.detectors.families.score_taps.mahalanobis import PerturbedMahalanobis
from latentood.detectors.families.score_taps.odin import IODIN, ODIN
from latentood.detectors.families.score_taps.rankfeat import RankFeat
from latentood.detectors.registry import DETECTORS as _REGISTRY

SCORE_TAPS.add(ODIN, IODIN, PerturbedMahalanobis, RankFeat, AdaSCALE, GROOD)
_REGISTRY.follow(SCORE_TAPS, column_of)

DETECTORS = tuple(column_of(tap) for tap in SCORE_TAPS.built_in.values())
