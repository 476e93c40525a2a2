"""Turn one image through 180° and draw what trained networks predict: the rotating digit.

Sensoy et al. 2018, arXiv:1806.01768, fig. 1: the probability of the true class and of every class
that is predicted on the way, and the network's own uncertainty, against the angle. Departures: the
image is turned counter-clockwise within its frame, and several networks are drawn side by side.

Example, a panel for each file of weights:
    python pipelines/rotating_digit.py pipelines/mnist_evidential.yaml \
        runs/edl/weights.safetensors runs/softmax/weights.safetensors --out rotating.png
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from latentood.cli.options import Overrides, PipelineFile
from latentood.data.corrupted import OnPixels, turn
from latentood.data.items import NO_LABEL, split_item
from latentood.errors import ConfigError, LatentOODError, unknown
from latentood.extraction.model.weights import load_model
from latentood.extraction.run.inputs import Inputs, open_inputs
from latentood.models.heads import ATTACHED, Prediction, SoftmaxHead, UncertaintyHead
from latentood.pipeline.schema import Pipeline
from latentood.workflows.given import pipeline_of

_ACROSS = 3  # panels beside each other
_SHOWN = 30  # degrees between the images below the curves
_LEAST = 1e-9  # of a range of uncertainties that is drawn


@dataclass(frozen=True)
class Turned:
    """One image at several angles, ready for a network."""

    degrees: Sequence[int]  # A angles
    inputs: Tensor  # (A, C, H, W)
    label: int  # NO_LABEL where there is none


@dataclass(frozen=True)
class Panel:
    """What one network predicts for every angle."""

    title: str
    probability: Tensor  # (A, C)
    uncertainty: Tensor  # (A,), higher = less certain


def turn_image(inputs: Inputs, row: int | None, step: int) -> Turned:
    """Turn the image of a row by 0, step, … 180 degrees, before the pipeline's transform.

    Raises:
        ConfigError: There is no such row, or no row with the label 1 where none is named.
    """
    rows = len(inputs)
    if row is None:
        row = next((one for one in range(rows) if inputs.target(one) == 1), rows)
        if row == rows:
            raise ConfigError(f"rotating digit: no row of {inputs.name!r} has label 1; set --row")
    if not 0 <= row < rows:
        raise ConfigError(
            f"rotating digit: --row must be from 0 to {rows - 1}, the rows of {inputs.name!r}, "
            f"got {row}"
        )
    image, label = split_item(inputs.source[row], inputs.input, inputs.label)
    degrees = range(0, 181, step)
    images = [OnPixels(partial(turn, angles=(angle,)))(image) for angle in degrees]
    ready = images if inputs.transform is None else [inputs.transform(one) for one in images]
    return Turned(degrees, torch.stack(ready), int(label))


@torch.no_grad()
def predict(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Give probabilities (A, C) and the network's own uncertainty (A,).

    That of a network whose file of weights has no head is one minus the largest probability.
    """
    head = getattr(network, ATTACHED, None)
    if not isinstance(head, UncertaintyHead):
        logits = network(inputs)
        head = SoftmaxHead(logits.shape[1], logits.shape[1])
        prediction = head(logits)
    else:
        given: list[Prediction] = []
        with head.register_forward_hook(lambda module, args, output: given.append(output)):
            network(inputs)
        prediction = given[-1]
    return prediction.probability, head.uncertainty(prediction)


def draw(panels: Sequence[Panel], turned: Turned) -> Figure:
    """Draw a panel for each network, and below them the image at some of the angles."""
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4.6 * across, 2.7 * down + 0.9), dpi=110, layout="constrained")
    axes = figure.subplots(
        down + 1, across, squeeze=False, height_ratios=[*[2.7] * down, 0.6], sharex="col"
    )
    for place, panel in zip(axes[:down].flat, panels, strict=False):
        _draw_panel(place, panel, turned)
    for place in axes[:down].flat[len(panels) :]:
        place.set_visible(False)
    for place in axes[down]:
        _draw_images(place, turned)
    return figure


def _draw_panel(axes: Axes, panel: Panel, turned: Turned) -> None:
    predicted = panel.probability.argmax(dim=1).unique().tolist()
    for number in sorted({*predicted, *([turned.label] if turned.label != NO_LABEL else [])}):
        true = number == turned.label
        axes.plot(
            turned.degrees, panel.probability[:, number], color=f"C{number}",
            linewidth=2.6 if true else 1.3, label=f"p({number}){', true' if true else ''}",
        )  # fmt: skip
    values, name = panel.uncertainty, "uncertainty"
    if not 0 <= float(values.min()) <= float(values.max()) <= 1:  # e.g. that of a density
        values = (values - values.min()) / (values.max() - values.min()).clamp(min=_LEAST)
        name = "uncertainty, scaled"
    axes.plot(turned.degrees, values, color="black", linestyle="--", label=name)
    axes.set(title=panel.title, xlim=(0, 180), ylim=(-0.03, 1.03), xticks=range(0, 181, _SHOWN))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, framealpha=0.6)


def _draw_images(axes: Axes, turned: Turned) -> None:
    pictures = turned.inputs.movedim(1, -1).float().numpy()
    low, high = pictures.min(), pictures.max()
    for angle, picture in zip(turned.degrees, pictures, strict=True):
        if angle % _SHOWN == 0:
            shown = np.squeeze((picture - low) / (high - low))
            axes.imshow(shown, cmap="gray_r", extent=(angle - 9, angle + 9, 0, 1), aspect="auto")
    axes.set(xlim=(0, 180), ylim=(0, 1), yticks=[], xlabel="degrees", clip_on=False)
    for image in axes.images:
        image.set_clip_on(False)
    axes.set_frame_on(False)


def write_numbers(path: Path, panels: Sequence[Panel], turned: Turned) -> None:
    """Write a line for each network and angle as CSV."""
    classes = panels[0].probability.shape[1]
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = (f"p{number}" for number in range(classes))
        table.writerow(["network", "degrees", "label", "prediction", "uncertainty", *names])
        for panel in panels:
            predicted = panel.probability.argmax(dim=1).tolist()
            lines = zip(
                turned.degrees, predicted, panel.uncertainty.tolist(), panel.probability.tolist(),
                strict=True,
            )  # fmt: skip
            for angle, number, uncertainty, probability in lines:
                table.writerow(
                    [panel.title, angle, turned.label, number, uncertainty, *probability]
                )


def _titles(weights: Sequence[Path]) -> list[str]:
    """Name networks by the folders of their weights, or by whole paths where these are alike."""
    folders = [file.resolve().parent.name for file in weights]
    return folders if len(set(folders)) == len(folders) else [str(file) for file in weights]


def _panel(pipeline: Pipeline, weights: Path, title: str, turned: Turned) -> Panel:
    config = pipeline.model.model_copy(update={"weights": weights})
    network = load_model(config, pipeline.seed)
    return Panel(title, *predict(network, turned.inputs))


def main(
    pipeline: PipelineFile,
    weights: Annotated[
        list[Path],
        typer.Argument(help="Files that latentood train wrote; panels are named by their folders."),
    ],
    out: Annotated[
        Path, typer.Option(help="Picture (PNG); the numbers lie beside it as CSV.")
    ] = Path("rotating.png"),
    split: Annotated[
        str | None, typer.Option(help="Split of the image (default: the one of role id).")
    ] = None,
    row: Annotated[
        int | None, typer.Option(help="Row of the image (default: the first with label 1).")
    ] = None,
    step: Annotated[int, typer.Option(min=1, max=180, help="Degrees between angles.")] = 5,
    overrides: Overrides = [],  # noqa: B006  # typer reads the default, nothing changes it
) -> None:
    """Turn one image through 180° and draw what trained networks predict.

    Example: python pipelines/rotating_digit.py pipelines/mnist_evidential.yaml
    runs/edl/weights.safetensors --out rotating.png
    """
    described = pipeline_of(pipeline, overrides)
    ids = [name for name, one in described.splits.items() if one.role == "id"]
    name = split or next(iter(ids), "")
    if name not in described.splits:
        raise unknown("split", name, described.splits)
    turned = turn_image(open_inputs(described, name, limit=None), row, step)
    named = zip(weights, _titles(weights), strict=True)
    panels = [_panel(described, file, title, turned) for file, title in named]
    draw(panels, turned).savefig(out)
    write_numbers(out.with_suffix(".csv"), panels, turned)
    typer.echo(f"{out}\n{out.with_suffix('.csv')}")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(main)


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error raised on purpose is one line and exit status 1."""
    try:
        app(args=arguments)
    except LatentOODError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
