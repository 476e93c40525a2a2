"""Measures, rules and evidence of the advice, from their tables."""

from fragments.markdown import code, inline, linked, table
from latentood.detectors.advice.evidence import SEEN
from latentood.detectors.advice.measures import MEASURES
from latentood.detectors.advice.rules import FAMILIES, RULES

_ABOUT = {"layer": "features", "entropy": "entropies over passes", "network": "predictions"}


def measure_table() -> str:
    """Give one line for each measure."""
    rows = [
        (code(name), _ABOUT[one.of], inline(one.words), inline(one.range))
        for name, one in MEASURES.items()
    ]
    return table(("measure", "of", "what it is", "range"), rows)


def rule_table() -> str:
    """Give one line for each rule."""
    rows = []
    for rule in RULES:
        signs = ("≥", "≤") if rule.likely > rule.unlikely else ("≤", "≥")
        unlikely = f"{signs[1]} {rule.unlikely:g}" + (", decides" if rule.decides else "")
        likely = f"{signs[0]} {rule.likely:g}"
        source = linked(rule.source)
        rows.append((rule.family, code(rule.measure), likely, unlikely, rule.reason, source))
    return table(("family", "measure", "likely", "unlikely", "because", "source"), rows)


def evidence_table() -> str:
    """Give one line for each family: its detectors, and how often its verdict was right."""
    rows = [
        (name, code(family.detectors[0]), str(one.agreed), str(one.disagreed), str(one.open))
        for name, family in FAMILIES.items()
        if (one := SEEN[name])
    ]
    return table(("family", "scored by", "right", "wrong", "open"), rows)
