"""The panels of a report: what each says, and why one is empty."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentood.report.html import tables
from latentood.report.html.commands import commands
from latentood.report.html.document import Document, number
from latentood.report.html.extras import Extras
from latentood.report.html.images import Gallery
from latentood.report.html.panels import Seen
from latentood.report.html.tables import Row, text

_BEST = 3  # detectors whose images are shown
_EMPTY: Mapping[str, str] = {
    "convergence": "The number of passes was not varied: that needs a cache with the features of "
    "each pass, given with --store.",
    "projection": "Features are in the cache: give it with --store.",
    "reliability": "The outputs of the network are in the cache: give it with --store.",
    "images": "There are no images: a cache holds none. Give the pipeline whose data sets were "
    "extracted with --images.",
}
"""Panel → why it is empty where nothing else is known."""


@dataclass(frozen=True)
class Panel:
    """A part of the page."""

    name: str
    title: str
    body: str


def panels_of(document: Document, extras: Extras, seen: Seen) -> list[Panel]:
    """Write all panels, in order."""
    gallery = Gallery(document, extras.image_of)
    return [
        Panel("compared", "What was compared", _compared(document)),
        Panel("warnings", "Warnings", _warnings(document)),
        Panel("all", "All detectors", _overview(document)),
        Panel("splits", "By OOD split", _by_split(document)),
        Panel("curves", "ROC, scores and threshold", _curves(document, seen)),
        Panel("maps", "Heat maps", _heat_maps(document)),
        Panel("near-far", "Near against far", _near_far(document)),
        Panel("cost", "Cost against quality", _cost(document)),
        Panel("convergence", "Monte Carlo passes", _convergence(extras)),
        Panel("correlation", "Agreement of detectors", _correlation(seen)),
        Panel("projection", "Features in two dimensions", _projection(extras)),
        Panel("images", "Images", _images(document, extras, gallery)),
        Panel("errors", "False alarms and misses", _errors(document, gallery)),
        Panel("calibration", "Predictions of the network", _calibration(document, extras)),
        Panel("provenance", "Provenance", _provenance(document)),
    ]


def _compared(document: Document) -> str:
    splits = document.provenance["splits"]
    columns = [("split", ""), ("role", ""), ("rows", ""), ("scored", ""), ("data", ""),
               ("fingerprint", "of the data")]  # fmt: skip
    rows: list[Row] = [
        (
            {},
            name,
            [
                tables.cell(one["role"]),
                tables.cell(one["rows"]),
                tables.cell("yes" if name in document.roles else ""),
                tables.cell((one.get("data") or {}).get("target") or ""),
                tables.cell(str((one.get("data") or {}).get("fingerprint") or "")[:12]),
            ],
        )
        for name, one in splits.items()
    ]
    model = document.provenance.get("pipeline", {}).get("model") or {}
    ids = document.facts.get("id") or {}
    accuracy = number(ids.get("accuracy"))
    facts = [
        ("model", model.get("target")),
        ("weights", document.provenance.get("weights")),
        ("ID accuracy", "" if math.isnan(accuracy) else f"{accuracy:.4f} on {ids['split']}"),
        ("a score is about", f"one {document.unit}"),
        ("scored on", document.provenance.get("device")),
        ("π, the share of OOD of AUPR-out at π", document.provenance.get("prevalence")),
    ]
    about = tables.table("compared-splits", "Splits of the data", columns, rows, tall=False)
    return about + tables.definitions(facts)


def _warnings(document: Document) -> str:
    facts = document.facts
    own = [
        (f"{one.label}: ", warning)
        for one in document.entries
        for warning in one.fitted.get("warnings", ())
    ]
    parts = [
        tables.listed(facts.get("warnings") or (), "warning"),
        _lines("failed", [f"{one['reason']}" for one in facts.get("failed") or ()]),
        _lines("warnings of single detectors", [label + warning for label, warning in own]),
        _lines("skipped", [f"{one['reason']}" for one in facts.get("skipped") or ()]),
    ]
    return "".join(parts) or _empty("None.")


def _lines(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<details><summary>{len(lines)} {title}</summary>{tables.listed(lines)}</details>"


def _overview(document: Document) -> str:
    if not document.facts["rows"]:
        return _empty("No OOD split was scored, so that nothing can be compared.")
    return tables.overview(document)


def _by_split(document: Document) -> str:
    if not document.facts["rows"]:
        return _empty("No OOD split was scored.")
    return tables.by_split(document)


def _curves(document: Document, seen: Seen) -> str:
    if not any(seen.curves):
        return _empty(
            "There are no curves: no split with ID rows and one with OOD rows were scored, their "
            "scores are not finite, or the file does not say which rows of mixed splits are OOD."
        )
    about = (
        "For cells whose pixels are compared the tables count pixels, and the curves cells."
        if document.unit == "cell"
        else "A row is flagged as OOD above the threshold."
    )
    figures = _figure(
        "roc", "ROC: share of OOD caught against share of ID flagged. Circles: the threshold."
    ) + _figure(
        "histogram",
        "Scores: share of rows in each bin; those beyond the axis are in the outermost bins.",
    )
    return (
        f'<p class="note">{about} FPR95-id: share of OOD accepted where 95% of ID are kept. '
        "FPR95-ood: share of ID flagged where 95% of OOD are caught.</p>"
        '<div class="controls" id="curve-controls"></div>'
        f'<div class="pair">{figures}</div><div id="threshold-panel"></div>'
    )


def _figure(kind: str, caption: str) -> str:
    return (
        f'<figure data-chart="{kind}"><figcaption>{text(caption)}</figcaption>'
        "<noscript>This chart needs JavaScript; the tables do not.</noscript></figure>"
    )


def _heat_maps(document: Document) -> str:
    splits = list(dict.fromkeys(split for one in document.entries for split in one.rows))
    if not splits:
        return _empty("No OOD split was scored.")
    rows = [
        (one.label, [number(one.rows.get(split, {}).get("auroc")) for split in splits])
        for one in document.entries
    ]
    parts = [
        "<p>Colour: AUROC from 0.5 (none) to 1 (full).</p>",
        tables.heat("heat-splits", "AUROC of detector and OOD split", splits, rows),
        "<h3>Detector and layer</h3>",
    ]
    layers = list(dict.fromkeys(one.layer for one in document.entries))
    titles = list(dict.fromkeys(one.title for one in document.entries))
    values = {(one.title, one.layer): one.mean_auroc for one in document.entries}
    several = [t for t in titles if sum((t, layer) in values for layer in layers) > 1]
    if not several:
        return "".join(parts) + _empty(
            "Each detector was scored on one layer; score --layers compares layers."
        )
    used = [layer for layer in layers if any((title, layer) in values for title in several)]
    grid = [(t, [values.get((t, layer), math.nan) for layer in used]) for t in several]
    return "".join(parts) + tables.heat(
        "heat-layers", "Mean AUROC of detectors that were scored on several layers", used, grid
    )


def _near_far(document: Document) -> str:
    if not any({"near", "far"} <= set(one.averages) for one in document.entries):
        return _empty("Near and far OOD splits are needed; there are not both.")
    return _figure("near-far", "AUROC on near OOD against far OOD, with 95% intervals. "
                   "Arrow keys walk through the detectors.")  # fmt: skip


def _cost(document: Document) -> str:
    if not any("us_per_row" in one.cost for one in document.entries):
        return _empty("The cost of scoring a row is not known for these results.")
    return _figure("cost", "Mean AUROC against the time to score a row (logarithmic). Measured "
                   "once, on the machine named above; work that detectors share counts for the "
                   "first of them.")  # fmt: skip


def _convergence(extras: Extras) -> str:
    if not extras.convergence:
        return _missing(extras, "convergence")
    return _figure("convergence", "AUROC, mean over the OOD splits of a role, from the first T "
                   "passes, with 95% intervals. It is measured on the rows that are reported: a "
                   "number of passes chosen by it is chosen on them.")  # fmt: skip


def _correlation(seen: Seen) -> str:
    if seen.correlation is None:
        return _empty("Two detectors with finite scores are needed.")
    return _figure("correlation", "Spearman's rank correlation of scores over all rows; detectors "
                   "that agree stand together. Arrow keys walk through the cells."
                   + str(seen.correlation["note"]))  # fmt: skip


def _projection(extras: Extras) -> str:
    if not extras.projections:
        return _missing(extras, "projection")
    note = extras.missing.get("umap")
    return (
        '<div class="controls" id="projection-controls"></div>'
        + _figure("projection", " ".join(one.about for one in extras.projections))
        + (f'<p class="note">{text(note)}</p>' if note else "")
    )


def _images(document: Document, extras: Extras, gallery: Gallery) -> str:
    if extras.image_of is None:
        return _missing(extras, "images")
    return (
        "<p>As the network gets them, with stretched contrast. Below each: its name, its score, "
        "its class and the predicted one.</p>"
    ) + "".join(
        f"<h3>{text(entry.label)}</h3>{gallery.extremes(entry)}"
        for entry in document.entries[:_BEST]
    )


def _errors(document: Document, gallery: Gallery) -> str:
    shown = "".join(gallery.errors(entry) for entry in document.entries[:_BEST])
    return shown or _empty("A threshold needs an ID split with finite scores; there is none.")


def _calibration(document: Document, extras: Extras) -> str:
    known = {**extras.predictions, **(document.facts.get("predictions") or {})}
    names = {"accuracy": "accuracy", "ece": "ECE (15 bins)", "brier": "Brier", "nll": "NLL"}
    columns = [("of the ID split", ""), ("value", "[95% interval]")]
    rows: list[Row] = [
        ({}, names[one], [tables.interval(known, one)]) for one in names if one in known
    ]
    caption = "How good the predictions are"
    body = tables.table("predictions", caption, columns, rows, tall=False) if rows else ""
    if extras.reliability is None:
        return body + _missing(extras, "reliability")
    return body + _figure("reliability", "Accuracy of ID predictions by their confidence, the "
                          "largest softmax probability; on the line they agree.")  # fmt: skip


def _provenance(document: Document) -> str:
    provenance = document.provenance
    versions = [
        (f"{when}: {name}", version)
        for when, own in (provenance.get("versions") or {}).items()
        for name, version in own.items()
    ]
    facts = [("digest", provenance.get("digest")), ("seed", provenance.get("seed"))]
    settings: list[Row] = [({}, one.title, [tables.cell(one.layer), tables.cell(one.name[2])])
                for one in document.entries]  # fmt: skip
    columns = [("detector", ""), ("layer", ""), ("hyperparameters", "")]
    pipeline = json.dumps(provenance.get("pipeline", {}), indent=1, ensure_ascii=False)
    return (
        "<p>To make it again (names of files in capitals are yours):</p>"
        f'<pre id="command">{_block(commands(document))}</pre>'
        '<button type="button" class="copy" data-copy="command">copy</button>'
        f"{tables.definitions([*facts, *versions])}"
        f"<h3>Hyperparameters</h3>{tables.table('settings', 'Hyperparameters', columns, settings)}"
        "<details><summary>pipeline</summary><pre>"
        f"{_block(pipeline)}</pre></details>"
    )


def _missing(extras: Extras, name: str) -> str:
    return _empty(extras.missing.get(name) or _EMPTY[name])


def _empty(why: str) -> str:
    return f'<p class="empty">{text(why)}</p>'


def _block(lines: str) -> str:
    """Escape a text of several lines."""
    return "\n".join(map(text, lines.split("\n")))
