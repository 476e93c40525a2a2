"""The command that puts models side by side, and what it prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentood.cli import terminal
from latentood.cli.options import AllowOverlap, AsJson, Memory, Settings, Unit, Where

if TYPE_CHECKING:
    from latentood.evaluation.pairing import Gap, Line, ModelComparison, ModelQuality

_TITLES = {"auroc": "AUROC", "fpr95_ood": "FPR95-ood", "fpr95_id": "FPR95-id"}
_QUALITY = {"accuracy": "accuracy", "ece": "ECE", "brier": "Brier score", "nll": "NLL"}
_LEVEL = 0.05


def compare(
    stores: Annotated[
        list[Path],
        typer.Argument(metavar="STORES", help="Folders of caches; the first is the reference."),
    ],
    which: Annotated[str, typer.Option("--detectors", help="all, or names with commas.")] = "all",
    layers: Annotated[str | None, typer.Option(help="Layers or globs, with commas.")] = None,
    settings: Settings = [],
    unit: Unit = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of compare.csv and compare.json (default: none).")
    ] = None,
    allow_overlap: AllowOverlap = False,
    memory: Memory = None,
    device: Where = None,
    as_json: AsJson = False,
) -> None:
    """Score models or checkpoints with the same detectors, and compare each with the first.

    Example: `latentood compare caches/resnet18.zarr caches/resnet50.zarr --detectors vim,knn`

    Example: `latentood compare seed0.zarr seed1.zarr seed2.zarr --detectors lared --out spread`
    """
    with (
        terminal.stoppable("nothing was written"),
        terminal.row_progress() as progress,
    ):
        from latentood import workflows

        compared = workflows.compare(
            stores,
            detectors=which,
            layers=layers,
            settings=settings,
            unit=unit,
            allow_overlap=allow_overlap,
            out=out,
            device=device,
            memory=memory,
            progress=progress,
        )
    if as_json:
        from latentood.report.comparing import as_json as document

        terminal.show_json(document(compared))
    else:
        _show(compared, out)


def _show(compared: ModelComparison, out: Path | None) -> None:
    for model in compared.models[1:]:
        rows = list(_differences(compared, model.name))
        if rows:
            reference = compared.reference.name
            terminal.say(f"{model.name} less {reference}, mean over OOD splits [95% interval]")
            lead = ("detector", "layer", "metric", "of")
            terminal.table((*lead, reference, model.name, "difference", "p"), rows)
            terminal.say(_NOTE)
    _show_seeds(compared)
    if compared.qualities:
        terminal.say("predictions for the ID split:")
        heads = ("model", *_QUALITY.values(), "difference in accuracy", "p")
        terminal.table(heads, [_predictions(one) for one in compared.qualities])
    _show_notes(compared)
    if out is not None:
        terminal.say(f"files:    {out}")


_NOTE = (
    "* p < 0.05, corrected for all detectors and models (Holm); ~ rows differ, compared as "
    "independent"
)


def _differences(compared: ModelComparison, model: str) -> Iterator[tuple[str, ...]]:
    """Give a row for each line that is shown, beside that of the reference."""
    reference = {
        _key(line): line for line in compared.lines if line.model == compared.reference.name
    }
    for line in _shown(compared):
        if line.model == model and line.gap is not None:
            yield (
                line.detector,
                line.layer,
                _TITLES[line.metric],
                line.of,
                _value(reference[_key(line)]),
                _value(line),
                *_gap(line.gap, line.gap.p_holm),
            )


def _key(line: Line) -> tuple[str, ...]:
    settings = str(sorted(line.hyperparameters.items()))
    return line.detector, line.layer, settings, line.of, line.metric


def _shown(compared: ModelComparison) -> list[Line]:
    """Take AUROC of each average, but of a single role, which is the mean; of FPR95 the mean."""
    lines = compared.lines
    several = len({line.of for line in lines}) > 2
    return [one for one in lines if one.of == "mean" or (one.metric == "auroc" and several)]


def _show_seeds(compared: ModelComparison) -> None:
    seeds = [line for line in _shown(compared) if len(set(line.seeds)) > 1]
    if seeds:
        terminal.say("spread over seeds, which the intervals hold, where values depend on the seed")
        columns = ("model", "detector", "layer", "metric", "of", "seeds", "mean [95%]")
        terminal.table((*columns, "SD", "least", "most"), [_seeds(line) for line in seeds])


def _seeds(line: Line) -> tuple[str, ...]:
    return (
        line.model,
        line.detector,
        line.layer,
        _TITLES[line.metric],
        line.of,
        str(len(line.seeds)),
        _value(line),
        f"{line.seed_sd or 0:.4f}",
        f"{min(line.seeds):.4f}",
        f"{max(line.seeds):.4f}",
    )


def _predictions(one: ModelQuality) -> tuple[str, ...]:
    values = (_interval(*one.values[name]) for name in _QUALITY)
    gap = ("", "") if one.gap is None else _gap(one.gap, one.gap.p_value)
    return one.model, *values, *gap


def _show_notes(compared: ModelComparison) -> None:
    for model in compared.models:
        if len(model.stores) > 1:
            stores = ", ".join(f"{one.name} (seed {one.seed})" for one in model.stores)
            terminal.say(f"{model.name}: {stores} repeat one extraction")
    for pair in compared.splits:
        how = "paired, the same rows" if pair.paired else f"not paired: {pair.reason}"
        terminal.say(f"split {pair.split} ({pair.role}) of {pair.model}: {how}")
    for store, names in compared.left_out.items():
        terminal.say(f"left out of {store}, not in all stores: {', '.join(names)}")
    lacking: dict[tuple[str, str], list[str]] = {}
    for one in compared.missing:
        lacking.setdefault((one.request.detector, one.reason), []).append(one.store)
    for (detector, reason), where in lacking.items():
        terminal.say(f"not compared: {detector} in {', '.join(where)}: {reason}")


def _gap(gap: Gap, p_value: float) -> tuple[str, str]:
    marks = ("*" if p_value < _LEVEL else "") + ("" if gap.paired else "~")
    text = f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    return f"{text} {marks}".rstrip(), f"{p_value:.3g}"


def _value(line: Line) -> str:
    return _interval(line.value, line.low, line.high)


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"
