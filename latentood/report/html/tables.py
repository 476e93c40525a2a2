"""Tables and texts of a report as HTML; every name and value is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from latentood.errors import printable
from latentood.report.html.document import METRICS, Document, Entry, Line, number

Cell = tuple[Any, str]
"""What a cell is sorted by, and its HTML."""

Row = tuple[Mapping[str, str], str, Sequence[Cell | str]]
"""Attributes of a row of a table, its heading and its cells; one that is HTML is used as it is."""


_SOME = (
    ("selective", "aurc", "AURC", "area under the risk-coverage curve of the ID split", 4),
    ("selective", "excess_aurc", "E-AURC", "AURC above that of a perfect ranking", 4),
    ("selective", "augrc", "AUGRC", "area under the generalised risk-coverage curve", 4),
    ("cost", "fit_seconds", "fit s", "seconds to fit", 3),
    ("cost", "us_per_row", "µs / row", "microseconds to score a row", 1),
    ("cost", "state_bytes", "state B", "bytes of the fitted detector", 0),
    ("cost", "cache_bytes_per_row", "cache B / row", "bytes of the cache that it reads", 0),
)
"""Columns that not all results have: where they are, heading, meaning and digits."""


def text(value: Any) -> str:
    """Write a value so that nothing in it is taken for HTML."""
    return html.escape(printable(str(value)))


def cell(value: Any) -> Cell:
    """Show a text or a count as it is."""
    return value, f"{value:,}" if isinstance(value, int) else text(value)


def decimal(value: float, digits: int = 4) -> Cell:
    """Show a number; what is not known is a dash."""
    return (None, "—") if math.isnan(value) else (value, f"{value:.{digits}f}")


def interval(line: Line | None, metric: str) -> Cell:
    """Show a metric with its interval, where it has one."""
    value = number((line or {}).get(metric))
    ends = [number((line or {}).get(f"{metric}_{end}")) for end in ("low", "high")]
    if math.isnan(value) or any(map(math.isnan, ends)):
        return decimal(value)
    return value, f'{value:.4f} <span class="i">[{ends[0]:.4f}, {ends[1]:.4f}]</span>'


def table(
    name: str,
    caption: str,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Row],
    *,
    tall: bool = True,
) -> str:
    """Build a table that can be sorted by each column.

    Args:
        name: Its id.
        caption: What it shows.
        columns: Heading and meaning of each.
        rows: Its rows.
        tall: Scroll it in a box.
    """
    heads = "".join(
        f'<th scope="col" title="{text(about)}"><button type="button">{text(head)}</button></th>'
        for head, about in columns
    )
    lines = []
    for attributes, title, cells in rows:
        own = "".join(f' data-{key}="{text(value)}"' for key, value in attributes.items())
        shown = "".join(map(_cell, cells))
        lines.append(f'<tr{own}><th scope="row">{text(title)}</th>{shown}</tr>')
    return (
        f'<div class="{"tall" if tall else "wide"}" tabindex="0" role="region" '
        f'aria-label="{text(caption)}"><table class="sortable" id="{name}">'
        f"<caption>{text(caption)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(one: Cell | str) -> str:
    if isinstance(one, str):
        return one
    value, shown = one
    if isinstance(value, str):
        return f"<td>{shown}</td>"
    sortable = "" if value is None else f' data-v="{value!r}"'
    return f'<td class="n"{sortable}>{shown}</td>'


def overview(document: Document) -> str:
    """Build the table of all detectors, averaged over the OOD splits."""
    entries = document.entries
    roles = list(dict.fromkeys(role for one in entries for role in one.averages))
    means = [name for name in document.metrics if name != "auroc"]
    columns = [("detector", "and the hyperparameters in which it differs"), ("layer", "read")]
    columns += [("AUROC", "mean of the roles")]
    columns += [
        (f"AUROC {role}", f"mean over the {role} OOD splits [95% interval]") for role in roles
    ]
    extra = _extra(entries)
    columns += [(METRICS[name], "mean over all OOD splits") for name in means]
    columns += [(head, about) for head, about, _ in extra]
    rows = [
        (
            {"best": "yes" if one.leads else ""},
            one.title,
            [
                cell(one.layer),
                _marked(decimal(one.mean_auroc), one.standings.get("auroc")),
                *(
                    _marked(
                        interval(one.averages.get(role), "auroc"),
                        one.standings.get(f"auroc.{role}"),
                    )
                    for role in roles
                ),
                *(_marked(decimal(one.mean(name)), one.standings.get(name)) for name in means),
                *(show(one) for _, _, show in extra),
            ],
        )
        for one in entries
    ]
    grouped = any(one.standings for one in entries)
    only = _checkbox() if grouped else ""
    note = (
        "Marked: the best detector of a column, and all that a paired test on the same rows cannot "
        "tell from it (Holm-corrected, 5%). They stand first."
        if grouped
        else "These results have no paired tests: which differences are noise is not known. "
        "Intervals that overlap are no test."
    )
    return (
        f'<p class="note">{note}</p>{_filters("overview", only)}'
        f"{table('overview', 'All detectors, mean over the OOD splits', columns, rows)}"
    )


def by_split(document: Document) -> str:
    """Build the table of every detector on every OOD split, with intervals."""
    known = any(one.selective.get("scod") for one in document.entries)
    scod = [("SCOD", "AURC of ID and OOD rows, where OOD that is accepted is wrong")] * known
    columns = [
        ("detector", ""),
        ("layer", ""),
        ("split", ""),
        ("role", ""),
        ("n ID", "ID rows, members or pixels"),
        ("n OOD", "OOD rows, members or pixels"),
        *((METRICS[name], "[95% interval]") for name in document.metrics),
        *scod,
    ]
    rows = [
        (
            {"split": split},
            one.title,
            [
                *map(cell, (one.layer, split, row["role"], row["n_id"], row["n_ood"])),
                *(interval(row, name) for name in document.metrics),
                *(decimal(number(one.selective.get("scod", {}).get(split))) for _ in scod),
            ],
        )
        for one in document.entries
        for split, row in one.rows.items()
    ]
    splits = dict.fromkeys(split for one in document.entries for split in one.rows)
    options = "".join(f'<option value="{text(one)}">{text(one)}</option>' for one in splits)
    choice = (
        '<label>split <select data-key="split"><option value="">all</option>'
        f"{options}</select></label>"
    )
    return _filters("by-split", choice) + table(
        "by-split", "Every detector on every OOD split", columns, rows
    )


def heat(
    name: str, caption: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]
) -> str:
    """Build a table whose cells are coloured by their values, an AUROC each; NaN where it is not.

    The lowest colour is that of chance, or of whatever lies below it.
    """

    def coloured(value: float) -> Cell | str:
        if math.isnan(value):
            return None, ""
        share = min(max(2 * (value - 0.5), 0), 1)
        return f'<td class="n heat" data-v="{value!r}" style="--v:{share:.3f}">{value:.3f}</td>'

    lines: list[Row] = [({}, title, list(map(coloured, values))) for title, values in rows]
    heads = [("detector", ""), *((one, "AUROC") for one in columns)]
    return table(name, caption, heads, lines)


def definitions(pairs: Iterable[tuple[str, Any]]) -> str:
    """Build a table of names and values."""
    lines = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>'
        for name, value in pairs
        if value not in (None, "")
    )
    return f'<div class="wide"><table class="facts"><tbody>{lines}</tbody></table></div>'


def listed(lines: Iterable[str], kind: str = "") -> str:
    """Build a list of sentences."""
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def _marked(shown: Cell, standing: Line | None) -> Cell | str:
    """Mark a cell of the best detector, or of one that cannot be told from it."""
    value, cell_text = shown
    p = number((standing or {}).get("p_value"))
    if standing is None or (math.isnan(p) and not standing["best"]):
        return shown
    if not standing["best"]:
        return value, f"{cell_text} <small>p {p:.2g}</small>"
    sign = "best" if math.isnan(p) else f"≈ best, p {p:.2g}"
    return (
        f'<td class="n best" data-v="{value!r}">{cell_text} <span class="badge">{sign}</span></td>'
    )


def _extra(entries: Sequence[Entry]) -> list[tuple[str, str, Callable[[Entry], Cell]]]:
    """List the columns that only some results have: heading, meaning, and what a cell shows."""
    columns: list[tuple[str, str, Callable[[Entry], Cell]]] = []
    if any(one.wrong for one in entries):
        about = "wrong predictions of the ID split against right ones [95% interval]"
        columns.append(("AUROC wrong", about, lambda one: interval(one.wrong, "auroc")))
    for kind, key, head, about, digits in _SOME:
        if any(key in getattr(one, kind) for one in entries):
            columns.append((head, about, partial(_shown, kind, key, digits)))
    return columns


def _shown(kind: str, key: str, digits: int, one: Entry) -> Cell:
    return decimal(number(getattr(one, kind).get(key)), digits)


def _filters(name: str, more: str) -> str:
    return (
        f'<div class="controls" data-table="{name}"><label>filter '
        f'<input type="search" placeholder="detector or layer"></label>{more}'
        '<output aria-live="polite"></output></div>'
    )


def _checkbox() -> str:
    return (
        '<label><input type="checkbox" data-only="best"> only those that cannot be told from the '
        "best</label>"
    )
