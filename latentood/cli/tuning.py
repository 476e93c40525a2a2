"""The command that chooses settings, and what it prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from latentood.cli import render, terminal
from latentood.cli.options import (
    AllowOverlap,
    AsJson,
    Memory,
    StorePath,
    Tracking,
    Unit,
    Where,
)

if TYPE_CHECKING:
    from latentood.workflows import Choice, Files

Ranges = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="NAME.KEY=VALUES",
        help="Values to try: knn.k=10,50; with random and optuna also knn.k=5..500; may be "
        "repeated.",
    ),
]


def tune(
    store: StorePath,
    which: Annotated[str, typer.Option("--detectors", help="all, or names with commas.")] = "all",
    layers: Annotated[
        str | None, typer.Option(help="Layers or globs to try, with commas (default: their own).")
    ] = None,
    settings: Ranges = [],
    passes: Annotated[
        str | None, typer.Option(help="Numbers of Monte Carlo passes to try, e.g. 4,8,16.")
    ] = None,
    synthetic: Annotated[
        str | None,
        typer.Option(help="Tuning OOD made of features: gaussian, uniform, mixup, with commas."),
    ] = None,
    hold_out: Annotated[
        str | None,
        typer.Option(
            "--hold-out-classes",
            metavar="K|LIST",
            help="Use K ID classes, or those of a list such as 3,5, as tuning OOD: a weak proxy.",
        ),
    ] = None,
    search: Annotated[
        Literal["grid", "random", "optuna"], typer.Option(help="How settings are searched.")
    ] = "grid",
    trials: Annotated[
        int, typer.Option(min=2, help="Settings of each detector that random and optuna try.")
    ] = 20,
    criterion: Annotated[
        Literal["auroc", "fpr95_ood", "fpr95_id"],
        typer.Option(help="What is averaged over the tuning sets."),
    ] = "auroc",
    nested: Annotated[
        bool, typer.Option("--nested", help="Estimate the optimism of the choice.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides what is drawn.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of choice.json and the results (default: STORE-tuned)."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Choose anew in place of the choice there.")
    ] = False,
    allow_overlap: AllowOverlap = False,
    unit: Unit = None,
    memory: Memory = None,
    tracking: Tracking = None,
    device: Where = None,
    as_json: AsJson = False,
) -> None:
    """Choose settings on validation rows and tuning OOD alone; then score them once on the test.

    Example: `latentood tune caches/cifar10.zarr --detectors knn,react,vim --nested`

    Example: `latentood tune caches/c10.zarr --synthetic mixup --search random --set knn.k=5..500`
    """
    with (
        terminal.stoppable("no choice was fixed unless choice.json is there"),
        terminal.row_progress() as progress,
    ):
        from latentood import workflows

        folder = out or workflows.choice_folder(store, unit)
        choice = workflows.tune(
            store,
            detectors=which,
            layers=layers,
            settings=settings,
            passes=_numbers("--passes", passes),
            synthetic=_words(synthetic),  # type: ignore[arg-type]
            hold_out_classes=_classes(hold_out),
            search=search,
            trials=trials,
            criterion=criterion,
            nested=nested,
            seed=seed,
            unit=unit,
            out=folder,
            overwrite=overwrite,
            allow_overlap=allow_overlap,
            memory=memory,
            device=device,
            progress=progress,
        )
    files = workflows.publish_choice(choice, folder, tracking=tracking)
    _show(choice, files, store, as_json=as_json)
    if choice.comparison is not None and render.failures(choice.comparison, files.tracking_error):
        raise typer.Exit(1)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _numbers(option: str, text: str | None) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError:
        raise typer.BadParameter(
            f"must be whole numbers with commas, got {text!r}", param_hint=option
        ) from None


def _classes(text: str | None) -> int | list[int]:
    """Read how many classes, or which; ``3,`` is the class 3."""
    numbers = _numbers("--hold-out-classes", text)
    return numbers[0] if text and "," not in text else numbers or 0


def _show(choice: Choice, files: Files, store: Path, *, as_json: bool) -> None:
    if as_json:
        lines = {"differences": choice.differences, "searched": choice.searched}
        terminal.show_json(dict(choice.document) | lines | {"files": asdict(files)})
        return
    document = choice.document
    if not choice.searched:
        terminal.say("the choice was there already and stays: add --overwrite to choose anew")
    for one in document["sets"]:
        about = f": {one['about']}" if one["about"] else ""
        terminal.say(f"tuning set: {one['name']} ({one['kind']}, {one['rows']:,} rows){about}")
    nested = ["cross-fitted"] * bool(document["nested"])
    lead = ("detector", "tried", "failed", "default", "chosen", "gain [95%]")
    terminal.table((*lead, *nested, "settings"), list(_chosen(document)))
    terminal.say(f"{document['request']['criterion']}, mean over the tuning sets; * is the best")
    if one := document["nested"]:
        terminal.say(
            f"nested: the best of all is {one['apparent']:.4f} where it was chosen, and "
            f"{one['cross_fitted']:.4f} where it was not (cross-fitted over {one['folds']})"
        )
    _reported(choice)
    _where(choice, files, store)


def _chosen(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, one in document["detectors"].items():
        passes = one["chosen"]["passes"]
        settings = [text.partition(".")[2] for text in one["chosen"]["arguments"]]
        settings += [] if passes is None else [f"passes={passes}"]
        yield (
            f"{name} *" if name == document["best"] else name,
            str(one["tried"]),
            str(one["failed"] or ""),
            _number(one["default"]["value"]),
            _number(one["chosen"]["value"]),
            _gain(one["gain"]),
            *([f"{one['nested']['cross_fitted']:.4f}"] if one["nested"] else []),
            " ".join(settings) or "default",
        )


def _reported(choice: Choice) -> None:
    """Show default and chosen settings on the rows that were kept for this."""
    if choice.comparison is None:
        terminal.say("no split of role near, far or mixed: nothing is reported of the choice")
        return
    rows = [
        (
            line["detector"],
            line["role"],
            _auroc(line["default"]),
            _auroc(line["chosen"]),
            _gain(line["gain"]),
        )
        for line in choice.differences
        if not line["split"]
    ]
    if not rows:
        terminal.say("on the test splits: every chosen setting is the default")
        return
    terminal.say("AUROC on the test splits, scored once, mean over the splits of a role:")
    terminal.table(("detector", "role", "default", "chosen", "gain [95%]"), rows)


def _where(choice: Choice, files: Files, store: Path) -> None:
    """Say where everything is, and how the best choice is used."""
    for kind, path in files.results.items():
        terminal.say(f"{kind + ':':9}{path}")
    if files.tracking is not None:
        terminal.say(f"tracked:  {files.tracking}")
    passes = choice.document["detectors"][choice.best]["chosen"]["passes"]
    if passes is not None:  # no option of the two commands below
        terminal.say(f"passes:  extract with --set monte_carlo.passes={passes} for these settings")
    for verb in ("score", "fit"):
        terminal.say(f"{verb + ':':9}{choice.command(verb, store)}")


def _auroc(one: Mapping[str, Any]) -> str:
    return f"{one['auroc']:.4f} [{one['auroc_low']:.4f}, {one['auroc_high']:.4f}]"


def _gain(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    interval = "" if one["low"] is None else f" [{one['low']:+.4f}, {one['high']:+.4f}]"
    return f"{one['value']:+.4f}{interval}"


def _number(value: float | None) -> str:
    return "failed" if value is None else f"{value:.4f}"
