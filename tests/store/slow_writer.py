"""A process to be killed: fills the example cache, one file operation for each byte it is given.

Run as ``python -m tests.store.slow_writer STORE``. It reports every operation on its output
and then takes a byte of its input as the permission to do it, so that a test can kill it at any
point however fast the machine is. At the end of its input it needs no permission.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from tests.store.example import ARRAYS, FAR, TRAIN, fill

SPLITS = (
    replace(FAR, rows=121, arrays=ARRAYS[:3]),
    replace(TRAIN, rows=480),
)


def permitted(operation):
    """Ask before an operation."""

    def patient(*args):
        os.write(sys.stdout.fileno(), b".")
        os.read(sys.stdin.fileno(), 1)
        return operation(*args)

    return patient


if __name__ == "__main__":
    for name in ("fsync", "replace", "rename", "mkdir"):
        setattr(os, name, permitted(getattr(os, name)))
    fill(Path(sys.argv[1]), SPLITS)
