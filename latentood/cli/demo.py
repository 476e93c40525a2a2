"""The demo: a small network on scikit-learn's digits, from training to the comparison.

Apart from training, the pipeline file ``pipelines/demo.yaml`` runs through the same extraction
and comparison as a user's own.

Seven digits are the classes. The other three are near-OOD: 3, 5 and 8, which share strokes with
each other and with those that stay.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latentood.cli import terminal
from latentood.errors import FingerprintMismatch
from latentood.files import write_file
from latentood.pipeline.schema import load_pipeline
from latentood.training.classifier import Progress, accuracy, save_weights, train_classifier

if TYPE_CHECKING:
    from latentood.evaluation.comparison import Comparison
    from latentood.workflows import Files

log = logging.getLogger(__name__)

CLASSES = (0, 1, 2, 4, 6, 7, 9)
HELD_OUT = (3, 5, 8)
SIZE = 32
RECIPE: dict[str, Any] = {
    "model": {"target": "latentood.models.digits_resnet", "num_classes": len(CLASSES)},
    "data": {"target": "latentood.data.Digits", "classes": list(CLASSES), "size": SIZE},
    "training": {"epochs": 8, "lr": 0.1, "batch_size": 32, "seed": 0},
    "revision": 1,  # raise when code that the keys above do not show changes the weights
}


def run(out_dir: Path | str, *, tracking: str | None = None) -> tuple[Comparison, Files]:
    """Train, extract, score all detectors and compare them, with progress on stderr.

    What is already in the folder is used again; ``tracking`` defaults to ``mlflow.db`` in it.
    """
    from latentood import workflows

    folder = Path(out_dir).resolve()
    with terminal.row_progress("epochs") as progress:
        weights = prepare(folder, lambda done, total: progress("train", done, total))
    pipeline = load_pipeline(pipeline_file(), [f"model.weights={json.dumps(str(weights))}"])
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


def pipeline_file() -> Path:
    """The path of the demo's pipeline: in the package, or beside it in a checkout."""
    inside = Path(__file__).with_name("demo.yaml")
    return inside if inside.is_file() else inside.parents[2] / "pipelines" / "demo.yaml"


def prepare(out_dir: Path | str, progress: Progress | None = None) -> Path:
    """Train the demo's network, unless these very weights are already there.

    Writes ``weights/digits.safetensors`` and, last, ``weights/digits.json``: the recipe with its
    digest, the accuracy on the ID test split, and the digest of the weights file.
    """
    weights = Path(out_dir) / "weights" / "digits.safetensors"
    record = weights.with_suffix(".json")
    if _is_current(weights, record):
        log.info("%s is there already", weights)
        return weights
    from latentood.data import Digits
    from latentood.models import digits_resnet

    train, test = (Digits(CLASSES, part, SIZE) for part in ("train", "test"))
    started = time.monotonic()
    with torch.random.fork_rng([]), _one_thread():
        torch.manual_seed(RECIPE["training"]["seed"])
        model = digits_resnet(len(CLASSES))
        train_classifier(model, train, progress=progress, **RECIPE["training"])
    seconds = time.monotonic() - started
    save_weights(model, weights)
    result = {
        "recipe": RECIPE,
        "recipe_sha256": recipe_digest(),
        "weights_sha256": _file_digest(weights),
        "id_test_accuracy": accuracy(model, test),
        "id_test_rows": len(test),
        "training_seconds": round(seconds, 1),
        "torch": torch.__version__,
    }
    write_file(record, (json.dumps(result, indent=2) + "\n").encode())
    return weights


def recipe_digest() -> str:
    """Digest of everything that decides the weights."""
    return hashlib.sha256(json.dumps(RECIPE, sort_keys=True).encode()).hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread, so that the weights do not depend on the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _is_current(weights: Path, record: Path) -> bool:
    """Whether the weights there are whole and of this recipe."""
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))
        return bool(
            recorded["recipe_sha256"] == recipe_digest()
            and recorded["weights_sha256"] == _file_digest(weights)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
