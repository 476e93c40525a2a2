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

from latentood.config import Pipeline
from latentood.extract.runner import build_cache
from tests.extract.test_runner import pipeline

SMALL = {"layers": ["conv1", "penultimate"], "monte_carlo__keep": ["entropy", "logits"]}


def soaked(**changes: object) -> Pipeline:
    """Give the pipeline: splits of 400 rows and fewer in blocks of 3."""
    rows = {"train": 400, "id": 200}
    args = {f"splits__{name}__args": {"rows": count} for name, count in rows.items()}
    return pipeline(**args, extract__block_rows=3, extract__batch_size=2, **changes)


STAGES = (soaked(**SMALL), soaked())


def fork(stage: Pipeline, store: Path) -> int:
    """Start an extraction in a process of its own."""
    assert len(os.listdir("/proc/self/task")) == 1, "only a process of one thread may fork"
    child = os.fork()
    if child:
        return child
    try:
        os.setpgid(0, 0)
        # A kill takes nothing from the system's own buffers, so syncing would only be slow.
        os.fsync = lambda descriptor: None
        build_cache(stage, store)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(stage: Pipeline, store: Path) -> float:
    """Extract without a kill; returns the seconds that took."""
    began = time.monotonic()
    _, status = os.waitpid(fork(stage, store), 0)
    assert status == 0, f"an extraction must succeed, got status {status}"
    return time.monotonic() - began


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
        seconds = finish(stage, whole)
        idle = finish(stage, whole)  # nothing to do: the time to start
        quota = kills * (number + 1) // len(STAGES)
        while outcomes["killed"] < quota:
            child = fork(stage, killed)
            # On average a start and 1/quota of the work, or less: a few are killed before it.
            time.sleep(chance.uniform(0, 1.2 * idle + 2 * seconds / quota))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            outcomes["killed" if os.WIFSIGNALED(status) else f"ended with {status}"] += 1
            places.add((number, blocks(killed)))
            assert sum(outcomes.values()) < 3 * kills, f"too few lives were killed: {outcomes}"
        finish(stage, killed)
    json.dump({"outcomes": outcomes, "places": len(places)}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
