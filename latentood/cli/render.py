"""The results of commands, as text or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentood.cli import terminal
from latentood.files import human_bytes

if TYPE_CHECKING:
    from latentood.detectors.fitted import Fitted
    from latentood.evaluation.comparison import Comparison
    from latentood.extraction.model.outline import LayerFacts
    from latentood.extraction.run.estimate import Estimate
    from latentood.extraction.run.runner import Summary
    from latentood.store.verify import Problem
    from latentood.training.train import Trained
    from latentood.workflows import Files, TrainedHead


def show(result: Any, as_text: Callable[[Any], None], *, as_json: bool) -> None:
    """Print a result as JSON, or as text by another function of this module."""
    if as_json:
        terminal.show_json(result)
    else:
        as_text(result)


def estimate(result: Estimate, *, as_json: bool) -> None:
    """Show what an extraction will cost."""
    if as_json:
        totals = {"total_bytes": result.total_bytes, "total_seconds": result.total_seconds}
        terminal.show_json(asdict(result) | totals)
        return
    rows = [
        (split, key, result.rows[split], result.blocks[split], human_bytes(size))
        for split, arrays in result.array_bytes.items()
        for key, size in arrays.items()
    ]
    terminal.table(("split", "array", "rows", "blocks", "size"), rows)
    terminal.say(
        f"in all {human_bytes(result.total_bytes)} before compression; "
        f"{human_bytes(result.free_bytes)} free; "
        f"about {terminal.human_time(result.total_seconds)} in the model, "
        f"{result.batch_size} rows at a time"
    )


def summary(done: Summary) -> None:
    """Show what an extraction did."""
    rows = [
        (name, size, done.computed[name], human_bytes(done.written[name]))
        for name, size in done.rows.items()
    ]
    terminal.table(("split", "rows", "computed now", "written now"), rows)
    if done.finished:
        terminal.say(f"run in batches of {done.batch_size} rows")
        terminal.say(f"cache: {done.store}")
        terminal.say(f"next:  latentood score {done.store}")


def layers(result: Sequence[LayerFacts]) -> None:
    """Show the modules of a model."""
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
        for layer in result
    ]
    columns = ("layer", "module", "output", "reduction", "width", "size", "calls", "stochastic", "")
    terminal.table(columns, rows)


def _part(layer: LayerFacts) -> str:
    """Describe the role of a module in the model."""
    if layer.head:
        return "head; its input is penultimate"
    return "suggested" if layer.suggested else ""


def suggestion(result: Sequence[LayerFacts], *, as_json: bool) -> None:
    """Show the layers to choose, as a line of a pipeline file."""
    from latentood.extraction.model.outline import suggested_layers
    from latentood.extraction.model.outline import suggestion as line

    if as_json:
        terminal.show_json(suggested_layers(result))
    else:
        terminal.say(line(result))


def contents(result: dict[str, Any]) -> None:
    """Show what a cache holds."""
    fingerprint, versions = result["fingerprint"], result["versions"]
    terminal.say(f"schema {result['schema']}, run {result['digest'][:16]}")
    terminal.say(f"pipeline {result['pipeline'].get('name', '')}, seed {fingerprint.get('seed')}")
    terminal.say(f"weights {str(fingerprint.get('weights'))[:16]}")
    if result["heads"]:
        terminal.say(f"heads trained on its features: {', '.join(result['heads'])}")
    terminal.say("written by " + ", ".join(f"{name} {number}" for name, number in versions.items()))
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
        for split, facts in result["splits"].items()
        for array in facts["arrays"]
    ]
    columns = ("split", "role", "rows", "blocks", "array", "shape", "dtype", "on disk", "ratio")
    terminal.table(columns, rows)
    terminal.say(f"in all {human_bytes(result['total']['stored'])} on disk")


def problems(result: Sequence[Problem]) -> None:
    """Show the damage in a cache."""
    if not result:
        terminal.say("all blocks are as they were written")
        return
    rows = [(problem.split, problem.block, problem.array, problem.what) for problem in result]
    terminal.table(("split", "block", "array", "problem"), rows)


def detectors(result: Sequence[dict[str, Any]]) -> None:
    """Show the registry."""
    rows = [
        (
            one["name"],
            one["family"],
            ", ".join(one["needs"]["score"]),
            ", ".join(f"{h['name']}={h['default']}" for h in one["hyperparameters"]),
            one["paper"],
        )
        for one in result
    ]
    terminal.table(("detector", "family", "reads", "hyperparameters", "paper"), rows)


def trained(result: Trained) -> None:
    """Show the best epoch of a training run, if one is over, and what to do with its weights."""
    _best_epoch(result)
    if result.best:
        terminal.say(
            f"next:         latentood extract PIPELINE --set model.weights={result.weights}"
        )


def trained_head(result: TrainedHead) -> None:
    """Show the best epoch of a head on cached features, and what the cache has of it now."""
    _best_epoch(result.training)
    if (kept := result.kept) is None:
        return
    rows = [(split, size, kept.computed[split]) for split, size in kept.rows.items()]
    terminal.say(f"added:        {', '.join(kept.arrays)}")
    terminal.table(("split", "rows", "computed now"), rows)
    terminal.say(f"next:         latentood score {kept.store}")


def _best_epoch(result: Trained) -> None:
    width = max([14, *(len(name) + 2 for name in result.best)])
    for name, value in result.best.items():
        terminal.say(f"{name + ':':{width}}{value:g}")
    if result.best:
        terminal.say(f"weights:      {result.weights}")


def fitted(result: Fitted, path: Path, *, as_json: bool) -> None:
    """Show what was fitted, and where it is."""
    about = {
        "detector": result.detector.name,
        "hyperparameters": result.detector.hyperparameters(),
        "provenance": result.provenance,
        "file": str(path),
    }
    if as_json:
        terminal.show_json(about)
        return
    rows = result.provenance["fit"]
    terminal.say(f"fitted: {result.detector.name} on {rows['rows']} rows of {rows['split']}")
    for name, value in result.provenance["diagnostics"].items():
        terminal.say(f"        {name} {value}")
    terminal.say(f"file:   {path}")
    terminal.say(f"next:   latentood score STORE --fitted {path}")


def comparison(result: Comparison, files: Files, *, as_json: bool) -> None:
    """Show the detectors, best first, their warnings, and the files of the results."""
    from latentood.report.results import as_json as result_json
    from latentood.report.table import render

    if as_json:
        terminal.show_json(result_json(result) | {"files": asdict(files)})
        return
    terminal.out.print(render(result, terminal=terminal.out.is_terminal, failed=False))
    for sentence in result.warnings:
        terminal.say(f"warning: {sentence}")
    for one in result.ranked:
        for sentence in one.warnings:
            terminal.say(f"warning: {result.title(one.request)}: {sentence}")
    for kind, path in files.results.items():
        terminal.say(f"{kind + ':':9}{path}")
    if files.maps is not None:
        terminal.say(f"maps:     {files.maps}")
    if files.tracking is not None:
        terminal.say(f"tracked:  {files.tracking}")
        terminal.say(f"compare:  latentood ui --tracking {files.tracking}")


def failures(result: Comparison, tracking_error: str | None) -> bool:
    """Print the errors of a comparison on stderr; True if there are any."""
    for one in result.failed:
        terminal.note(f"error: {one.request.detector} on {one.request.layer}: {one.reason}")
    if tracking_error:
        terminal.note(f"error: results are written, but not tracked: {tracking_error}")
    return bool(result.failed or tracking_error)


def diagnosis(result: dict[str, Any]) -> None:
    """Show what this installation can do."""
    gpu, faiss, packages = result["gpu"], result["faiss"], result["packages"]
    rows = [
        *((name, result[name]) for name in ("python", "platform", "cores")),
        *((name, number or "not installed") for name, number in packages.items()),
        ("GPU", ", ".join(gpu["names"]) if gpu["available"] else "none that torch can use"),
        ("FAISS", f"{faiss['gpus']} GPUs" if faiss["available"] else "not installed"),
        ("disk", f"{human_bytes(result['disk_free_bytes'])} free"),
    ]
    terminal.table(("what", "is"), rows)
    for sentence in result["advice"]:
        terminal.say(f"advice: {sentence}")
