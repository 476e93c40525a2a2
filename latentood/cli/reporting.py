"""The command that writes a comparison as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentood.cli import terminal
from latentood.cli.options import AsJson, Images, Memory, Where
from latentood.files import human_bytes


def report(
    source: Annotated[
        Path, typer.Argument(metavar="STORE|RESULTS", help="A cache, or a folder of results.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
    store: Annotated[
        Path | None, typer.Option(help="Cache of the results: adds what needs features.")
    ] = None,
    images: Images = None,
    device: Where = None,
    memory: Memory = None,
    as_json: AsJson = False,
) -> None:
    """Write a comparison as one HTML file that needs no network.

    Example: `latentood report caches/cifar10.zarr --out report.html`

    Example: `latentood report caches/cifar10-results --images pipelines/cifar10_resnet20.yaml`
    """
    with (
        terminal.stoppable(f"{out} is as it was"),
        terminal.row_progress() as progress,
    ):
        from latentood import workflows

        path = workflows.report(
            source, out, store=store, images=images, device=device, memory=memory, progress=progress
        )
    size = path.stat().st_size
    if as_json:
        terminal.show_json({"report": path, "bytes": size})
    else:
        terminal.say(f"report:  {path} ({human_bytes(size)})")
