"""Memory of an extraction does not grow with its rows."""

import os
import subprocess
import sys


def test_an_extraction_takes_far_less_memory_than_what_it_writes(tmp_path, repository):
    code = "from tests.benchmarks.memory import extracted; print(extracted(100_000, 512))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,  # the cache is written to the folder it runs in
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    grown = int(done.stdout.splitlines()[-1])
    written = 100_000 * 512 * 4
    # At most three blocks of 1,024 rows wait for the disk; the names of the rows stay in memory.
    assert grown < (100 << 20) < written
