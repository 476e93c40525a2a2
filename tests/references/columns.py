"""Formulas of detectors that read a score column: the column itself."""

from latentood.testing.blobs import COLUMNS
from tests.references.registry import reference


def column(d, fit, rows, same):
    return rows[f"scores/{d.name}"]


for name in COLUMNS:
    reference(name)(column)
