"""The history of a training run: one line per epoch, and statistics of the best one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latentood.files import write_file

FILE = "history.csv"
STATISTICS = "statistics.json"


def write(epochs: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the lines of all epochs, in full precision, instead of a file that is there.

    A value that an epoch lacks leaves its field empty.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(dict.fromkeys(name for line in epochs for name in line)))
    table.writeheader()
    table.writerows(epochs)
    write_file(path, text.getvalue().encode())


def write_statistics(statistics: Mapping[str, Any], epoch: int, path: Path) -> None:
    """Write the histograms of an epoch as JSON, instead of a file that is there."""
    write_file(path, json.dumps({"epoch": epoch, **statistics}, indent=1).encode())
