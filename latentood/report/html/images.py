"""Which images a report shows, and how small they are made."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latentood.evaluation.comparison import NO_CLASS
from latentood.evaluation.metrics import Array, id_threshold
from latentood.report.html.document import Document, Entry
from latentood.report.html.extras import ImageOf
from latentood.report.html.tables import Cell, cell, decimal, table, text

_SIDE = 72  # pixels of a thumbnail
_EACH = 5  # most, and as many least OOD-looking, of each split
_ERRORS = 10  # false alarms, and as many misses
_ERROR_COLUMNS = (
    ("row", ""),
    ("split", ""),
    ("score", ""),
    ("label", "true class"),
    ("prediction", "class that the network gives"),
    ("image", ""),
)


@dataclass(frozen=True)
class Shown:
    """A row, and what a detector and the network say of it."""

    split: str
    row: int
    score: float
    name: str
    label: int
    prediction: int


class Gallery:
    """The rows of a comparison as small images, if there are images.

    Args:
        document: The comparison.
        image_of: Gives an image; without it rows are named only.
    """

    def __init__(self, document: Document, image_of: ImageOf | None) -> None:
        self.document = document
        self._image_of = image_of
        self._made: dict[tuple[str, int], str] = {}

    def extremes(self, entry: Entry) -> str:
        """Show the most and the least OOD-looking images of each split."""
        scores = self.document.scores.of(entry.name)
        return "".join(
            f"<h4>{text(split)} ({text(role)})</h4>"
            f'<div class="pair">{self._ends(split, scores[split])}</div>'
            for split, role in self.document.roles.items()
        )

    def errors(self, entry: Entry) -> str:
        """List ID rows that are flagged, and OOD rows that are not, where 95% of ID are kept."""
        ids, scores = self.document.id_split, self.document.scores.of(entry.name)
        if ids is None or not all(np.isfinite(one).all() for one in scores.values()):
            return ""
        threshold = id_threshold(scores[ids])
        order = np.argsort(-scores[ids], kind="stable")[:_ERRORS]
        alarms = [self._row(ids, int(row), scores[ids]) for row in order]
        accepted = [
            self._row(split, int(row), scores[split])
            for split, role in self.document.roles.items()
            if role in ("near", "far")
            for row in np.argsort(scores[split], kind="stable")[:_ERRORS]
        ]
        misses = sorted(accepted, key=lambda one: one.score)[:_ERRORS]
        where = f"at {threshold:.4g}, which keeps 95% of {ids}"
        listed = [
            self._errors("False alarms", entry, where, [o for o in alarms if o.score > threshold]),
            self._errors("Misses", entry, where, [o for o in misses if o.score <= threshold]),
        ]
        return f'<div class="pair">{"".join(listed)}</div>'

    def _errors(self, title: str, entry: Entry, where: str, rows: Sequence[Shown]) -> str:
        if not rows:
            return f"<p>{text(entry.label)}: no {title.lower()} {text(where)}.</p>"
        return table(
            f"{title.split()[-1].lower()}-{self.document.entries.index(entry)}",
            f"{title} of {entry.label} {where}",
            _ERROR_COLUMNS if self._image_of else _ERROR_COLUMNS[:-1],
            [({}, one.name, self._cells(one)) for one in rows],
            tall=False,
        )

    def picture(self, one: Shown) -> str:
        """Give the image of a row."""
        if self._image_of is None:
            return ""
        key = one.split, one.row
        if key not in self._made:
            self._made[key] = thumbnail(self._image_of(*key))
        return self._made[key]

    def _ends(self, split: str, scores: Array) -> str:
        order = np.argsort(-scores, kind="stable")
        lists = []
        for end, rows in (("most", order[:_EACH]), ("least", order[::-1][:_EACH])):
            shown = [self._row(split, int(row), scores) for row in rows]
            items = "".join(f"<li>{self.picture(one)}{_caption(one)}</li>" for one in shown)
            lists.append(f'<div><p>{end} OOD-looking</p><ul class="images">{items}</ul></div>')
        return "".join(lists)

    def _row(self, split: str, row: int, scores: Array) -> Shown:
        rows = self.document.scores.rows[split]
        label, prediction = int(rows.labels[row]), int(rows.predictions[row])
        return Shown(split, row, float(scores[row]), rows.ids[row], label, prediction)

    def _cells(self, one: Shown) -> Sequence[Cell | str]:
        classes = [cell("—" if c == NO_CLASS else c) for c in (one.label, one.prediction)]
        image = [f"<td>{self.picture(one)}</td>"] if self._image_of else []
        return [cell(one.split), decimal(one.score), *classes, *image]


def thumbnail(image: Array) -> str:
    """Give an input (C, H, W) or (H, W), in whatever range, as a small image within HTML.

    Contrast is stretched from the 1% to the 99% quantile, since transforms may have shifted it;
    other numbers of channels than 3 are averaged.
    """
    from PIL import Image

    values = np.asarray(image, dtype=np.float64)
    if values.ndim == 3:
        values = values.transpose(1, 2, 0) if values.shape[0] == 3 else values.mean(axis=0)
    low, high = np.quantile(values, (0.01, 0.99))
    bytes_of = np.round(255 * np.clip((values - low) / (high - low or 1.0), 0, 1))
    picture = Image.fromarray(bytes_of.astype(np.uint8))
    small = max(picture.size) <= _SIDE
    picture.thumbnail((_SIDE, _SIDE))
    kind, data = min(_encoded(picture).items(), key=lambda one: len(one[1]))
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img alt="" class="{"small" if small else ""}" src="{source}">'


def _encoded(picture: object) -> dict[str, bytes]:
    """Write an image in both formats: small drawings are smaller as PNG, photos as JPEG."""
    files = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 80})):
        file = io.BytesIO()
        picture.save(file, kind, **options)  # type: ignore[attr-defined]
        files[kind] = file.getvalue()
    return files


def _caption(one: Shown) -> str:
    known = f", class {one.label}" if one.label != NO_CLASS else ""
    said = f", predicted {one.prediction}" if one.prediction != NO_CLASS else ""
    return f"{text(one.name)}<br>{one.score:.4g}{known}{said}"
