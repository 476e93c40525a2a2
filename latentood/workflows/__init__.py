"""One function per verb, called by the command line and from Python; nothing is printed here."""

from latentood.workflows.advising import advise
from latentood.workflows.comparing import compare
from latentood.workflows.extracting import estimate, extract, layers
from latentood.workflows.given import NO_TRACKING, Arrays, PipelineSource
from latentood.workflows.maps import most_maps, require_maps, score_maps, write_maps
from latentood.workflows.reporting import report
from latentood.workflows.scoring import Files, fit, publish, results_folder, score
from latentood.workflows.training import TrainedHead, head_folder, train, train_head
from latentood.workflows.tuning import Choice, choice_folder, publish_choice, tune

__all__ = [
    "NO_TRACKING",
    "Arrays",
    "Choice",
    "Files",
    "PipelineSource",
    "TrainedHead",
    "advise",
    "choice_folder",
    "compare",
    "estimate",
    "extract",
    "fit",
    "head_folder",
    "layers",
    "most_maps",
    "publish",
    "publish_choice",
    "report",
    "require_maps",
    "results_folder",
    "score",
    "score_maps",
    "train",
    "train_head",
    "tune",
    "write_maps",
]
