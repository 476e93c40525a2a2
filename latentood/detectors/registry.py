"""All detectors by name: the built-in ones and those other packages register.

A third party adds one by the entry-point group ``latentood.detectors``: the entry point's
name is the detector's name, its object the :class:`~latentood.detectors.base.Detector` class.
"""

from __future__ import annotations

from dataclasses import Field, fields
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from latentood.detectors.base import Detector
from latentood.detectors.calibration import KLMatching, TemperatureScaling
from latentood.detectors.columns import (
    AdaSCALEColumn,
    GROODColumn,
    IODINColumn,
    ODINColumn,
    PerturbedMahalanobisColumn,
    RankFeatColumn,
)
from latentood.detectors.density import KDE, LOF
from latentood.detectors.discriminant import WDiscOOD
from latentood.detectors.evidential import (
    DirichletEntropy,
    Dissonance,
    DistributionalMutualInformation,
    EvidentialMaxProb,
    Vacuity,
)
from latentood.detectors.fusion import FusionBrown, FusionFisher, FusionMax, FusionMean
from latentood.detectors.gaussian import SSD, Mahalanobis, RelativeMahalanobis
from latentood.detectors.gaussian_classes import DDU
from latentood.detectors.gaussian_layers import MahalanobisLayers
from latentood.detectors.gaussian_mixture import GMM
from latentood.detectors.gram import Gram
from latentood.detectors.guidance import NNGuide, Relation
from latentood.detectors.head import FDBD, NCI, FeatureNorm, GradNorm
from latentood.detectors.latent_entropy import LaRED, LaREM
from latentood.detectors.latent_entropy_others import ClasswiseLaREM, LaRGMM, LaRKNN
from latentood.detectors.logits import (
    GEN,
    MCM,
    Energy,
    Entropy,
    MaxLogit,
    MaxSoftmax,
    OdinEps0,
    WeightedEnergy,
)
from latentood.detectors.monte_carlo import (
    Disagreement,
    ExpectedEntropy,
    FeatureVariance,
    MeanMaxSoftmax,
    MutualInformation,
    PredictiveEntropy,
    Variance,
    VariationRatio,
)
from latentood.detectors.nac import NAC
from latentood.detectors.neighbours import KNN
from latentood.detectors.one_class import IsolationForest, OneClassSVM
from latentood.detectors.openmax import OpenMax
from latentood.detectors.pnml import PNML
from latentood.detectors.prototypes import SHE, Cosine
from latentood.detectors.reverse_neighbours import CFOOD
from latentood.detectors.shaping_learned import DICE, VRA, DICEReAct, ReAct
from latentood.detectors.shaping_rows import ASHB, ASHP, ASHS, LTS, SCALE
from latentood.detectors.subspace import ViM
from latentood.detectors.subspace_ratios import NECO, NuSA
from latentood.detectors.subspace_residuals import PCAReconstruction, ResidualNorm
from latentood.errors import DetectorError, unknown

BUILT_IN: tuple[type[Detector], ...] = (
    MaxSoftmax,
    MaxLogit,
    Energy,
    Entropy,
    TemperatureScaling,
    KLMatching,
    GEN,
    OpenMax,
    WeightedEnergy,
    OdinEps0,
    MCM,
    ReAct,
    DICE,
    DICEReAct,
    ASHP,
    ASHB,
    ASHS,
    SCALE,
    LTS,
    VRA,
    Mahalanobis,
    RelativeMahalanobis,
    SSD,
    MahalanobisLayers,
    DDU,
    GMM,
    ViM,
    ResidualNorm,
    PCAReconstruction,
    NuSA,
    NECO,
    KNN,
    NNGuide,
    Relation,
    CFOOD,
    KDE,
    LOF,
    IsolationForest,
    OneClassSVM,
    SHE,
    Cosine,
    WDiscOOD,
    FDBD,
    NCI,
    GradNorm,
    PNML,
    NAC,
    FeatureNorm,
    Gram,
    LaRED,
    LaREM,
    ClasswiseLaREM,
    LaRKNN,
    LaRGMM,
    MeanMaxSoftmax,
    Variance,
    PredictiveEntropy,
    ExpectedEntropy,
    MutualInformation,
    VariationRatio,
    Disagreement,
    FeatureVariance,
    Vacuity,
    Dissonance,
    DirichletEntropy,
    DistributionalMutualInformation,
    EvidentialMaxProb,
    ODINColumn,
    IODINColumn,
    PerturbedMahalanobisColumn,
    RankFeatColumn,
    AdaSCALEColumn,
    GROODColumn,
    FusionMean,
    FusionMax,
    FusionFisher,
    FusionBrown,
)

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


def detector_table() -> list[dict[str, Any]]:
    """Describe every detector, for the command line and the generated docs.

    Returns:
        One mapping per detector, in the order of the registry: name, family, summary, paper,
        works, fails, cost, per_layer, needs (``score``, ``fit`` and ``val``: keys) and
        hyperparameters (each with name, default, range and doc).
    """
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
        "needs": {"score": needs.score, "fit": needs.fit, "val": needs.val},
        "hyperparameters": [
            {
                "name": spec.name,
                "default": spec.default,
                "range": allowed(spec),
                "doc": spec.metadata["doc"],
            }
            for spec in fields(cls)
        ],
    }


def allowed(spec: Field[Any]) -> str:
    """Write the allowed values of a hyperparameter: ``int ≥ 1``, ``a | b``, ``str``."""
    about = spec.metadata
    if about["choices"] is not None:
        return " | ".join(map(str, about["choices"]))
    signs = (("low", "≥"), ("above", ">"), ("high", "≤"))
    bounds = [f"{sign} {about[name]}" for name, sign in signs if about[name] is not None]
    kind = type(spec.default).__name__
    return f"{kind} {' and '.join(bounds)}".strip()
