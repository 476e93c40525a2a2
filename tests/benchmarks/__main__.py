"""Run the benchmarks, print their ratios, write them with the machine to a JSON file."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from tests.benchmarks.tables import tables

MODULES = (
    "startup",
    "entropy",
    "extraction",
    "detectors",
    "library",
    "end_to_end",
    "training",
    "heads",
    "pixel_metrics",
    "members",
    "uncertainty",
)


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    from latentood.cli.doctor import diagnose

    facts = diagnose(Path.cwd())
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    kept = ("python", "platform", "packages", "gpu")
    return {name: facts[name] for name in kept} | {"cpu": model, "cores": os.cpu_count()}


def measure(modules: list[str], *, quick: bool) -> list[dict[str, Any]]:
    """Run modules of benchmarks and print every ratio as it comes."""
    ratios = []
    for name in modules:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        for one in module.benchmarks(quick):
            # A busy machine slows two thread pools more than one: the load belongs to the figure.
            load = os.getloadavg()[0]
            ratios.append(one.to_json() | {"module": name, "load": load})
            print(
                f"{'✓' if one.reached else '✗'} {one.name}: {one.median:.4g} × {one.rival} "
                f"[{one.low:.4g}, {one.high:.4g}], goal {one.goal:.4g}; "
                f"ours {one.ours_seconds:.4g} s, rival {one.rival_seconds:.4g} s; {one.detail}; "
                f"load {load:.1f}",
                flush=True,
            )
            for part, spent in one.parts.items():
                print(f"    {spent:8.3f} s  {part}", flush=True)
    return ratios


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("modules", nargs="*", default=MODULES, help=f"of {', '.join(MODULES)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a first look")
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"))
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="only print this as tables")
    chosen = parser.parse_args()
    if chosen.markdown:
        print(tables(json.loads(chosen.markdown.read_text())))
        return
    ratios = measure(chosen.modules, quick=chosen.quick)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result = {"when": when, "machine": machine(), "quick": chosen.quick, "ratios": ratios}
    chosen.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {chosen.out}")


if __name__ == "__main__":
    main()
