"""Metrics of scores and of predictions: the public face, ``lo.metrics``."""

from latentood.evaluation.metrics.predictions import accuracy, calibration_error
from latentood.evaluation.metrics.ranking import (
    Array,
    aupr_in,
    aupr_out,
    auroc,
    fpr95_id,
    fpr95_ood,
    id_threshold,
)

__all__ = [
    "Array",
    "accuracy",
    "aupr_in",
    "aupr_out",
    "auroc",
    "calibration_error",
    "fpr95_id",
    "fpr95_ood",
    "id_threshold",
]
