"""The history of a training run: one line per epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from latentood.files import write_file

FILE = "history.csv"


def write(epochs: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the lines of all epochs, in full precision, instead of a file that is there."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(epochs[0]))
    table.writeheader()
    table.writerows(epochs)
    write_file(path, text.getvalue().encode())
