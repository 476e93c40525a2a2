"""One function per verb, called by the command line and from Python; nothing is printed here."""

from latentood.workflows.extracting import estimate, extract, layers
from latentood.workflows.given import NO_TRACKING, Arrays, PipelineSource
from latentood.workflows.maps import most_maps, require_maps, score_maps, write_maps
from latentood.workflows.scoring import Files, fit, publish, results_folder, score
from latentood.workflows.training import TrainedHead, head_folder, train, train_head

__all__ = [
    "NO_TRACKING",
    "Arrays",
    "Files",
    "PipelineSource",
    "TrainedHead",
    "estimate",
    "extract",
    "fit",
    "head_folder",
    "layers",
    "most_maps",
    "publish",
    "require_maps",
    "results_folder",
    "score",
    "score_maps",
    "train",
    "train_head",
    "write_maps",
]
