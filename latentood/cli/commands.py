"""The commands: parse, make one call, print.

Exit status: 0 done; 1 a named error, one line on stderr; 2 wrong usage; 130 stopped by a signal
with everything finished so far kept.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from latentood import __version__
from latentood.cli import render, terminal
from latentood.cli.advising import advise
from latentood.cli.comparing import compare
from latentood.cli.options import (
    AllowOverlap,
    AnyCache,
    AsJson,
    Device,
    FittedFiles,
    HeadOn,
    Images,
    ImageScore,
    Maps,
    Memory,
    Names,
    Overrides,
    PipelineFile,
    Prevalence,
    Settings,
    StorePath,
    Tracking,
    TrainingFolder,
    Unit,
    Where,
)
from latentood.cli.reporting import report
from latentood.cli.tuning import tune
from latentood.errors import LatentOODError, StoreError
from latentood.latents.key import PENULTIMATE

if TYPE_CHECKING:
    from latentood.evaluation.comparison import Comparison
    from latentood.training.train import Trained
    from latentood.workflows import Files, TrainedHead

app = typer.Typer(
    name="latentood",
    help="Run a model once, then compare every out-of-distribution detector from the cache.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

STOPPED = terminal.STOPPED


def _version(wanted: bool) -> None:
    if wanted:
        terminal.say(f"latentood {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say how things are done.")
    ] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", force=True)
    logging.getLogger("latentood").setLevel(logging.INFO if verbose else logging.WARNING)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("latentood-demo"),
    unit: Annotated[
        Literal["image", "cell", "box"],
        typer.Option(help="Classify digits, or find them in scenes with a segmenter or detector."),
    ] = "image",
    tracking: Tracking = None,
    as_json: AsJson = False,
) -> None:
    """Train a small network on digits, extract, score every detector, print the comparison.

    Example: `latentood demo --out /tmp/demo`

    Example: `latentood demo --unit box --out /tmp/boxes`
    """
    from latentood.cli.demo import run

    with terminal.stoppable("what is finished is kept"):
        comparison, files = run(out, unit=unit, tracking=tracking)
    _show(comparison, files, as_json=as_json)


@app.command()
def train(
    pipeline: PipelineFile,
    out: TrainingFolder = None,
    cache: HeadOn = None,
    layer: Annotated[str, typer.Option(help="With --from: layer of the features.")] = PENULTIMATE,
    name: Annotated[
        str | None, typer.Option(help="With --from: name of the head (default: the objective's).")
    ] = None,
    device: Device = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train anew; replace a head of this name.")
    ] = False,
    tracking: Tracking = None,
    overrides: Overrides = [],
    as_json: AsJson = False,
) -> None:
    """Train the network of a pipeline, or a head on cached features; a stopped run is gone on with.

    Example: `latentood train pipelines/mnist_evidential.yaml --out runs/edl`

    Example: `latentood train pipelines/demo.yaml --from digits.zarr --layer penultimate`
    """
    from latentood import workflows

    if cache is None and out is None:
        raise typer.BadParameter("give a folder, or a cache with --from", param_hint="--out")
    asked: dict[str, Any] = {
        "device": device,
        "overwrite": overwrite,
        "tracking": tracking,
        "overrides": overrides,
    }
    result: Trained | TrainedHead
    with terminal.row_progress("steps") as progress:
        if cache is None:
            result = workflows.train(pipeline, str(out), **asked, progress=progress)
        else:
            result = workflows.train_head(
                pipeline, cache, out, layer=layer, name=name, **asked, progress=progress
            )
    render.show(result, render.trained if cache is None else render.trained_head, as_json=as_json)
    if not result.finished:
        terminal.note("stopped; what is done is kept: run the same command again to go on")
        raise typer.Exit(STOPPED)


@app.command()
def extract(
    pipeline: PipelineFile,
    store: Annotated[Path, typer.Option(help="Folder of the cache; an existing one is resumed.")],
    split: Annotated[list[str], typer.Option(help="Only this split; may be repeated.")] = [],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many rows of each split, evenly spaced.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it costs, only.")] = False,
    device: Device = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Rows run together.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start the cache anew.")] = False,
    overrides: Overrides = [],
    as_json: AsJson = False,
) -> None:
    """Run the model once over the splits and keep what detectors need.

    Example: `latentood extract pipelines/cifar10_resnet20.yaml --store caches/cifar10.zarr`
    """
    from latentood import workflows

    asked: dict[str, Any] = {
        "splits": split,
        "limit": limit,
        "device": device,
        "batch_size": batch_size,
        "overwrite": overwrite,
        "overrides": overrides,
    }
    if dry_run:
        render.estimate(workflows.estimate(pipeline, store, **asked), as_json=as_json)
        return
    with terminal.extraction_progress() as progress:
        summary = workflows.extract(pipeline, store, **asked, progress=progress)
    render.show(summary, render.summary, as_json=as_json)
    if not summary.finished:
        terminal.note("stopped; everything finished is kept: run the same command again to resume")
        raise typer.Exit(STOPPED)


@app.command()
def layers(
    pipeline: PipelineFile,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Print a line with layers to choose, only.")
    ] = False,
    device: Device = None,
    overrides: Overrides = [],
    as_json: AsJson = False,
) -> None:
    """List the modules of the model: output shapes, widths, which are stochastic.

    Example: `latentood layers pipelines/cifar10_resnet20.yaml --suggest`
    """
    from latentood import workflows

    facts = workflows.layers(pipeline, device=device, overrides=overrides)
    if suggest:
        render.suggestion(facts, as_json=as_json)
    else:
        render.show(facts, render.layers, as_json=as_json)


@app.command()
def inspect(store: StorePath, as_json: AsJson = False) -> None:
    """Show what a cache holds: splits, arrays, sizes, provenance.

    Example: `latentood inspect caches/cifar10.zarr`
    """
    from latentood.store.cache import inspect as look

    render.show(look(store), render.contents, as_json=as_json)


@app.command()
def verify(
    store: StorePath,
    discard: Annotated[
        bool, typer.Option("--discard", help="Drop damaged blocks; extract then repairs them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Re-hash every block of a cache; exit 1 if any is damaged.

    Example: `latentood verify caches/cifar10.zarr`
    """
    from latentood.store.verify import discard as drop
    from latentood.store.verify import verify as check

    with terminal.row_progress() as progress:
        problems = check(store, progress=lambda done, total: progress("blocks", done, total))
    render.show(problems, render.problems, as_json=as_json)
    if not problems:
        return
    if discard:
        drop(store, problems)
        terminal.note("the damaged blocks are dropped; run extract again to repair them")
    raise StoreError(f"{store}: {len(problems)} damaged; verify --discard, then run extract again")


@app.command()
def detectors(as_json: AsJson = False) -> None:
    """List all detectors with what they read and their hyperparameters.

    Example: `latentood detectors --json`
    """
    from latentood.detectors.registry import detector_table

    render.show(detector_table(), render.detectors, as_json=as_json)


@app.command()
def fit(
    store: StorePath,
    which: Annotated[str, typer.Option("--detector", help="Name of the detector.")],
    out: Annotated[Path, typer.Option(help="File to write (safetensors).")],
    layer: Annotated[str | None, typer.Option(help="Layer it looks at.")] = None,
    settings: Settings = [],
    unit: Unit = None,
    device: Where = None,
    as_json: AsJson = False,
) -> None:
    """Fit one detector on a cache and save it, to score other caches of the same model.

    Example: `latentood fit caches/cifar10.zarr --detector vim --out vim.safetensors`
    """
    with terminal.stoppable(f"{out} was not written, and the cache is as it was"):
        from latentood import workflows

        fitted = workflows.fit(
            which, store, layer=layer, settings=settings, unit=unit, device=device
        )
        fitted.save(out)
    render.fitted(fitted, out, as_json=as_json)


@app.command()
def score(
    store: StorePath,
    which: Names = None,
    layers: Annotated[str | None, typer.Option(help="Layers or globs, with commas.")] = None,
    settings: Settings = [],
    out: Annotated[
        Path | None, typer.Option(help="Folder for results (default: STORE-results)")
    ] = None,
    fitted: FittedFiles = [],
    any_cache: AnyCache = False,
    allow_overlap: AllowOverlap = False,
    memory: Memory = None,
    unit: Unit = None,
    image_score: ImageScore = None,
    prevalence: Prevalence = 0.5,
    maps: Maps = None,
    images: Images = None,
    tracking: Tracking = None,
    device: Where = None,
    as_json: AsJson = False,
) -> None:
    """Fit, score and compare detectors from a cache; write results, then track them in MLflow.

    Example: `latentood score caches/cifar10.zarr --detectors vim,knn --set knn.k=10,50`

    Example: `latentood score caches/road.zarr --maps maps --images pipelines/camvid_unet.yaml`
    """
    if images is not None and maps is None:
        raise typer.BadParameter(
            "needs --maps DIR, the folder of the pictures", param_hint="--images"
        )
    with (
        terminal.stoppable("no results were written, and the cache is as it was"),
        terminal.row_progress() as progress,
    ):
        from latentood import workflows

        if maps is not None:
            workflows.require_maps(store, unit=unit, image_score=image_score, images=images)
        comparison = workflows.score(
            store,
            detectors=which,
            layers=layers,
            settings=settings,
            fitted=fitted,
            any_cache=any_cache,
            allow_overlap=allow_overlap,
            unit=unit,
            image_score=image_score,
            prevalence=prevalence,
            device=device,
            memory=memory,
            progress=progress,
        )
    folder = out or workflows.results_folder(store, unit, image_score)
    with terminal.stoppable(f"results in {folder} are whole or not there, and may not be tracked"):
        files = workflows.publish(comparison, folder, tracking=tracking)
        if maps is not None:
            most = workflows.most_maps(which, fitted)
            workflows.write_maps(comparison, maps, images=images, best=most)
            files = replace(files, maps=maps)
    _show(comparison, files, as_json=as_json)


app.command()(advise)
app.command()(tune)
app.command()(compare)
app.command()(report)


@app.command()
def ui(
    tracking: Tracking = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    browse: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show the MLflow comparison UI on 127.0.0.1; Ctrl-C stops it.

    Example: `latentood ui --open --tracking sqlite:///latentood-demo/mlflow.db`
    """
    from latentood.report.mlflow_ui import page, serve
    from latentood.report.tracking_store import default_uri

    uri = tracking or default_uri()
    address = page(uri, port)
    terminal.note(f"{address}  (Ctrl-C stops it)")
    raise typer.Exit(serve(uri, port, address=address if browse else None))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this installation: versions, GPU, FAISS build, disk.

    Example: `latentood doctor`
    """
    from latentood.cli.doctor import diagnose

    render.show(diagnose(Path.cwd()), render.diagnosis, as_json=as_json)


def _show(comparison: Comparison, files: Files, *, as_json: bool) -> None:
    """Print a comparison and, once each, what failed in it."""
    render.comparison(comparison, files, as_json=as_json)
    if render.failures(comparison, files.tracking_error):
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors raised on purpose become one line and exit status 1."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        try:
            app(args=arguments)
        finally:
            sys.stdout.flush()
    except LatentOODError as error:
        terminal.note(f"error: {error}")
        sys.exit(1)
    except OSError as error:  # of the output itself: a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left cannot be written at the end
        terminal.note(f"error: the output cannot be written ({error.strerror}); free some space")
        sys.exit(1)


def typer_app() -> Any:
    """Give the click command, for the generated reference."""
    return typer.main.get_command(app)
