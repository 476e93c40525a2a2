"""One function per verb, called by the command line and from Python; nothing is printed here."""

from latentood.workflows.extracting import estimate, extract, layers
from latentood.workflows.given import NO_TRACKING, Arrays, PipelineSource
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
    "publish",
    "results_folder",
    "score",
    "train",
    "train_head",
]
