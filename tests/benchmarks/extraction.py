"""Extraction against the bare forward loop over the same batches in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from latentood.extraction.passes.engines import Noisy, Pooled, Repeated, Vmapped
from latentood.extraction.run.job import Job, prepare
from latentood.extraction.run.runner import run
from latentood.pipeline.schema import parse_pipeline
from tests.benchmarks.timing import Ratio, ratio

AGAINST = "bare forward loop"
PASSES = 16


@dataclass(frozen=True)
class Network:
    """A network to measure on.

    Attributes:
        target: Dotted name.
        size: Side of an image.
        rows: Images in all.
        batch: Images run together.
        stages: Its stages, all tapped.
        inside: A layer inside its third stage.
    """

    target: str
    size: int
    rows: int
    batch: int
    stages: tuple[str, ...]
    inside: str

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.target.rpartition('.')[2]} at {self.size}"


FOUR = ("layer1", "layer2", "layer3", "layer4")
NETWORKS = (
    Network("latentood.models.cifar_resnet20", 32, 10_000, 50, FOUR[:3], "layer3.0"),
    Network("latentood.models.cifar_resnet18", 32, 1_000, 50, FOUR, "layer3.0"),
    Network("torchvision.models.resnet50", 224, 128, 16, FOUR, "layer3.2"),
)


class Preloaded:
    """Random images that lie in memory."""

    def __init__(self, rows: int, size: int) -> None:
        self.images = torch.randn(rows, 3, size, size, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.images[row], row % 10


def job(network: Network, passes: dict[str, Any] | None, *, rows: int, device: str = "cpu") -> Job:
    """Prepare an extraction of all stages."""
    data = {"target": f"{__name__}.Preloaded", "args": {"rows": rows, "size": network.size}}
    raw = {
        "name": "benchmark",
        "model": {"target": network.target},
        "layers": [*network.stages, "penultimate"],
        "monte_carlo": passes,
        "splits": {"train": {"role": "fit", **data}},
        "extract": {"batch_size": network.batch, "device": device},
    }
    return prepare(parse_pipeline(raw))


def bare(prepared: Job) -> Callable[[], object]:
    """Run the model over the batches and keep nothing."""
    images = prepared.inputs["train"].source.images
    model = prepared.plan.engine.model

    def loop() -> None:
        with torch.inference_mode():
            for batch in images.split(prepared.batch_size):
                model(batch.to(prepared.device, memory_format=torch.channels_last))

    return loop


def extraction(prepared: Job) -> Callable[[], object]:
    """Run the whole of an extraction: loading, model, passes, entropies, writing with fsync."""

    def whole() -> None:
        folder = Path(tempfile.mkdtemp(prefix="latentood-benchmark-"))
        try:
            run(prepared, folder / "cache.zarr")
        finally:
            shutil.rmtree(folder)

    return whole


def engine_loop(prepared: Job, engine: Noisy) -> Callable[[], object]:
    """Run an engine over the batches and keep nothing."""
    images = prepared.inputs["train"].source.images
    keys = torch.arange(prepared.batch_size, device=prepared.device)

    def loop() -> None:
        with torch.no_grad():
            for batch in images.split(prepared.batch_size):
                batch = batch.to(prepared.device, memory_format=torch.channels_last)
                engine.run(batch, keys[: len(batch)])

    return loop


def noise(after: str, kind: str = "dropblock", passes: int = PASSES) -> dict[str, Any]:
    """Describe T passes with noise behind a layer, its entropies and the logits kept."""
    insert = {"after": after, "kind": kind, "p": 0.4, "block_size": 5}
    return {"passes": passes, "insert": insert, "keep": ["entropy", "logits"]}


def share_after(prepared: Job, layer: str) -> float:
    """Measure which share of a forward pass's operations follows a layer."""
    seen: list[int] = []
    model = prepared.plan.engine.model
    counter = FlopCounterMode(display=False)
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, args, out: seen.append(counter.get_total_flops())
    )
    with counter, torch.no_grad():
        model(prepared.inputs["train"][0][0][None])
    handle.remove()
    return 1 - seen[0] / counter.get_total_flops()


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Measure taps, the passes behind the last stage, and the passes from within the third."""
    for network in NETWORKS:
        rows = max(network.batch, network.rows // 10) if quick else network.rows
        detail = f"{network.name}, {rows:,} images, batch {network.batch}"
        plain = job(network, None, rows=rows)
        loop = bare(plain)
        yield ratio("taps on all stages + logits + writing", extraction(plain), loop,
                    against=AGAINST, goal=1.10, detail=detail, pairs=3)  # fmt: skip
        last = job(network, noise(network.stages[-1]), rows=rows)
        yield ratio(f"T={PASSES} after the last stage, entropies + logits + writing",
                    extraction(last), loop, against=AGAINST, goal=1.3, detail=detail,
                    pairs=3)  # fmt: skip
        few = max(network.batch, rows // 10)
        inner = job(network, noise(network.inside, "dropout2d"), rows=few)
        goal = 1 + PASSES * share_after(inner, network.inside) * 1.2
        yield ratio(f"T={PASSES} with dropout inside stage 3 ({network.inside})",
                    extraction(inner), bare(inner), against=AGAINST, goal=goal,
                    detail=f"{network.name}, {few:,} images, batch {network.batch}",
                    pairs=3)  # fmt: skip


def cost_against_passes(quick: bool = False) -> dict[str, dict[int, float]]:
    """Measure each engine for T from 1 to 64 behind the last stage of ResNet-20.

    Returns:
        engine → T → time ÷ bare forward loop.
    """
    network = NETWORKS[0]
    costs: dict[str, dict[int, float]] = {"T forwards": {}, "vmap": {}, "masked pooling": {}}
    for passes in (2, 8) if quick else (1, 2, 4, 8, 16, 32, 64):
        prepared = job(network, noise("layer3", passes=max(2, passes)), rows=100)
        engine = prepared.plan.engine
        if not isinstance(engine, Pooled):
            raise TypeError(f"expected masked pooling, got {type(engine).__name__}")
        shared = (engine.model, engine.taps, engine.readout, engine.sites, passes, engine.varying)
        engines: dict[str, Noisy] = {
            "T forwards": Repeated(*shared),
            "vmap": Vmapped(*shared),
            "masked pooling": Pooled(*shared, engine.site, engine.noise, engine.head),
        }
        for name, one in engines.items():
            measured = ratio(name, engine_loop(prepared, one), bare(prepared), against=AGAINST,
                             goal=0, detail="", pairs=3)  # fmt: skip
            costs[name][passes] = measured.median
    return costs
