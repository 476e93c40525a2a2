"""A parent that forks extractions and kills them: ``python -m tests.store.soak FOLDER KILLS``.

Every life is a real run of a small torch model with T passes over three splits, ended by SIGKILL
at a random moment. The first half of the kills falls into a first extraction, the second half
into one that adds a layer and kept passes to it.

torch is imported once, here, and each life is a fork, which saves 3 s a life. That is safe because
nothing has been run before the fork: there is one thread (asserted below, so OMP_NUM_THREADS and
OPENBLAS_NUM_THREADS must be 1), torch has started no pool, and zarr, whose event loop would not
survive a fork, has been imported but not used.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import torch

from latentood.pipeline.schema import Pipeline
from latentood.workflows import extract
from tests.extraction.run.test_runner import pipeline

SMALL = {"layers": ["conv1", "penultimate"], "monte_carlo__keep": ["entropy", "logits"]}


def soaked(**changes: object) -> Pipeline:
    """Give the pipeline: splits of 400 rows and fewer in blocks of 3."""
    rows = {"train": 400, "id": 200}
    args = {f"splits__{name}__args": {"rows": count} for name, count in rows.items()}
    return pipeline(**args, extract__block_rows=3, extract__batch_size=2, **changes)


STAGES = (soaked(**SMALL), soaked())


def fork(stage: Pipeline, store: Path) -> tuple[int, int]:
    """Start an extraction in a process of its own.

    Returns:
        Its id, and the end of a pipe from which a byte comes when the store is open.
    """
    assert len(os.listdir("/proc/self/task")) == 1, "only a process of one thread may fork"
    opened, ready = os.pipe()
    child = os.fork()
    if child:
        os.close(ready)
        return child, opened
    try:
        # A kill takes nothing from the system's own buffers, so syncing would only be slow.
        os.fsync = lambda descriptor: None
        extract(stage, store, progress=lambda *_: os.write(ready, b"."))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(stage: Pipeline, store: Path) -> tuple[float, float]:
    """Extract without a kill; returns the seconds until the store was open, and those after."""
    began = time.monotonic()
    child, opened = fork(stage, store)
    os.read(opened, 1)
    start = time.monotonic() - began
    while os.read(opened, 1000):
        pass
    os.close(opened)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"an extraction must succeed, got status {status}"
    return start, time.monotonic() - began - start


def kill_one(stage: Pipeline, store: Path, *, after: float, at_work: bool) -> str:
    """Start an extraction and kill it so many seconds later, or after its store is open."""
    child, opened = fork(stage, store)
    if at_work:
        os.read(opened, 1)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.close(opened)
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else f"ended with {status}"


def blocks(store: Path) -> int:
    """Count the shards of one array of every split and group: a measure of how far it is."""
    return sum(1 for _ in store.glob("splits/*/logits/c.*")) + sum(
        1 for _ in store.glob("splits/*/features/conv2/c.*")
    )


def main(folder: Path, kills: int) -> None:
    """Write one cache in two goes, and another with kills; print what was done."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    chance = random.Random(0)
    whole, killed = folder / "whole.zarr", folder / "killed.zarr"
    outcomes: Counter[str] = Counter()
    places = set()
    for number, stage in enumerate(STAGES):
        start, work = finish(stage, whole)
        for life in range(kills // len(STAGES)):
            # One in four is killed while it starts; together the others do most of the work.
            at_work = life % 4 > 0
            after = chance.uniform(0, 1.2 * work * len(STAGES) / kills if at_work else start)
            outcomes[kill_one(stage, killed, after=after, at_work=at_work)] += 1
            places.add((number, blocks(killed)))
        finish(stage, killed)
    json.dump({"outcomes": outcomes, "places": len(places)}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
