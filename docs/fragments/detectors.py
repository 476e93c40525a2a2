"""The detectors, from the registry."""

import inspect
from itertools import groupby
from operator import itemgetter
from typing import Any

from fragments.markdown import code, codes, inline, linked, table
from latentood.detectors.registry import detector_table, registry


def detector_overview() -> str:
    """Give one line per detector."""
    rows = [
        (
            f"[{code(one['name'])}](#{one['name']})",
            one["family"].replace("_", " "),
            inline(one["summary"]),
            codes(one["needs"]["score"]),
        )
        for one in detector_table()
    ]
    return table(("detector", "family", "idea", "reads"), rows)


def detector_cards() -> str:
    """Give one card per detector, grouped by family in the order of the registry."""
    parts = []
    for family, members in groupby(detector_table(), itemgetter("family")):
        title = family.replace("_", " ").capitalize()
        parts.append(f"## {title} {{ #family-{family} }}")
        parts += map(_card, members)
    return "\n\n".join(parts)


def _card(one: dict[str, Any]) -> str:
    facts = {
        "works": inline(one["works"]),
        "fails": inline(one["fails"]),
        "cannot be fitted on": ", ".join(one["cannot_fit_on"]),
        "cost": inline(one["cost"]),
        "reads": _reads(one["needs"]),
        "layers": "any layer" if one["per_layer"] else "its own",
        "paper": linked(one["paper"]),
    }
    return "\n\n".join(
        [
            f"### {one['name']} {{ #{one['name']} }}",
            inline(inspect.getdoc(registry()[one["name"]]) or ""),
            "\n".join(f"- **{name}**: {text}" for name, text in facts.items() if text),
            hyperparameter_table(one["hyperparameters"]),
        ]
    )


def _reads(needs: dict[str, tuple[str, ...]]) -> str:
    stages = {"to fit": needs["fit"], "from ID val": needs["val"], "to score": needs["score"]}
    return "; ".join(f"{stage} {codes(keys)}" for stage, keys in stages.items() if keys)


def hyperparameter_table(specs: list[dict[str, Any]]) -> str:
    """Give one line per hyperparameter."""
    if not specs:
        return "No hyperparameters."
    rows = [
        (code(one["name"]), code(one["default"]), code(one["range"]), inline(one["doc"]))
        for one in specs
    ]
    return table(("hyperparameter", "default", "allowed", "meaning"), rows)
