"""One block of rows: from inputs to the arrays that the cache keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from latentood.errors import DataError
from latentood.extract.job import Job
from latentood.extract.noise import row_keys
from latentood.extract.passes import Captured, Engine
from latentood.latents import LABELS, LOGITS, MC_LOGITS, features, mc_entropy, mc_features
from latentood.stats.entropy import kl_entropy
from latentood.store.schema import IDS, SplitSpec, encode_ids

log = logging.getLogger(__name__)


def compute_block(
    job: Job,
    name: str,
    bounds: tuple[int, int],
    batches: Iterator[tuple[Tensor, Tensor]],
    tell: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Compute all arrays of one block: a function of (pipeline, split, block) alone.

    Args:
        job: What to run.
        name: Split.
        bounds: First row and the one after the last.
        batches: Yields this block's batches next.
        tell: Called with the rows of each finished batch.

    Returns:
        key → (rows of the block, …).

    Raises:
        DataError: The logits of a row are not finite.
    """
    spec, (start, stop) = job.specs[name], bounds
    block = _empty(spec, stop - start, job.device)
    ids = [job.rows[name].id_of(row) for row in range(start, stop)]
    block[IDS].copy_(torch.from_numpy(encode_ids(ids, block[IDS].shape[1])))
    at = 0
    while at < stop - start:
        inputs, labels = next(batches)
        end = at + len(inputs)
        rows = torch.arange(start + at, start + end, device=job.device)
        inputs = inputs.to(job.device, non_blocking=True)
        if inputs.dim() == 4:  # convolutions are faster so, on CPU and GPU alike
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            captured = _run(job.plan.engine, inputs, row_keys(job.seed(name), rows))
            for key, values in _outputs(captured, block).items():
                # On a GPU the copy runs on while the next batch is being computed.
                block[key][at:end].copy_(values, non_blocking=True)
        if LABELS in block:
            block[LABELS][at:end] = labels
        at = end
        tell(len(inputs))
    if job.device.type == "cuda":
        torch.cuda.current_stream(job.device).synchronize()
    _require_finite(block[LOGITS], name, start, ids)
    return {key: values.numpy() for key, values in block.items()}


def _empty(spec: SplitSpec, rows: int, device: torch.device) -> dict[str, Tensor]:
    """Make room for a block, page-locked where a GPU writes into it."""
    pin = device.type == "cuda"
    return {
        array.key: torch.empty(
            (rows, *array.tail), dtype=getattr(torch, array.dtype), pin_memory=pin
        )
        for array in spec.arrays
    }


def _run(engine: Engine, inputs: Tensor, keys: Tensor) -> Captured:
    """Run a batch; where GPU memory does not suffice, in halves, with the same masks."""
    try:
        return engine.run(inputs, keys)
    except torch.cuda.OutOfMemoryError:
        if len(inputs) == 1:
            raise
    log.warning("out of GPU memory with %d rows; going on with halves", len(inputs))
    torch.cuda.empty_cache()
    half = len(inputs) // 2
    first = _run(engine, inputs[:half], keys[:half])
    return _joined(first, _run(engine, inputs[half:], keys[half:]))


def _joined(first: Captured, second: Captured) -> Captured:
    """Put what two halves gave behind one another."""

    def behind(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.cat([values, other[name]]) for name, values in one.items()}

    passes = [part.mc_logits for part in (first, second) if part.mc_logits is not None]
    return Captured(
        logits=torch.cat([first.logits, second.logits]),
        features=behind(first.features, second.features),
        mc_logits=torch.cat(passes) if passes else None,
        mc_features=behind(first.mc_features, second.mc_features),
    )


def _outputs(captured: Captured, wanted: Container[str]) -> dict[str, Tensor]:
    """Name what a batch gave by the keys of the cache, entropies computed on the way."""
    found = {LOGITS: captured.logits}
    found |= {features(layer): values for layer, values in captured.features.items()}
    if captured.mc_logits is not None and MC_LOGITS in wanted:
        found[MC_LOGITS] = captured.mc_logits
    for layer, values in captured.mc_features.items():
        if mc_features(layer) in wanted:
            found[mc_features(layer)] = values
        if mc_entropy(layer) in wanted:
            found[mc_entropy(layer)] = kl_entropy(values.flatten(2)).reshape(values[:, 0].shape)
    return found


def _require_finite(logits: Tensor, name: str, start: int, ids: Sequence[str]) -> None:
    bad = ~torch.isfinite(logits).all(dim=1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise DataError(
            f"split {name!r}: the logits of row {start + row} ({ids[row]}) are not finite; "
            "look at that input, or at the weights"
        )
