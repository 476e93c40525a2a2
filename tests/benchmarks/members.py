"""Cells and boxes: extraction against the bare model, and 12 detectors of pixels against a rival.

``python -m tests.benchmarks.members`` measures the peak memory of an extraction of 500 images of
the size of Cityscapes; must stay under 3 GiB.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import latentood as lo
from latentood.extraction.run.job import Job, prepare
from latentood.extraction.run.runner import run
from latentood.pipeline.schema import parse_pipeline
from tests.benchmarks.timing import Ratio, ratio

LIMIT = 3 << 30
HEIGHT, WIDTH = 192, 240  # CamVid, padded
BLOOD = {"height": 480, "width": 640}  # BCCD, which has 13 objects in an image
BOXES = {"score_threshold": 0.05, "max": 20}
CLASSES = 11
LAYERS = ("encoder2", "encoder3", "encoder4", "dropblock", "penultimate")
PIXEL_DETECTORS = (
    "msp", "max_logit", "energy", "entropy", "gen", "mahalanobis", "vim", "she", "react",
    "ash_p", "scale", "kl_matching",
)  # fmt: skip

LOGIT_DETECTORS = (
    "msp", "max_logit", "energy", "entropy", "gen", "mcm", "odin_eps0", "temp_scaling",
    "kl_matching", "vacuity", "dirichlet_entropy", "evidential_max_prob",
)  # fmt: skip


class Scenes:
    """Random images that lie in memory, with masks or boxes."""

    def __init__(
        self,
        rows: int,
        height: int = HEIGHT,
        width: int = WIDTH,
        kind: str = "masks",
        seed: int = 0,
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        distinct = min(rows, 16)
        self.images = torch.randn(distinct, 3, height, width, generator=draw)
        self.masks = torch.randint(0, CLASSES, (distinct, height, width), generator=draw)
        self.kind, self.rows = kind, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Any:
        image = self.images[row % len(self.images)]
        if self.kind == "boxes":
            none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
            return image, none
        mask = self.masks[row % len(self.masks)].clone()
        mask[:40, :40] = 254
        return image, mask


class Wide(nn.Module):
    """A small segmenter with 256 channels at an eighth of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.stage = nn.Conv2d(8, 256, 3, stride=2, padding=1)
        self.head = nn.Conv2d(256, 19, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 19, H/8, W/8)."""
        logits: Tensor = self.head(self.stage(self.stem(images).relu()).relu())
        return logits


def raw(
    model: dict[str, Any], layers: tuple[str, ...], rows: int, **changes: Any
) -> dict[str, Any]:
    scenes = {"target": f"{__name__}.Scenes", "ood": {"mask_values": [254]}}
    return {
        "name": "members",
        "model": model,
        "layers": list(layers),
        "splits": {"train": {"role": "fit", **scenes, "args": {"rows": rows}}},
        "extract": {"device": "cpu"},
        **changes,
    }


UNET = {
    "target": "latentood.models.unet",
    "args": {"num_classes": CLASSES, "widths": [16, 32, 64, 128], "p": 0.2, "block_size": 3},
}
RCNN = {
    "target": "latentood.models.faster_rcnn",
    "args": {"num_classes": 4, "p": 0.2, "min_size": 480, "max_size": 640},
}


PASSES = {"passes": 16, "activate": True, "keep": ["entropy"]}


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Compare extraction with the bare model, and scoring with a library that runs it each time."""
    rows = 8 if quick else 64
    folders = tempfile.TemporaryDirectory()
    for passes, goal in ((None, 1.15), (PASSES, 2.0)):
        layers = LAYERS if passes is None else ("dropblock",)
        cells = {"stride": 8, "sample": {}}
        wanted = raw(UNET, layers, rows, unit="cell", cells=cells, monte_carlo=passes)
        job = prepare(parse_pipeline(wanted))
        yield ratio(
            f"cells at stride 8 of {len(layers)} layers" + (" with T=16" if passes else ""),
            extraction(job, folders.name), forwards(job), against="the bare segmenter", goal=goal,
            detail=f"{rows} × 3 × {HEIGHT} × {WIDTH}, U-Net", pairs=3 if quick else 5,
        )  # fmt: skip
    scenes = {"target": f"{__name__}.Scenes", "args": {"rows": rows, "kind": "boxes", **BLOOD}}
    for passes, goal in ((None, 1.15), (PASSES, 2.0)):
        layers = ("backbone.layer2", "backbone.dropblock", "penultimate")
        wanted = raw(RCNN, layers, rows, unit="box", monte_carlo=passes)
        wanted |= {"splits": {"id": {"role": "id", **scenes}}, "boxes": BOXES}
        job = prepare(parse_pipeline(wanted))
        yield ratio(
            "boxes" + (" with T=16" if passes else ""),
            extraction(job, folders.name), forwards(job), against="the bare detector", goal=goal,
            detail=f"{rows} × 3 × 480 × 640, Faster R-CNN, at most 20 boxes",
            pairs=3 if quick else 5,
        )  # fmt: skip
    for fitted in (False, True):
        yield twelve_detectors(quick, folders.name, fitted=fitted)
    folders.cleanup()


def extraction(job: Job, folder: str) -> Callable[[], None]:
    """Extract into a new folder."""
    return lambda: run(job, Path(tempfile.mkdtemp(dir=folder)) / "c.zarr")


def forwards(job: Job) -> Callable[[], None]:
    """Run the model over the same batches."""
    model, (name,) = job.plan.engine.model, job.inputs
    images = [job.inputs[name][row][0] for row in range(len(job.inputs[name]))]
    listed = job.inputs[name].kind.lists

    @torch.no_grad()
    def bare() -> None:
        for start in range(0, len(images), job.batch_size):
            part = images[start : start + job.batch_size]
            model(part if listed else torch.stack(part))

    return bare


def twelve_detectors(quick: bool, folder: str, *, fitted: bool) -> Ratio:
    """Score 12 detectors of pixels from a cache, extraction included, against one run for each.

    Those of logits need no fit; others read as many images again to fit on as are scored, and as
    many to calibrate on. The rival does not fit.
    """
    from pytorch_ood.detector import EnergyBased, MaxLogit, MaxSoftmax
    from pytorch_ood.metrics import OODSegmentationMetrics

    rows = 16 if quick else 64
    few = rows if fitted else 2
    scenes = {"target": f"{__name__}.Scenes", "ood": {"mask_values": [254]}}
    splits = {
        name: {"role": role, **scenes, "args": {"rows": size, "seed": seed}}
        for seed, (name, role, size) in enumerate(
            (("train", "fit", few), ("val", "val", few), ("street", "mixed", rows))
        )
    }
    cells = {"stride": 8, "sample": {"fit": 64, "val": 64}}
    wanted = raw(UNET, ("penultimate",), rows, unit="cell", cells=cells, splits=splits)
    job = prepare(parse_pipeline(wanted))
    detectors = ",".join(PIXEL_DETECTORS if fitted else LOGIT_DETECTORS)

    def ours() -> None:
        store = Path(tempfile.mkdtemp(dir=folder)) / "c.zarr"
        run(job, store)
        lo.score(store, detectors=detectors, device="cpu")

    model, data = job.plan.engine.model, job.inputs["street"]

    @torch.no_grad()
    def theirs() -> None:
        """Three of twelve, all of which take a forward each."""
        for detector in (MaxSoftmax(model), MaxLogit(model), EnergyBased(model)):
            metrics = OODSegmentationMetrics()
            for start in range(0, rows, 8):
                batch = [data[row] for row in range(start, min(start + 8, rows))]
                images = torch.stack([image for image, _ in batch])
                masks = torch.stack([mask for _, mask in batch])
                labels = torch.where(masks == 254, -1, masks)
                metrics.update(detector.predict(images), labels)
            metrics.compute()

    what = "features and logits" if fitted else "logits"
    more = ", and as many to fit and to calibrate on" if fitted else ""
    return ratio(
        f"12 detectors of pixels by {what}", ours, theirs,
        against="pytorch-ood, a forward for each", goal=1 / 7,
        detail=f"{rows} × 3 × {HEIGHT} × {WIDTH}, U-Net{more}",
        pairs=3, rival_share=3 / len(PIXEL_DETECTORS),
    )  # fmt: skip


def main() -> None:
    """Measure the peak memory of large images, and the bytes of what is kept."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    scenes = {"target": f"{__name__}.Scenes", "args": {"rows": rows, "height": 1024, "width": 2048}}
    model = {"target": f"{__name__}.Wide"}
    wanted = raw(
        model, ("stage", "penultimate"), rows, unit="cell", cells={"stride": 8, "sample": {}}
    )
    wanted |= {"splits": {"id": {"role": "id", "ood": {"mask_values": [254]}, **scenes}}}
    wanted["extract"] |= {"dtype": "float16"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    with tempfile.TemporaryDirectory(dir=".") as folder:
        start, store = time.perf_counter(), Path(folder) / "c.zarr"
        lo.extract(parse_pipeline(wanted), store)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    print(
        f"{rows} images, 32,768 cells each: {seconds:.0f} s, {size / 1e9:.2f} GB on disk, peak "
        f"{peak / 2**30:.2f} GiB ({before / 2**30:.2f} at the start), goal < {LIMIT / 2**30:.0f}"
    )
    sys.exit(peak >= LIMIT)


if __name__ == "__main__":
    main()
