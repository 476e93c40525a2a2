"""Extraction against the bare forward loop over the same batches in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from latentood.config import parse_pipeline
from latentood.extract.job import Job, prepare
from latentood.extract.passes import Repeated, Vmapped
from latentood.extract.runner import run
from tests.benchmarks.timing import Ratio, ratio

ROWS = 10_000
BATCH = 50
STAGES = ["layer1", "layer2", "layer3", "penultimate"]


class Preloaded:
    """Random images that lie in memory."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        self.images = torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.images[row], row % 10


def _job(rows: int, layers: list[str], passes: dict[str, Any] | None, model: str) -> Job:
    source = f"{__name__}.Preloaded"
    raw = {
        "name": "benchmark",
        "model": {"target": f"latentood.models.{model}"},
        "layers": layers,
        "monte_carlo": passes,
        "splits": {"train": {"role": "fit", "target": source, "args": {"rows": rows}}},
        "extract": {"batch_size": BATCH, "device": "cpu"},
    }
    return prepare(parse_pipeline(raw))


def _bare(job: Job) -> Callable[[], object]:
    """Run the model over the batches and keep nothing."""
    images = job.rows["train"].source.images
    model = job.plan.engine.model

    def loop() -> None:
        with torch.inference_mode():
            for batch in images.split(BATCH):
                model(batch)

    return loop


def _extraction(job: Job) -> Callable[[], object]:
    """Run the whole of an extraction: loading, model, passes, entropies, writing with fsync."""

    def extract() -> None:
        folder = Path(tempfile.mkdtemp(prefix="latentood-benchmark-"))
        try:
            run(job, folder / "cache.zarr")
        finally:
            shutil.rmtree(folder)

    return extract


def _passes(after: str, layers: list[str], **insert: Any) -> dict[str, Any]:
    noise = {"after": after, "kind": "dropblock", "p": 0.4, "block_size": 5, **insert}
    return {"passes": 16, "insert": noise, "keep": ["entropy", "logits"], "layers": layers}


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Measure taps, and the passes by each engine."""
    rows = 1_000 if quick else ROWS
    detail = f"cifar_resnet20, {rows:,} images, batch {BATCH}"
    plain = _job(rows, STAGES, None, "cifar_resnet20")
    bare, against = _bare(plain), "bare forward loop"
    yield ratio("taps on 4 layers + logits + writing", _extraction(plain), bare,
                against=against, goal=1.15, detail=detail, pairs=3)  # fmt: skip
    last = _job(rows, STAGES, _passes("layer3", ["layer3"]), "cifar_resnet20")
    yield ratio("T=16, DropBlock after the last stage, entropies + logits", _extraction(last), bare,
                against=against, goal=1.6, detail=detail, pairs=3)  # fmt: skip
    few = max(200, rows // 10)
    small = _job(few, ["layer3"], _passes("layer3", ["layer3"]), "cifar_resnet20")
    few_bare, few_detail = _bare(small), f"cifar_resnet20, {few:,} images, batch {BATCH}"
    for kind, goal in ((Vmapped, 4.0), (Repeated, 18.0)):
        engine = small.plan.engine
        other = kind(engine.model, engine.taps, engine.output, engine.sites, 16, engine.varying)
        yield ratio(f"the same passes by the engine {kind.__name__}", _engine_loop(small, other),
                    few_bare, against=against, goal=goal, detail=few_detail, pairs=3)  # fmt: skip


def _engine_loop(job: Job, engine: Any) -> Callable[[], object]:
    images = job.rows["train"].source.images
    keys = torch.arange(BATCH)

    def loop() -> None:
        with torch.no_grad():
            for batch in images.split(BATCH):
                engine.run(batch, keys[: len(batch)])

    return loop
