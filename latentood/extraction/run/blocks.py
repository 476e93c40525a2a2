"""One block of rows: from inputs to the arrays that the cache keeps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentood.errors import DataError
from latentood.extraction.members.chosen import Chosen
from latentood.extraction.members.objects import BoxTargets
from latentood.extraction.members.targets import Targets
from latentood.extraction.model.batches import moved
from latentood.extraction.model.taps import key_of, pass_key
from latentood.extraction.passes.engines import Captured, Engine, Noisy
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.run.inputs import hashes
from latentood.extraction.run.job import Job
from latentood.extraction.scores.schedule import Scorer
from latentood.latents import HASHES, IDS, LABELS, Key
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
        inputs, targets = next(batches)
        end = at + len(inputs)
        part = {key: values[at:end] for key, values in block.items()}
        keys = row_keys(job.seed(name), torch.arange(start + at, start + end))
        about = job.targets.get(name)
        chosen = _put_data(part, about, inputs, targets, keys, ids[at:end])
        if runs_model:
            boxes = about if isinstance(about, BoxTargets) else None
            batch = Batch(moved(inputs, job.device), keys.to(job.device), chosen, targets, boxes)
            for key, values in _compute(job, scorer, block, batch).items():
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


def _put_data(
    part: dict[str, Tensor],
    about: Targets | None,
    inputs: Any,
    targets: Any,
    keys: Tensor,
    ids: Sequence[str],
) -> Chosen | None:
    """Put what comes with the data set into the part of a block that a batch fills.

    Returns:
        The cells that are kept of each image, where there are cells.
    """
    if LABELS in part:
        part[LABELS].copy_(targets)
    if HASHES in part:
        part[HASHES].copy_(hashes(inputs))
    if about is None:
        return None
    chosen, arrays = about.read(targets, keys, ids)
    for key in arrays.keys() & part.keys():
        part[key].copy_(arrays[key])
    return chosen


@dataclass(frozen=True)
class Batch:
    """Rows that are run together."""

    inputs: Any  # (B, …), or a list of B images
    keys: Tensor  # (B,) of their noise
    cells: Chosen | None  # which are kept of each image, where there are cells
    targets: Any  # of each
    boxes: BoxTargets | None  # what becomes of boxes, where there are any

    def halves(self) -> list[Batch]:
        """Cut it in two."""
        half = (len(self.inputs) + 1) // 2
        return [self._rows(0, half), self._rows(half, len(self.inputs))]

    def _rows(self, start: int, stop: int) -> Batch:
        cells = self.cells and self.cells.rows(start, stop)
        rows = slice(start, stop)
        return Batch(self.inputs[rows], self.keys[rows], cells, self.targets[rows], self.boxes)


def _compute(job: Job, scorer: Scorer, wanted: Container[str], batch: Batch) -> dict[str, Tensor]:
    """Compute a batch; where GPU memory does not suffice, in halves, with the same masks."""
    try:
        with job.precision():
            with torch.no_grad():
                captured = narrowed(job.plan.engine, wanted).run(batch.inputs, batch.keys)
            scores = scorer.run(batch.inputs, captured.logits)
        with torch.no_grad():
            chosen, about = batch.cells, dict[Key, Tensor]()
            if batch.boxes is not None:
                found, keys = captured.features, batch.keys.cpu()
                chosen, about = batch.boxes.boxes(found, batch.targets, keys)
            logits = job.plan.engine.readout.key
            known = {key: values for key, values in about.items() if key in wanted}
            return _outputs(captured, logits, wanted, chosen) | known | scores
    except torch.cuda.OutOfMemoryError:
        if len(batch.inputs) == 1:
            raise
    log.warning("out of GPU memory with %d rows; going on with halves", len(batch.inputs))
    torch.cuda.empty_cache()
    parts = [_compute(job, scorer, wanted, part) for part in batch.halves()]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _outputs(
    captured: Captured, logits: Key, wanted: Container[str], chosen: Chosen | None
) -> dict[str, Tensor]:
    """Put the outputs of a batch under the keys of the cache, and compute their entropies."""
    arrays: dict[str, Tensor] = {logits: captured.logits}
    arrays |= {key_of(layer): values for layer, values in captured.features.items()}
    arrays = {key: _kept(Key.parse(key), v, chosen) for key, v in arrays.items() if key in wanted}
    passes = {pass_key("mc.features", n): values for n, values in captured.mc_features.items()}
    if captured.mc_logits is not None:
        passes[pass_key("mc.logits", logits)] = captured.mc_logits
    for key, values in passes.items():
        entropy = Key("mc.entropy", key.layer, key.unit) if key.layer else None
        if key not in wanted and entropy not in wanted:
            continue
        kept = _kept(key, values, chosen)
        if key in wanted:
            arrays[key] = kept
        if entropy is not None and entropy in wanted:
            arrays[entropy] = _entropy(kept, None if key.unit == "image" else chosen)
    return arrays


def _kept(key: Key, values: Tensor, chosen: Chosen | None) -> Tensor:
    """Keep of all members those that were chosen: (B, K, …), or (B, K, T, …) of passes."""
    if "K" not in key.axes or chosen is None:
        return values
    return chosen.take(values.transpose(1, 2) if key.of_passes else values)


def _entropy(values: Tensor, members: Chosen | None) -> Tensor:
    """Give the entropies over passes: (B, T, …) → (B, …), of members (B, K, T, …) → (B, K, …)."""
    if members is None:
        return kl_entropy(values.flatten(2)).reshape(values[:, 0].shape)
    there = members.there.to(values.device)
    entropy = values.new_zeros(values[:, :, 0].shape, dtype=torch.float64)
    entropy[there] = kl_entropy(values[there].flatten(2)).reshape(-1, *values.shape[3:])
    return entropy


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
        kinds = ("mc.features", "mc.entropy")
        of_layer = key_of(layer).kind == "features"
        return of_layer and any(pass_key(kind, layer) in wanted for kind in kinds)

    taps = [t for t in engine.taps if key_of(t.layer) in wanted or followed(t.layer)]
    if not isinstance(engine, Noisy):
        return replace(engine, taps=taps)
    varying = frozenset(filter(followed, engine.varying))
    with_logits = pass_key("mc.logits", engine.readout.key) in wanted
    if not varying and not with_logits:
        return engine.quiet(taps)
    return replace(engine, taps=taps, varying=varying, with_logits=with_logits)
