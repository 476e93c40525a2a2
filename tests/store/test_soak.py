"""A hundred kills at random moments of real extractions; minutes long, so only on request."""

import json
import os
import subprocess
import sys

import pytest

from latentood.store.cache import open_cache
from latentood.store.verify import verify
from tests.store.example import tree

KILLS = 120


@pytest.mark.soak
@pytest.mark.skipif(
    os.environ.get("LATENTOOD_SOAK") != "1", reason="takes minutes; set LATENTOOD_SOAK=1 to run it"
)
def test_an_extraction_killed_a_hundred_times_is_bit_identical(tmp_path, repository):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.store.soak", str(tmp_path), str(KILLS)],
        cwd=repository,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    # How fast a busy machine is cannot be foreseen: some lives may do the rest before their kill.
    assert set(report["outcomes"]) <= {"killed", "ended with 0"}
    assert report["outcomes"]["killed"] >= 100
    assert report["places"] >= KILLS // 3, "the kills must fall into many different blocks"
    assert tree(tmp_path / "killed.zarr") == tree(tmp_path / "whole.zarr")
    assert verify(tmp_path / "killed.zarr") == []
    cache = open_cache(tmp_path / "killed.zarr")
    assert all(split.complete for split in cache.splits.values())
    assert "mc.features/conv2" in cache["train"]
