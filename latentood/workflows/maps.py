"""Scores of members as maps, tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from latentood.detectors.fitted import Fitted
from latentood.errors import DataError
from latentood.evaluation.comparison import Comparison
from latentood.evaluation.inputs.request import ALL
from latentood.evaluation.members.maps import enlarge, images_at_once
from latentood.evaluation.truth import ImageScore
from latentood.latents import HASHES, Key, Latents
from latentood.latents.facts import OOD_ROLES
from latentood.latents.key import Unit
from latentood.latents.splits import Splits
from latentood.report import maps
from latentood.workflows.given import PipelineSource, splits_of
from latentood.workflows.images import Images
from latentood.workflows.scoring import unit_of

_BEST = 3
"""How many detectors get maps where none was named."""

_SCORED = ("id", *OOD_ROLES)


def score_maps(
    fitted: Fitted, rows: Latents, *, size: tuple[int, int] | None = None
) -> Iterator[Tensor]:
    """Give the score of every pixel of images, some images at a time.

    Cells are scored as ever and enlarged bilinearly to the size of the images, as metrics of
    pixels do it; the metrics then round to float16.

    Args:
        fitted: A detector that was fitted on cells.
        rows: Images with all of their cells, e.g. ``cache["road_test"]``.
        size: Height and width of the images; default: those of their masks.

    Yields:
        (n, H, W) float32 on the CPU: rows and columns of pixels from the upper left, higher = more
        OOD; in the order of the images, as many as need little memory.

    Raises:
        MissingInput: There are no cells, or the detector reads what is not there.
        DataError: Only some cells of an image were kept, or there are no masks and no size.
        DetectorError: The detector was fitted on something else than cells.
    """
    members = rows.members("cell")
    masks, place, count = Key("masks"), Key("place", unit="cell"), Key("count", unit="cell")
    if size is None and masks not in rows:
        raise DataError(f"{rows.name}: score maps must have a size where there are no masks, got "
                        "none; give size=(height, width)")  # fmt: skip
    height, width = rows.shape(masks)[1:] if size is None else size
    last = rows.read(place, 0, 1)[0].amax(dim=0)
    down, across = (int(one) + 1 for one in last)
    if bool((rows[count] != down * across).any()):
        raise DataError(
            f"{rows.name}: score maps must have all {down} × {across} cells of every image, got "
            "some; leave cells.sample out for its role, and re-run extract"
        )
    keys = [*fitted.reads(members), *([HASHES] if HASHES in members else [])]
    for chunk in members.chunks(keys, images_at_once(height, width) * down * across):
        yield enlarge(fitted.score(chunk).view(-1, down, across), height, width).float()


def write_maps(
    comparison: Comparison,
    folder: Path | str,
    *,
    images: PipelineSource | None = None,
    best: int | None = None,
) -> None:
    """Write the scores of cells as maps of pixels, those of boxes as a table, and pictures.

    Of cells, for each detector and split: ``<detector>_<layer>/<split>.npy``, (N, H, W) float16,
    which ``numpy.load(path, mmap_mode="r")`` opens without reading it, and ``<split>.json`` with
    ``offset`` and ``width``: the score of a pixel is offset + width · map. The maps are those that
    the metrics of pixels count. Of boxes: ``boxes.parquet`` with a row for each box (split, image,
    number in the image, x1, y1, x2, y2, confidence, prediction, label, ood) and a column for each
    detector × layer of the comparison. Pictures are of at most 8 images for each detector and
    split, those with something OOD first; colours mean the same scores in all of them.

    Args:
        comparison: What :func:`latentood.score` gave, of cells or boxes.
        folder: Where to write; files of earlier calls in it are replaced.
        images: The pipeline whose data sets give the images for the pictures: caches hold none,
            and what is in a cache is never executed. Default: pictures without images.
        best: Only so many detectors, those with the highest AUROC; default: all.

    Raises:
        ConfigError: The scores are of images, the pipeline has other images, or the folder cannot
            be written to.
        MissingInput: There are no masks, or no corners of boxes.
    """
    maps.require_members(comparison)
    image_of = None
    if images is not None:
        data = comparison.provenance["splits"]
        wanted = {one.name: (one.images, data[one.name]["data"]) for one in comparison.splits}
        image_of = Images.of(images, wanted)
    maps.write_maps(comparison, folder, comparison.ranked[:best], image_of)


def require_maps(
    source: Splits | Path | str,
    *,
    unit: Unit | None = None,
    image_score: ImageScore | None = None,
    images: PipelineSource | None = None,
) -> None:
    """Check, before anything is scored, that there can be maps, with these images.

    Raises:
        ConfigError: Scores will be of images, or the pipeline has other images than the cache.
    """
    splits = splits_of(source)
    maps.require_unit("image" if image_score else unit or unit_of(splits))
    if images is not None:
        scored = (name for name, facts in splits.splits.items() if facts.role in _SCORED)
        Images.of(images, {name: (splits.ids(name), splits.splits[name].data) for name in scored})


def most_maps(detectors: str | None, fitted: Sequence[Path]) -> int | None:
    """Say how many detectors get maps: all that were named, else the best of them."""
    if ALL in (detectors or "").split(","):
        return _BEST
    return None if detectors or fitted else _BEST
