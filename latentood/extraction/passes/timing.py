"""How long a batch takes, and how many rows to run together."""

from __future__ import annotations

import logging
import math
import time

import torch

from latentood.extraction.model.batches import Inputs, device_of, moved, repeated
from latentood.extraction.passes.engines import Engine
from latentood.extraction.passes.noise import row_keys

log = logging.getLogger(__name__)

CPU_BATCH = 50
GPU_BATCH = 256
_MAP_PIXELS = 1 << 21  # of a batch of images whose maps are kept, over all passes, on a CPU
_CPU_PIXELS = 1 << 21  # of a batch whose maps are kept, over all passes: 96 MiB with 12 classes
_GPU_PIXELS = 1 << 23
_CPU_SIZES = (8, 16, 32, 50, 64, 128, 256)
_GPU_SIZES = (64, 128, 256, 512, 1024)


def choose_batch_size(wanted: int | str | None, engine: Engine, row: Inputs) -> int:
    """Settle the batch size: a number is taken as it is, ``auto`` times a few sizes.

    ``None`` is the default of the device: small on a CPU, where a batch that stays in cache is up
    to twice as fast per row as one of a thousand. ``row`` is one input (1, …) on the device.
    """
    on_cpu = device_of(row).type == "cpu"
    if isinstance(wanted, int):
        return wanted
    if wanted is None:
        return _usual(engine, row)
    timed: dict[int, float] = {}
    for size in _CPU_SIZES if on_cpu else _GPU_SIZES:
        try:
            timed[size] = seconds_per_row(engine, moved(repeated(row, size), device_of(row)))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
    best = min(timed, key=lambda size: timed[size]) if timed else 1
    figures = ", ".join(f"{size}: {1 / seconds:,.0f} rows/s" for size, seconds in timed.items())
    log.info("batch size %d is the fastest here (%s)", best, figures)
    return best


def _usual(engine: Engine, row: Inputs) -> int:
    """Give the default of the device; fewer images where maps are kept of each in all passes."""
    on_cpu = device_of(row).type == "cpu"
    usual, pixels = (CPU_BATCH, _CPU_PIXELS) if on_cpu else (GPU_BATCH, _GPU_PIXELS)
    if engine.readout.key.unit == "image":
        return usual
    of_image: int = math.prod(row[0].shape[-2:]) * (1 + getattr(engine, "passes", 0))
    return max(1, min(usual, pixels // of_image))


@torch.no_grad()
def seconds_per_row(engine: Engine, batch: Inputs) -> float:
    """Time a batch in the model: the better of two runs, after one to warm up."""
    keys = row_keys(0, torch.arange(len(batch), device=device_of(batch)))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        engine.run(batch, keys).logits.sum().item()  # reading a value waits for a GPU
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]) / len(batch)
