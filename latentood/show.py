"""How each command's result looks, as text or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentood import console
from latentood.units import human_bytes, human_time

if TYPE_CHECKING:
    from latentood.compare import Files
    from latentood.detectors.fitting import Fitted
    from latentood.evaluation.comparison import Comparison
    from latentood.extract.estimate import Estimate
    from latentood.extract.outline import LayerFacts
    from latentood.extract.runner import Summary
    from latentood.store.verify import Problem


def estimate(found: Estimate, *, as_json: bool) -> None:
    """Show what an extraction will cost."""
    if as_json:
        totals = {"total_bytes": found.total_bytes, "total_seconds": found.total_seconds}
        console.show_json(asdict(found) | totals)
        return
    rows = [
        (split, key, found.rows[split], found.blocks[split], human_bytes(size))
        for split, arrays in found.array_bytes.items()
        for key, size in arrays.items()
    ]
    console.table("", ("split", "array", "rows", "blocks", "size"), rows)
    console.say(
        f"in all {human_bytes(found.total_bytes)} before compression; "
        f"{human_bytes(found.free_bytes)} free; "
        f"about {human_time(found.total_seconds)} in the model, {found.batch_size} rows at a time"
    )


def summary(done: Summary, *, as_json: bool) -> None:
    """Show what an extraction did."""
    if as_json:
        console.show_json(asdict(done))
        return
    rows = [
        (name, size, done.computed[name], human_bytes(done.written[name]))
        for name, size in done.rows.items()
    ]
    console.table("", ("split", "rows", "computed now", "written now"), rows)
    if done.finished:
        console.say(f"run in batches of {done.batch_size} rows")
        console.say(f"cache: {done.store}")
        console.say(f"next:  latentood score {done.store}")


def layers(found: Sequence[LayerFacts], *, as_json: bool) -> None:
    """Show the modules of a model."""
    if as_json:
        console.show_json([asdict(layer) for layer in found])
        return
    rows = [
        (
            layer.name,
            layer.kind,
            "" if layer.shape is None else "×".join(map(str, layer.shape)),
            layer.reduction,
            layer.width,
            "" if layer.row_bytes is None else human_bytes(layer.row_bytes),
            layer.calls,
            "yes" if layer.stochastic else "",
            _part(layer),
        )
        for layer in found
    ]
    columns = ("layer", "module", "output", "reduction", "width", "size", "calls", "stochastic", "")
    console.table("", columns, rows)


def _part(layer: LayerFacts) -> str:
    """Say what a module is to the whole model."""
    if layer.head:
        return "head; its input is penultimate"
    return "suggested" if layer.suggested else ""


def suggestion(found: Sequence[LayerFacts], *, as_json: bool) -> None:
    """Show the layers to choose, as a line of a pipeline file."""
    from latentood.extract.outline import suggested_layers
    from latentood.extract.outline import suggestion as line

    if as_json:
        console.show_json(suggested_layers(found))
    else:
        console.say(line(found))


def contents(found: dict[str, Any], *, as_json: bool) -> None:
    """Show what a cache holds."""
    if as_json:
        console.show_json(found)
        return
    fingerprint, versions = found["fingerprint"], found["versions"]
    console.say(f"schema {found['schema']}, run {found['digest'][:16]}")
    console.say(f"pipeline {found['pipeline'].get('name', '')}, seed {fingerprint.get('seed')}")
    console.say(f"weights {str(fingerprint.get('weights'))[:16]}")
    console.say("written by " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    rows = [
        (
            split,
            facts["role"],
            facts["rows"],
            f"{facts['committed']}/{facts['blocks']}",
            array["key"],
            "×".join(map(str, array["shape"])),
            array["dtype"],
            human_bytes(array["stored"]),
            "" if not array["ratio"] else f"{array['ratio']:.2f}",
        )
        for split, facts in found["splits"].items()
        for array in facts["arrays"]
    ]
    columns = ("split", "role", "rows", "blocks", "array", "shape", "dtype", "on disk", "ratio")
    console.table("", columns, rows)
    console.say(f"in all {human_bytes(found['total']['stored'])} on disk")


def problems(found: Sequence[Problem], *, as_json: bool) -> None:
    """Show the damage in a cache."""
    if as_json:
        console.show_json([asdict(problem) for problem in found])
        return
    if not found:
        console.say("all blocks are as they were written")
        return
    rows = [(problem.split, problem.block, problem.array, problem.what) for problem in found]
    console.table("", ("split", "block", "array", "problem"), rows)


def detectors(found: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Show the registry."""
    if as_json:
        console.show_json(found)
        return
    rows = [
        (
            one["name"],
            one["family"],
            ", ".join(one["needs"]["score"]),
            ", ".join(f"{h['name']}={h['default']}" for h in one["hyperparameters"]),
            one["paper"],
        )
        for one in found
    ]
    console.table("", ("detector", "family", "reads", "hyperparameters", "paper"), rows)


def fitted(found: Fitted, path: Path, *, as_json: bool) -> None:
    """Show what was fitted, and where it is."""
    about = {
        "detector": found.detector.name,
        "hyperparameters": found.detector.hyperparameters(),
        "provenance": found.provenance,
        "file": str(path),
    }
    if as_json:
        console.show_json(about)
        return
    rows = found.provenance["fit"]
    console.say(f"fitted: {found.detector.name} on {rows['rows']} rows of {rows['split']}")
    for name, value in found.provenance["diagnostics"].items():
        console.say(f"        {name} {value}")
    console.say(f"file:   {path}")
    console.say(f"next:   latentood score STORE --fitted {path}")


def comparison(found: Comparison, files: Files, *, as_json: bool) -> None:
    """Show which detector is best, and where the rest went."""
    from latentood.report.results import as_json as result_json
    from latentood.report.table import render

    if as_json:
        console.show_json(result_json(found) | {"files": asdict(files)})
        return
    console.out.print(render(found, terminal=console.out.is_terminal))
    for result in found.ranked:
        for sentence in result.warnings:
            console.say(f"warning: {found.title(result.request)}: {sentence}")
    for kind, path in files.results.items():
        console.say(f"{kind + ':':9}{path}")
    if files.tracking is not None:
        console.say(f"tracked:  {files.tracking}")
        console.say(f"compare:  latentood ui --tracking {files.tracking}")


def failures(found: Comparison, tracking_error: str | None) -> bool:
    """Tell what went wrong on stderr; says whether anything did."""
    for one in found.failed:
        console.note(f"error: {one.request.detector} on {one.request.layer}: {one.reason}")
    if tracking_error:
        console.note(f"error: results are written, but not tracked: {tracking_error}")
    return bool(found.failed or tracking_error)


def diagnosis(found: dict[str, Any], *, as_json: bool) -> None:
    """Show what this installation can do."""
    if as_json:
        console.show_json(found)
        return
    rows: list[tuple[str, str]] = [("python", found["python"]), ("platform", found["platform"])]
    rows += [("cores", str(found["cores"]))]
    rows += [(name, number or "not installed") for name, number in found["packages"].items()]
    gpu = found["gpu"]
    rows.append(("GPU", ", ".join(gpu["names"]) if gpu["available"] else "none that torch can use"))
    faiss = found["faiss"]
    rows.append(("FAISS", f"{faiss['gpus']} GPUs" if faiss["available"] else "not installed"))
    rows.append(("disk", f"{human_bytes(found['disk_free_bytes'])} free"))
    console.table("", ("what", "is"), rows)
    for sentence in found["advice"]:
        console.say(f"advice: {sentence}")
