"""The demo: a small network on scikit-learn's digits, from training to the comparison.

The pipeline file ``pipelines/demo.yaml`` runs through the same training, extraction and comparison
as a user's own.

Seven digits are the classes. The other three are near-OOD: 3, 5 and 8, which share strokes with
each other and with those that stay. For cells and boxes there are scenes of digits instead, with a
segmenter or an object detector.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from latentood.cli import terminal
from latentood.device import one_thread
from latentood.errors import FingerprintMismatch, StoreError
from latentood.latents.key import Unit
from latentood.pipeline.schema import Pipeline, load_pipeline

if TYPE_CHECKING:
    from latentood.evaluation.comparison import Comparison
    from latentood.training.train import Progress, Trained
    from latentood.workflows import Files

log = logging.getLogger(__name__)


FILES: Mapping[Unit, str] = {
    "image": "demo.yaml",
    "cell": "scenes_unet.yaml",
    "box": "scenes_fasterrcnn.yaml",
}
"""Unit → the pipeline file of its demo."""


def run(
    out_dir: Path | str, *, unit: Unit = "image", tracking: str | None = None
) -> tuple[Comparison, Files]:
    """Train, extract, score all detectors and compare them, with progress on stderr.

    What is already in the folder is used again; ``tracking`` defaults to ``mlflow.db`` in it.
    """
    from latentood import workflows

    folder = Path(out_dir).resolve()
    pipeline = load_pipeline(pipeline_file(unit))
    with terminal.row_progress("steps") as progress:
        trained = prepare(pipeline, folder / "weights", progress)
    if not trained.finished:
        raise KeyboardInterrupt
    weights = {"weights": trained.weights}
    pipeline = pipeline.model_copy(update={"model": pipeline.model.model_copy(update=weights)})
    store = folder / "cache.zarr"
    with terminal.extraction_progress() as progress:
        try:
            workflows.extract(pipeline, store, progress=progress)
        except FingerprintMismatch:
            log.warning("%s holds an older demo; it is made anew", store)
            workflows.extract(pipeline, store, overwrite=True, progress=progress)
    with terminal.row_progress() as progress:
        comparison = workflows.score(store, progress=progress)
    uri = tracking or f"sqlite:///{folder / 'mlflow.db'}"
    return comparison, workflows.publish(comparison, folder / "results", tracking=uri)


def pipeline_file(unit: Unit = "image") -> Path:
    """The path of a demo's pipeline: in the package, or beside it in a checkout."""
    inside = Path(__file__).with_name(FILES[unit])
    return inside if inside.is_file() else inside.parents[2] / "pipelines" / inside.name


def prepare(pipeline: Pipeline, out: Path, progress: Progress | None = None) -> Trained:
    """Train the demo's network, unless these very weights are already there."""
    from latentood import workflows

    with one_thread():
        try:
            return workflows.train(pipeline, out, device="cpu", progress=progress)
        except StoreError:
            log.warning("%s holds weights of an older demo; they are made anew", out)
            return workflows.train(pipeline, out, device="cpu", overwrite=True, progress=progress)
