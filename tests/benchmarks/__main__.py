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

ROOMS = ("startup", "entropy", "extraction", "detectors")


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    from latentood.doctor import diagnose

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


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("rooms", nargs="*", default=ROOMS, help=f"of {', '.join(ROOMS)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a first look")
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"))
    chosen = parser.parse_args()
    found = []
    for room in chosen.rooms:
        module = importlib.import_module(f"tests.benchmarks.{room}")
        for one in module.benchmarks(chosen.quick):
            found.append(one.to_json())
            print(
                f"{'✓' if one.reached else '✗'} {one.name}: {one.median:.4g} × {one.rival} "
                f"[{one.low:.4g}, {one.high:.4g}], goal {one.goal:.4g}; "
                f"ours {one.ours_seconds:.4g} s, rival {one.rival_seconds:.4g} s; {one.detail}",
                flush=True,
            )
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result = {"when": when, "machine": machine(), "quick": chosen.quick, "ratios": found}
    chosen.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {chosen.out}")


if __name__ == "__main__":
    main()
