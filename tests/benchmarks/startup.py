"""How long the command line takes to say what it can do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from tests.benchmarks.timing import Ratio, ratio


def benchmarks(quick: bool) -> Iterator[Ratio]:
    """Measure ``--help`` against half a second, shown as a sleeping process."""
    command = [sys.executable, "-m", "latentood.cli", "--help"]
    sleeping = [sys.executable, "-S", "-c", "import time; time.sleep(0.5)"]
    yield ratio(
        "latentood --help",
        lambda: subprocess.run(command, check=True, capture_output=True),
        lambda: subprocess.run(sleeping, check=True),
        against="half a second",
        goal=1.0,
        detail="whole process",
    )
