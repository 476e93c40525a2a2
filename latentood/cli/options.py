"""Arguments and options that commands share, or that take more than a line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
PipelineFile = Annotated[Path, typer.Argument(metavar="PIPELINE", help="Pipeline file (YAML).")]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a cache.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 … (default: the pipeline's)")]
Where = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 … (default: the GPU if there is one)")
]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key; may be repeated.")
]
Tracking = Annotated[
    str | None,
    typer.Option(help="MLflow store, or none (default: $MLFLOW_TRACKING_URI, sqlite:///mlflow.db)"),
]
TrainingFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of weights, history and checkpoint, gone on from (with --from by default "
        "STORE-heads/NAME)."
    ),
]
HeadOn = Annotated[
    Path | None,
    typer.Option(
        "--from", metavar="STORE", help="Train a head on features of this cache, not a network."
    ),
]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="NAME.KEY=VALUE", help="e.g. knn.k=10,50; may be repeated."),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Keep so much of what was read, e.g. 2GiB (default: 25% of what is free, at most "
        "4GiB). Results do not depend on it.",
    ),
]
Names = Annotated[
    str | None,
    typer.Option("--detectors", help="all, or names with commas; default all, or those --fitted."),
]
FittedFiles = Annotated[list[Path], typer.Option(help="File that fit wrote; may be repeated.")]
AnyCache = Annotated[
    bool, typer.Option("--any-cache", help="Accept files fitted on another run's cache.")
]
AllowOverlap = Annotated[
    bool,
    typer.Option("--allow-overlap", help="Score splits even if they hold the same rows."),
]
Unit = Annotated[
    Literal["image", "cell", "box"] | None,
    typer.Option(help="What a score is about (default: the unit of the cache's pipeline)."),
]
Maps = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write score maps of cells, or boxes.parquet, and pictures there: for the detectors "
        "that are named, else for the 3 best.",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="PIPELINE", help="Pipeline file whose data sets give the images of the pictures."
    ),
]
Prevalence = Annotated[
    float,
    typer.Option(
        min=0.001, max=0.999, help="Share of OOD in aupr_out_at, which compares sets of any size."
    ),
]
ImageScore = Annotated[
    Literal["max", "mean", "top3"] | None,
    typer.Option("--image-score", help="Turn the scores of cells or boxes into their image's."),
]
