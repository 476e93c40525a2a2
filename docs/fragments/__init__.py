"""Pieces of the docs that only our code knows, so that nothing is written twice."""

from collections.abc import Callable

from fragments.detectors import detector_cards, detector_overview
from fragments.objectives import objective_cards
from fragments.pipeline import path_arguments, pipeline_keys, reduction_table
from fragments.root import changelog, contributing, readme
from latentood.cli import typer_app

FRAGMENTS: dict[str, Callable[[], str]] = {
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
