"""One block of rows: from inputs to the arrays that the cache keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from latentood.errors import DataError
from latentood.extraction.passes.engines import Captured, Engine, Noisy, Plain
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.run.inputs import hashes
from latentood.extraction.run.job import Job
from latentood.extraction.run.layout import key_of
from latentood.extraction.scores.schedule import Scorer
from latentood.latents import HASHES, IDS, LABELS, LOGITS, MC_LOGITS, Key
from latentood.latents.rows import first_not_finite
from latentood.stats.entropy import kl_entropy
from latentood.store.schema import SplitSpec, encode_ids

log = logging.getLogger(__name__)


def compute_block(
    job: Job,
    spec: SplitSpec,
    bounds: tuple[int, int],
    batches: Iterator[tuple[Tensor, Tensor]],
    advance: Callable[[int], None],
    scorer: Scorer,
) -> dict[str, np.ndarray]:
    """Compute the arrays of one block: a function of (pipeline, split, block) alone.

    Scores that read the fit split also follow from its committed rows. ``spec`` names the arrays
    that are computed, ``bounds`` the first row and the one after the last, ``batches`` yields the
    batches of this block next, and ``advance`` is called with the rows of each.

    Raises:
        DataError: A number of a row is not finite, or too large for the stored dtype.
    """
    name, (start, stop) = spec.name, bounds
    block = _empty(spec, stop - start, job.device)
    ids = [job.inputs[name].id_of(row) for row in range(start, stop)]
    if IDS in block:
        block[IDS].copy_(torch.from_numpy(encode_ids(ids, block[IDS].shape[1])))
    runs_model = any(array.key.about.made_by != "data" for array in spec.arrays)
    at = 0
    while at < stop - start:
        inputs, labels = next(batches)
        end = at + len(inputs)
        part = {key: values[at:end] for key, values in block.items()}
        _put_data(part, inputs, labels)
        if runs_model:
            rows = torch.arange(start + at, start + end, device=job.device)
            keys = row_keys(job.seed(name), rows)
            moved = _moved(inputs, job.device)
            for key, values in _compute(job, scorer, block, moved, keys).items():
                # On a GPU the copy runs on while the next batch is being computed.
                part[key].copy_(values, non_blocking=True)
        at = end
        advance(len(inputs))
    if job.device.type == "cuda":
        torch.cuda.current_stream(job.device).synchronize()
    for key, values in block.items():
        _require_finite(key, values, name, start, ids)
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


def _put_data(part: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> None:
    """Put what comes with the data set into the part of a block that a batch fills."""
    if LABELS in part:
        part[LABELS].copy_(labels)
    if HASHES in part:
        part[HASHES].copy_(hashes(inputs))


def _moved(inputs: Tensor, device: torch.device) -> Tensor:
    """Bring a batch to a device, laid out as convolutions are faster, on CPU and GPU alike."""
    inputs = inputs.to(device, non_blocking=True)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


def _compute(
    job: Job, scorer: Scorer, wanted: Container[str], inputs: Tensor, keys: Tensor
) -> dict[str, Tensor]:
    """Compute a batch; where GPU memory does not suffice, in halves, with the same masks."""
    try:
        with job.precision():
            with torch.no_grad():
                captured = narrowed(job.plan.engine, wanted).run(inputs, keys)
            scores = scorer.run(inputs, captured.logits)
        with torch.no_grad():
            return _outputs(captured, wanted) | scores
    except torch.cuda.OutOfMemoryError:
        if len(inputs) == 1:
            raise
    log.warning("out of GPU memory with %d rows; going on with halves", len(inputs))
    torch.cuda.empty_cache()
    half = (len(inputs) + 1) // 2
    halves = zip(inputs.split(half), keys.split(half), strict=True)
    parts = [_compute(job, scorer, wanted, *part) for part in halves]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _outputs(captured: Captured, wanted: Container[str]) -> dict[str, Tensor]:
    """Put the outputs of a batch under the keys of the cache, and compute their entropies."""
    arrays: dict[str, Tensor] = {LOGITS: captured.logits}
    if captured.mc_logits is not None:
        arrays[MC_LOGITS] = captured.mc_logits
    arrays |= {key_of(layer): values for layer, values in captured.features.items()}
    arrays |= {Key("mc.features", layer): values for layer, values in captured.mc_features.items()}
    arrays = {key: values for key, values in arrays.items() if key in wanted}
    for layer, values in captured.mc_features.items():
        if Key("mc.entropy", layer) in wanted:
            entropy = kl_entropy(values.flatten(2))
            arrays[Key("mc.entropy", layer)] = entropy.reshape(values[:, 0].shape)
    return arrays


def _require_finite(key: str, values: Tensor, name: str, start: int, ids: Sequence[str]) -> None:
    row = first_not_finite(values)
    if row is not None:
        small = values.dtype == torch.float16
        remedy = ", or set dtype: float32, which reaches beyond 65,504" if small else ""
        raise DataError(
            f"split {name!r}: the {key} of row {start + row} ({ids[row]}) are not finite; "
            f"look at that input, or at the weights{remedy}"
        )


def narrowed(engine: Engine, wanted: Container[str]) -> Engine:
    """Remove from an engine what no wanted array needs.

    What is left follows only the layers of the wanted arrays over the passes, and runs no passes
    where none of these arrays holds any.
    """

    def followed(layer: str) -> bool:
        return not isinstance(layer, Key) and (
            Key("mc.features", layer) in wanted or Key("mc.entropy", layer) in wanted
        )

    taps = [t for t in engine.taps if key_of(t.layer) in wanted or followed(t.layer)]
    if not isinstance(engine, Noisy):
        return replace(engine, taps=taps)
    varying = frozenset(filter(followed, engine.varying))
    if not varying and MC_LOGITS not in wanted:
        return Plain(engine.model, taps, engine.output)
    return replace(engine, taps=taps, varying=varying)
