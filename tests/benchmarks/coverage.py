"""Print how often 95% intervals hold the true value, in percent: tables of docs/intervals.md.

``python -m tests.benchmarks.coverage``; takes about half an hour.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.evaluation.uncertainty.test_coverage import (
    GRID,
    LAWS,
    Law,
    auroc_interval,
    held,
    held_by_bootstrap,
)

NAMES = ("aupr_out", "aupr_in", "fpr95_ood", "fpr95_id")
SIZES = (*GRID[:6], (1000, 1000))


def main() -> None:
    """Print both tables."""
    print(_head("scores | AUROC", GRID))
    for kind, options in LAWS.items():
        for auroc in (0.5, 0.9, 0.95, 0.99, 0.999):
            law = Law(auroc, **options)
            shares = [
                held(law, n, m, 2000 if n + m < 2000 else 500, auroc_interval) for n, m in GRID
            ]
            print(f"| {kind} | {auroc} | {_cells(shares)} |", flush=True)
    print("\n" + _head("metric | scores | AUROC", SIZES))
    for kind in ("normal", "OOD half as wide", "exponential"):
        for auroc in (0.7, 0.9, 0.99):
            law = Law(auroc, **LAWS[kind])
            hits = [
                held_by_bootstrap(law, n, m, 1000 if n + m < 1000 else 200, 1000)[0]
                for n, m in SIZES
            ]
            for name in NAMES:
                cells = _cells(one[name] for one in hits)
                print(f"| {name} | {kind} | {auroc} | {cells} |", flush=True)


def _head(first: str, sizes: Iterable[tuple[int, int]]) -> str:
    columns = [*first.split(" | "), *(f"{n}/{m}" for n, m in sizes)]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def _cells(shares: Iterable[float]) -> str:
    return " | ".join(f"{100 * one:.1f}" for one in shares)


if __name__ == "__main__":
    main()
