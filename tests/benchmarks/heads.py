"""Training a head on cached features, against one forward pass of the network they are of."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from latentood.latents import LABELS, Key
from latentood.latents.facts import Origin
from latentood.models import cifar_resnet18
from latentood.pipeline.schema import Pipeline, parse_pipeline
from latentood.store.schema import ArraySpec, SplitSpec
from latentood.store.writer import open_writer
from latentood.workflows import train_head
from tests.benchmarks.timing import Ratio, ratio

WIDTH, CLASSES, EPOCHS, BATCH = 512, 10, 20, 256
OBJECTIVES = ("evidential", "posterior", "prototypes")
FEATURES = Key("features", "penultimate")


def cache(store: Path, rows: int) -> None:
    """Write a cache of features of ten classes, with a tenth as many rows to validate on."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(CLASSES, WIDTH, generator=generator)
    origin = Origin(pipeline={"name": "heads"}, fingerprint={"weights": "random"})
    arrays = (ArraySpec(FEATURES, (WIDTH,), "float32"), ArraySpec(LABELS, (), "int64"))
    with open_writer(store, origin, head=None) as writer:
        for name, role, count in (("train", "fit", rows), ("val", "val", rows // 10)):
            spec = SplitSpec(name, role, count, 1024, arrays, {"fingerprint": name})  # type: ignore[arg-type]
            (group,) = writer.split(spec)
            for block in group.pending():
                start, stop = group.bounds(block)
                labels = torch.arange(start, stop) % CLASSES
                noise = torch.randn(stop - start, WIDTH, generator=generator)
                values = {FEATURES: (means[labels] + 2 * noise).relu(), LABELS: labels}
                group.write(block, {key: value.numpy() for key, value in values.items()})


def pipeline(objective: str) -> Pipeline:
    """Describe how a head is trained; the network is not run."""
    return parse_pipeline(
        {
            "name": "heads",
            "model": {"target": "torch.nn.Identity"},
            "splits": {"train": {"role": "fit", "target": "latentood.data.Digits"}},
            "training": {"objective": objective, "epochs": EPOCHS, "batch_size": BATCH},
        }
    )


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Read, train, and add the arrays to the cache."""
    rows, images = (2048, 256) if quick else (50_000, 2_000)
    network = cifar_resnet18().eval().to(memory_format=torch.channels_last)
    inputs = torch.rand(images, 3, 32, 32).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward() -> None:
        for batch in inputs.split(BATCH):
            network(batch)

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "c.zarr")
        cache(store, rows)
        for objective in OBJECTIVES:

            def ours(objective: str = objective) -> None:
                copy = shutil.copytree(store, Path(folder, "copy.zarr"))
                train_head(pipeline(objective), copy, Path(folder, "run"), device="cpu")
                shutil.rmtree(copy)
                shutil.rmtree(Path(folder, "run"))

            yield ratio(
                f"head on features, {objective}",
                ours,
                forward,
                against="one forward pass of ResNet-18 over as many 32 × 32 images",
                goal=1.0,
                detail=f"{rows:,} × {WIDTH}, {CLASSES} classes, {EPOCHS} epochs of {BATCH}",
                pairs=3,
                rival_share=images / rows,
            )
