"""What a package that brings plug-ins of its own needs to test them.

Each contract is a class of pytest tests to subclass: :class:`DetectorContract`,
:class:`ReductionContract`, :class:`ScoreTapContract`. ``make_blobs`` gives synthetic latents with
every array, and :mod:`latentood.testing.formulas` says how to write a slow formula to compare with.
pytest must be installed.
"""

from latentood.testing.blobs import Arrays, Blobs, auroc, make_blobs
from latentood.testing.detector_contract import DetectorContract
from latentood.testing.formulas import Formula
from latentood.testing.reduction_contract import ReductionContract
from latentood.testing.score_tap_contract import ScoreTapContract

__all__ = [
    "Arrays", "Blobs", "DetectorContract", "Formula", "ReductionContract", "ScoreTapContract",
    "auroc", "make_blobs",
]  # fmt: skip
