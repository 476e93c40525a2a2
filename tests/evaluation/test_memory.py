"""Memory of a comparison does not grow with its rows."""

import subprocess
import sys


def test_fitting_streams_200_000_rows_in_less_memory_than_they_take():
    code = "from tests.benchmarks.memory import grown; print(grown(200_000, 512))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stored = 200_000 * 512 * 2
    # A chunk of 4,096 rows is 16 MiB in float64, of which a few exist at once; libraries that
    # load on first use, BLAS above all, take the rest.
    assert int(done.stdout) < (170 << 20) < stored
