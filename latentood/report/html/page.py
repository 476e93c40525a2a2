"""The page of a report, put together."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from latentood import __version__
from latentood.errors import ConfigError
from latentood.files import new_file
from latentood.report.html.document import Document
from latentood.report.html.extras import Extras
from latentood.report.html.panels import Seen, data_of, see
from latentood.report.html.sections import panels_of
from latentood.report.html.tables import text


def write_report(document: Document, out: Path | str, extras: Extras | None = None) -> Path:
    """Write a comparison as one page that loads nothing.

    The same results give the same bytes.

    Raises:
        ConfigError: The scores are of another comparison, or the file cannot be written.
    """
    path = Path(out)
    page = page_of(document, extras or Extras())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as draft:
            draft.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(
            f"report: {path} must be a file that can be written, but it is not "
            f"({error.strerror or error}); choose another --out"
        ) from error
    return path


def page_of(document: Document, extras: Extras) -> str:
    """Give the page as HTML."""
    seen = see(document, extras)
    panels = panels_of(document, extras, seen)
    script = _part("charts.js") + _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(_part("page.html")).substitute(
        title=text(_title(document)),
        version=text(__version__),
        style=_part("style.css"),
        lead=_lead(document),
        links="".join(f'<li><a href="#{one.name}">{text(one.title)}</a></li>' for one in panels),
        chooser=_chooser(document, seen),
        body="\n".join(
            f'<section id="{one.name}" aria-labelledby="{one.name}-title">'
            f'<h2 id="{one.name}-title">{text(one.title)}</h2>{one.body}</section>'
            for one in panels
        ),
        data=_json(data_of(document, extras, seen)),
        script=script,
        hash=digest,
    )


def _part(name: str) -> str:
    return files("latentood.report.html").joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Write JSON so that no name in it can end the element that holds it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _title(document: Document) -> str:
    name = document.provenance.get("pipeline", {}).get("name")
    return f"OOD detection: {name}" if name else "OOD detection"


def _lead(document: Document) -> str:
    entries, facts = document.entries, document.facts
    detectors = len({one.name[0] for one in entries})
    oods = [name for name, role in document.roles.items() if role not in ("id", "val")]
    sentences = [
        f"{len(entries)} results of {detectors} detectors on {len(oods)} OOD splits; scored "
        f"{document.provenance.get('created', 'at an unknown time')}. Higher score = more OOD."
    ]
    known = [one for one in entries if not math.isnan(one.mean_auroc)]
    if known:
        best = max(known, key=lambda one: one.mean_auroc)
        sentences.append(
            f"Highest mean AUROC: {best.label} ({best.mean_auroc:.4f}), the mean of the roles."
        )
    failed = len(facts.get("failed") or ())
    if failed:
        sentences.append(f"{failed} detectors failed; they are listed under Warnings.")
    return "".join(f"<p>{text(one)}</p>" for one in sentences)


def _chooser(document: Document, seen: Seen) -> str:
    options = "".join(
        f'<option value="{place}">{text(one.label)}</option>'
        for place, one in enumerate(document.entries)
        if seen.curves[place] is not None
    )
    if not options:
        return ""
    return (
        '<div class="controls"><label>detector shown <select id="detector">'
        f"{options}</select></label></div>"
    )
