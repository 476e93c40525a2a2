"""Draw the cost of stochastic passes against their number: ``python -m tests.benchmarks.chart``."""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from tests.benchmarks.extraction import cost_against_passes


def draw(costs: dict[str, dict[int, float]]) -> Figure:
    """Draw engine → T → time ÷ bare forward loop."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = {
        "T forwards": ("#D55E00", "s"),
        "vmap": ("#0072B2", "o"),
        "masked pooling": ("#009E73", "^"),
    }
    for name, by_passes in costs.items():
        colour, marker = styles[name]
        axes.plot(
            list(by_passes), list(by_passes.values()), color=colour, marker=marker, label=name
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    passes = list(next(iter(costs.values())))
    axes.set_xticks(passes, [str(count) for count in passes])
    ticks = [1, 2, 4, 8, 16, 32, 64]
    axes.set_yticks(ticks, [f"{tick}×" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("T, stochastic passes")
    axes.set_ylabel("time ÷ one bare forward pass")
    axes.set_title("ResNet-20, DropBlock after the last stage, CPU", loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/assets/cost-against-passes.png")
    draw(cost_against_passes()).savefig(target, dpi=120)
    print(f"written to {target}")
