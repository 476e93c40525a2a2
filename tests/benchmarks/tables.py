"""The figures of a run as tables in Markdown, for the docs."""

from __future__ import annotations

from typing import Any


def tables(run: dict[str, Any]) -> str:
    """Write what ``benchmarks.json`` holds: the machine, all ratios, and parts where there are."""
    machine, ratios = run["machine"], run["ratios"]
    loads = [one["load"] for one in ratios]
    lines = [
        f"Measured {run['when'][:10]} on {machine['cores']} cores of {machine['cpu']}, load "
        f"average {min(loads):.1f} to {max(loads):.1f}{', quick sizes' if run['quick'] else ''}.",
        "",
        "| measured | against | ours ÷ rival | goal | ours, s | rival, s | sizes |",
        "|---|---|---|---|---|---|---|",
        *(_line(one) for one in ratios),
    ]
    for one in ratios:
        if one["parts"]:
            lines += ["", f"Seconds of {one['name']}:", "", "| part | s |", "|---|---|"]
            lines += [f"| {part} | {spent:.2f} |" for part, spent in _largest(one["parts"]).items()]
    return "\n".join(lines)


def _largest(parts: dict[str, float]) -> dict[str, float]:
    """Keep what takes 1% of the whole or more, and add up the rest."""
    whole = sum(parts.values())
    large = {part: spent for part, spent in parts.items() if spent >= 0.01 * whole}
    rest = len(parts) - len(large)
    return large | ({f"the other {rest}": whole - sum(large.values())} if rest else {})


def _line(one: dict[str, Any]) -> str:
    mark = "✓" if one["reached"] else "✗"
    cells = (
        one["name"],
        one["rival"],
        f"{as_ratio(one['median'])} [{as_ratio(one['low'])}, {as_ratio(one['high'])}]",
        f"{mark} {as_ratio(one['goal'])}",
        f"{one['ours_seconds']:.3g}",
        f"{one['rival_seconds']:.3g}",
        one["detail"],
    )
    return f"| {' | '.join(cells)} |"


def as_ratio(value: float) -> str:
    """Write a ratio below ½ as people say it: 0.025 as 1/40."""
    return f"1/{1 / value:.3g}" if value < 0.5 else f"{value:.3g}"
