"""Pieces of the docs that are made from the code, so that nothing is written twice."""

from collections.abc import Callable

from fragments.commands import commands
from fragments.detectors import detector_cards, detector_overview
from fragments.pipeline import path_arguments, pipeline_keys, reduction_table, template
from fragments.python import python_names
from fragments.readme import readme

FRAGMENTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "detector-cards": detector_cards,
    "detector-overview": detector_overview,
    "path-arguments": path_arguments,
    "pipeline-keys": pipeline_keys,
    "pipeline-template": template,
    "python-names": python_names,
    "readme": readme,
    "reductions": reduction_table,
}
