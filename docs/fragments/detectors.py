"""The detectors, from the registry."""

from typing import Any

from fragments.markdown import code, codes, docstring, inline, linked, table
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
    found = detector_table()
    parts = []
    for family in dict.fromkeys(one["family"] for one in found):
        title = family.replace("_", " ").capitalize()
        parts.append(f"## {title} {{ #family-{family} }}")
        parts += [_card(one) for one in found if one["family"] == family]
    return "\n\n".join(parts)


def _card(one: dict[str, Any]) -> str:
    facts = [
        ("works", inline(one["works"])),
        ("fails", inline(one["fails"])),
        ("cost", inline(one["cost"])),
        ("reads", _reads(one["needs"])),
        ("layers", "any layer" if one["per_layer"] else "its own"),
        ("paper", linked(one["paper"])),
    ]
    return "\n\n".join(
        [
            f"### {one['name']} {{ #{one['name']} }}",
            docstring(registry()[one["name"]]),
            "\n".join(f"- **{name}**: {text}" for name, text in facts),
            _hyperparameters(one["hyperparameters"]),
        ]
    )


def _reads(needs: dict[str, tuple[str, ...]]) -> str:
    stages = {"to fit": needs["fit"], "from ID val": needs["val"], "to score": needs["score"]}
    return "; ".join(f"{stage} {codes(keys)}" for stage, keys in stages.items() if keys)


def _hyperparameters(found: list[dict[str, Any]]) -> str:
    if not found:
        return "No hyperparameters."
    rows = [
        (code(one["name"]), code(one["default"]), code(one["range"]), inline(one["doc"]))
        for one in found
    ]
    return table(("hyperparameter", "default", "allowed", "meaning"), rows)
