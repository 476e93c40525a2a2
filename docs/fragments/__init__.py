"""Pieces of the docs that only our code knows, so that nothing is written twice."""

from collections.abc import Callable

from fragments.advice import evidence_table, measure_table, rule_table
from fragments.detectors import detector_cards, detector_overview
from fragments.objectives import objective_cards
from fragments.pipeline import path_arguments, pipeline_keys, reduction_table
from fragments.root import changelog, contributing, readme
from latentood.cli import typer_app

FRAGMENTS: dict[str, Callable[[], str]] = {
    "advice-evidence": evidence_table,
    "advice-measures": measure_table,
    "advice-rules": rule_table,
    "changelog": changelog,
    "contributing": contributing,
    "detector-cards": detector_cards,
    "detector-overview": detector_overview,
    "objective-cards": objective_cards,
    "path-arguments": path_arguments,
    "pipeline-keys": pipeline_keys,
    "readme": readme,
    "reductions": reduction_table,
}

PROGRAM = typer_app()
"""The command line, which mkdocs-click describes on its page."""
PROGRAM.context_settings["terminal_width"] = 88  # not that of whoever builds the docs
