"""Metrics of scores and of predictions: the public face, ``lo.metrics``."""

from latentood.evaluation.metrics.classes import ClassMetrics, by_class
from latentood.evaluation.metrics.predictions import (
    Quality,
    accuracy,
    brier,
    calibration_error,
    nll,
    quality_of,
)
from latentood.evaluation.metrics.ranking import (
    Array,
    aupr_in,
    aupr_out,
    aupr_out_at,
    auroc,
    autc,
    detection_error,
    fpr95_id,
    fpr95_ood,
    id_threshold,
)
from latentood.evaluation.metrics.selective import (
    RiskCoverage,
    augrc,
    aurc,
    excess_aurc,
    risk_at,
    risk_coverage,
)

__all__ = [
    "Array",
    "ClassMetrics",
    "Quality",
    "RiskCoverage",
    "accuracy",
    "augrc",
    "aupr_in",
    "aupr_out",
    "aupr_out_at",
    "aurc",
    "auroc",
    "autc",
    "brier",
    "by_class",
    "calibration_error",
    "detection_error",
    "excess_aurc",
    "fpr95_id",
    "fpr95_ood",
    "id_threshold",
    "nll",
    "quality_of",
    "risk_at",
    "risk_coverage",
]
