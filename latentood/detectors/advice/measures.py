"""What ID rows say of a layer, of the predictions and of the passes: named numbers.

Fit rows give the geometry of a layer: class means, spread, spectrum. Averages over rows are taken
of fit rows and of ID val rows alike, both against that geometry, so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from latentood.detectors.advice.sums import Geometry, LayerSums, OutputSums, streamed
from latentood.detectors.checks import check_axes, check_fit_rows
from latentood.detectors.statistics import ClassMeans, Moments
from latentood.detectors.statistics.classes import Centres
from latentood.errors import LatentOODError
from latentood.latents import HEAD, LABELS, LOGITS, MC_LOGITS, PENULTIMATE, Key, Latents
from latentood.stats.collapse import (
    angle_inequality,
    centred_means,
    duality_gap,
    effective_rank,
    norm_inequality,
    participation_ratio,
)
from latentood.stats.linalg import lengths
from latentood.stats.moments import RowMoments

FEWEST = 20
"""Rows below which no spread, correlation, share or accuracy is given."""

Of = Literal["layer", "entropy", "network"]
"""What a measure is about: features of a layer, entropies over passes of a layer, predictions."""


@dataclass(frozen=True)
class Measure:
    """A number that describes ID rows."""

    of: Of
    words: str  # what it is, in a line
    range: str
    of_few: bool = False  # whether fewer than ``FEWEST`` rows are enough


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "width": Measure("layer", "dimensions D of the layer", "≥ 1", of_few=True),
        "width_by_classes": Measure("layer", "dimensions for each class: D/C", "> 0", of_few=True),
        "rows_by_width": Measure("layer", "fit rows for each dimension", "> 0", of_few=True),
        "class_rows_by_width": Measure(
            "layer", "rows of the smallest class for each dimension", "> 0", of_few=True
        ),
        "rectified": Measure(
            "layer", "1 if no feature is below 0, as after a ReLU", "0 or 1", of_few=True
        ),
        "zeros": Measure("layer", "share of features that are exactly 0", "[0, 1]", of_few=True),
        "negatives": Measure("layer", "share of features below 0", "[0, 1]", of_few=True),
        "sparsity": Measure(
            "layer", "Hoyer sparsity of a row: 0 all features equal, 1 one alone", "[0, 1]"
        ),
        "norm": Measure("layer", "mean length ‖h‖ of a row", "≥ 0", of_few=True),
        "norm_spread": Measure("layer", "coefficient of variation of ‖h‖", "≥ 0"),
        "norm_logit": Measure("layer", "correlation of ‖h‖ with the largest logit", "[−1, 1]"),
        "norm_wrong": Measure(
            "layer", "mean ‖h‖ of wrong predictions by that of right ones", "> 0"
        ),
        "kurtosis": Measure(
            "layer", "excess kurtosis of a unit, mean over units: 0 as a Gaussian", "≥ −2"
        ),
        "effective_rank": Measure("layer", "exp of the entropy of the spectrum", "[1, D]"),
        "effective_share": Measure("layer", "effective rank by D", "(0, 1]"),
        "participation": Measure("layer", "participation ratio of the spectrum", "[1, D]"),
        "class_directions": Measure(
            "layer", "share of the variance in the first C − 1 directions", "(0, 1]"
        ),
        "condition": Measure("layer", "largest by smallest eigenvalue that is not rounding", "≥ 1"),
        "dead": Measure("layer", "share of directions without spread", "[0, 1]"),
        "nc1": Measure("layer", "NC1: spread within by spread between classes", "≥ 0, 0 collapsed"),
        "nc2_norms": Measure("layer", "NC2: how unequal class means are in length", "≥ 0"),
        "nc2_angles": Measure("layer", "NC2: how unequal the angles of class means are", "≥ 0"),
        "nc2_simplex": Measure("layer", "NC2: distance of these angles to a simplex", "[0, 2]"),
        "nc3": Measure("layer", "NC3: distance of the head to the class means", "[0, 4]"),
        "nc4": Measure("layer", "NC4: nearest class mean agrees with the prediction", "[0, 1]"),
        "fisher": Measure("layer", "variance between classes by variance within", "≥ 0"),
        "silhouette": Measure("layer", "silhouette of rows about the class means", "[−1, 1]"),
        "ncm_accuracy": Measure("layer", "accuracy of the nearest class mean", "[0, 1]"),
        "entropy_spread": Measure(
            "entropy", "deviation of the entropies over rows, mean over units, nats", "≥ 0"
        ),
        "entropy_constant": Measure("entropy", "share of units of one entropy only", "[0, 1]"),
        "entropy_rank": Measure("entropy", "effective rank of the entropies", "[1, D]"),
        "entropy_rows": Measure("entropy", "fit rows for each dimension", "> 0", of_few=True),
        "classes": Measure("network", "classes C of the output", "≥ 1", of_few=True),
        "accuracy": Measure("network", "share of right predictions", "[0, 1]"),
        "confidence": Measure("network", "mean largest probability", "[1/C, 1]"),
        "overconfidence": Measure("network", "mean confidence less accuracy", "[−1, 1]"),
        "margin": Measure("network", "mean of first less second probability", "[0, 1]"),
        "certain": Measure("network", "share of predictions above 0.999", "[0, 1]"),
        "pass_information": Measure(
            "network", "mutual information of passes and class, by log C", "[0, 1]"
        ),
        "evidential": Measure(
            "network", "1 if a head predicts a Dirichlet distribution", "0 or 1", of_few=True
        ),
    }
)
"""Name → what the measure is."""


@dataclass(frozen=True)
class Measured:
    """The value of a measure over fit rows, and over ID val rows where these give one too."""

    fit: float | None = None
    val: float | None = None
    missing: str = ""  # why there is no value at all


Values = dict[str, float]
Table = dict[str, Measured]


def of_layer(key: Key, fit: Latents, val: Latents | None) -> Table:
    """Measure the features of a layer.

    Args:
        key: The array, ``features/<layer>``.
        fit: Rows of the fit split.
        val: ID val rows, if there are any.

    Returns:
        Measure → value; where a value is missing it says why.

    Raises:
        LatentOODError: The features cannot be read: of other axes, or not finite.
    """
    check_axes("advise", fit, [key])
    unlabelled = _no_labels(fit)
    fit.gather((Moments(key),) if unlabelled else (Moments(key), ClassMeans(key)))
    moments = fit.compute(Moments(key))
    centres = None if unlabelled else fit.compute(ClassMeans(key))
    reason = unlabelled or _no_classes(centres, moments)
    geometry = Geometry(moments, None if reason else centres)
    reads = _reads(fit, val, key)
    averages = {which: _averaged(rows, key, geometry) for which, rows in reads.items()}
    shapes = _shapes(fit, moments, centres)
    spectrum, flat = _spectrum(moments, centres)
    collapse = {} if reason else _collapse(geometry, fit, key)
    averages["fit"] |= shapes | spectrum | collapse
    why = dict.fromkeys(_OF_SPREAD, flat) if flat else {}
    why |= dict.fromkeys(_OF_CLASSES, reason) if reason else _of_head(fit, key)
    why["norm_wrong"] = unlabelled or "no prediction is wrong"
    return _table("layer", averages, reads, why | _of_logits(fit))


def of_entropies(key: Key, fit: Latents, val: Latents | None) -> Table:
    """Measure the entropies over passes of a layer, ``mc.entropy/<layer>``; as :func:`of_layer`."""
    check_axes("advise", fit, [key])
    reads = _reads(fit, val, key)
    averages: dict[str, Values] = {}
    for which, rows in reads.items():
        moments = rows.compute(Moments(key))
        spread = moments.covariance.matrix.diagonal().clamp(min=0).sqrt()
        averages[which] = {
            "entropy_spread": float(spread.mean()),
            "entropy_constant": float((spread.square() <= moments.noise).double().mean()),
            "entropy_rows": len(rows) / len(spread),
        }
        if moments.covariance.rank:
            averages[which]["entropy_rank"] = effective_rank(moments.covariance.spectrum[0])
    return _table("entropy", averages, reads, {"entropy_rank": "entropies are all equal"})


def of_network(fit: Latents, val: Latents | None) -> Table:
    """Measure predictions, passes and the kind of the head; as :func:`of_layer`."""
    reads = _reads(fit, val)
    averages: dict[str, Values] = {}
    for which, rows in reads.items():
        keys = [key for key in (LOGITS, MC_LOGITS) if key in rows]
        check_axes("advise", rows, keys)
        known = [] if not keys or _no_labels(rows) else [LABELS]
        averages[which] = streamed(rows, [*keys, *known], OutputSums()) if keys else {}
    if LOGITS in fit:
        averages["fit"]["classes"] = fit.shape(LOGITS)[1]
    averages["fit"]["evidential"] = float(any(key.kind == "dirichlet" for key in fit.keys()))  # noqa: SIM118
    why = dict.fromkeys(("accuracy", "overconfidence"), _no_labels(fit)) | _of_logits(fit)
    return _table("network", averages, reads, {"pass_information": _NO_PASSES} | why)


_OF_CLASSES = (
    "class_rows_by_width", "width_by_classes", "nc1", "nc2_norms", "nc2_angles", "nc2_simplex",
    "nc3", "nc4", "fisher", "silhouette", "ncm_accuracy", "class_directions",
)  # fmt: skip
_OF_SPREAD = (
    "effective_rank", "effective_share", "participation", "class_directions", "condition",
    "kurtosis",
)  # fmt: skip
_OF_OUTPUTS = ("nc4", "norm_logit", "norm_wrong", "confidence", "margin", "certain", "classes",
               "accuracy", "overconfidence")  # fmt: skip
_NO_PASSES = "the logits of ≥ 2 stochastic passes were not kept"


def _table(
    of: Of, averages: Mapping[str, Values], reads: Mapping[str, Latents], why: Mapping[str, str]
) -> Table:
    """Put values of fit and val side by side; too few rows leave out what they cannot give."""
    few = {which: len(rows) < FEWEST for which, rows in reads.items()}

    def value(which: str, name: str) -> float | None:
        if which not in reads or (few[which] and not MEASURES[name].of_few):
            return None
        return averages[which].get(name)

    def measured(name: str) -> Measured:
        both = value("fit", name), value("val", name)
        if both != (None, None):
            return Measured(*both)
        count = f"{len(reads['fit'])} fit rows are fewer than {FEWEST}"
        rare = few["fit"] and not MEASURES[name].of_few
        return Measured(missing=why.get(name) or (count if rare else "not defined for these rows"))

    return {name: measured(name) for name, measure in MEASURES.items() if measure.of == of}


def _reads(fit: Latents, val: Latents | None, *keys: Key) -> dict[str, Latents]:
    """Give the splits to measure; val only where it has the arrays and a row."""
    there = val is not None and len(val) > 0 and all(key in val for key in keys)
    return {"fit": fit, "val": val} if there and val is not None else {"fit": fit}


def _averaged(rows: Latents, key: Key, geometry: Geometry) -> Values:
    keys = [key, *([LOGITS] if LOGITS in rows else []), *([] if _no_labels(rows) else [LABELS])]
    values = streamed(rows, keys, LayerSums(key, geometry))
    return values | {"rectified": float(values["negatives"] == 0)}


def _shapes(fit: Latents, moments: RowMoments, centres: Centres | None) -> Values:
    width = len(moments.mean)
    values = {"width": float(width), "rows_by_width": len(fit) / width}
    if centres is not None:
        values["width_by_classes"] = width / len(centres.counts)
        values["class_rows_by_width"] = float(centres.counts.min()) / width
    return values


def _spectrum(moments: RowMoments, centres: Centres | None) -> tuple[Values, str]:
    """Describe the eigenvalues of the covariance; or say why there are none."""
    covariance = moments.covariance
    width = len(moments.mean)
    dead = {"dead": 1 - covariance.rank / width}
    if not covariance.rank:
        return dead, "all rows are equal"
    eigenvalues = covariance.spectrum[0]
    values = {
        "effective_rank": (rank := effective_rank(eigenvalues)),
        "effective_share": rank / width,
        "participation": participation_ratio(eigenvalues),
        "condition": float(eigenvalues[0] / eigenvalues[covariance.rank - 1]),
    }
    if centres is not None and len(centres.counts) > 1:
        leading = eigenvalues[: len(centres.counts) - 1]
        values["class_directions"] = float(leading.sum() / eigenvalues.sum())
    return values | dead, ""


def _collapse(geometry: Geometry, fit: Latents, key: Key) -> Values:
    """Measure NC2, and NC3 where the head reads this layer."""
    centred = centred_means(geometry.means)
    angles, simplex = angle_inequality(centred)
    values = {
        "nc2_norms": norm_inequality(centred), "nc2_angles": angles, "nc2_simplex": simplex,
    }  # fmt: skip
    if not _of_head(fit, key) and geometry.centres is not None:
        weight = fit.head[0][geometry.centres.labels]
        if bool(weight.any()):
            values["nc3"] = duality_gap(weight, centred)
    return values


def _of_head(fit: Latents, key: Key) -> dict[str, str]:
    """Say why there is no NC3; empty where there can be one."""
    if key.layer != PENULTIMATE:
        return {"nc3": f"the head reads {PENULTIMATE}, not this layer"}
    if HEAD not in fit:
        return {"nc3": "there is no head"}
    if fit.head[0].shape[1] != fit.shape(key)[1]:
        return {"nc3": "the head reads another width"}
    return {}


def _of_logits(rows: Latents) -> dict[str, str]:
    return {} if LOGITS in rows else dict.fromkeys(_OF_OUTPUTS, "there are no logits")


def _no_labels(rows: Latents) -> str:
    """Say why rows have no usable labels; empty where they have."""
    if LABELS not in rows:
        return "there are no labels"
    try:
        check_fit_rows("advise", rows, [LABELS])
    except LatentOODError as error:
        return str(error)
    return ""


def _no_classes(centres: Centres | None, moments: RowMoments) -> str:
    """Say why classes cannot be compared; empty where they can."""
    if centres is None:
        return "there are no labels"
    if len(centres.counts) < 2:
        return "all rows are of one class"
    if bool((lengths(centred_means(centres.means)).square() <= moments.noise).all()):
        return "all class means are equal"
    return ""


def layers_of(rows: Latents, kinds: Iterable[str]) -> list[str]:
    """Name the layers with features or entropies, in the order of the arrays."""
    wanted = set(kinds)
    names = [key.layer for key in rows.keys() if key.kind in wanted and key.unit == "image"]  # noqa: SIM118
    return list(dict.fromkeys(names))
