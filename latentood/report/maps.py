"""Scores of cells as maps of pixels, and of boxes as a table, with pictures of both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentood.errors import ConfigError, MissingInput
from latentood.evaluation.comparison import NO_CLASS, Comparison, Request, Result, ScoredSplit
from latentood.evaluation.members.boxes import Objects
from latentood.evaluation.members.maps import Scale, score_maps
from latentood.evaluation.metrics import Array
from latentood.evaluation.truth import Boxes, Pixels
from latentood.files import new_file
from latentood.report import pictures, plots
from latentood.report.results import plain, unicode_name

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

ImageOf = Callable[[str, int], NDArray[Any]]
"""Gives the input of an image of a split: (C, H, W), or (H, W)."""

PICTURES = 8
"""Most pictures of a detector and split."""

_UNSAFE = re.compile(r"[^\w.=+-]+", re.ASCII)
_SUFFIX = re.compile(r"\.(png|jpe?g|bmp|gif|tiff?|webp|ppm)$", re.IGNORECASE)
_LONGEST = 150  # characters of a name; file systems take 255


def write_maps(
    comparison: Comparison,
    folder: Path | str,
    results: Sequence[Result],
    image_of: ImageOf | None = None,
) -> None:
    """Write the scores of members, and pictures; see :func:`latentood.write_maps`."""
    require_members(comparison)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if comparison.unit == "box":
            _write_table(comparison, target / "boxes.parquet")
        names = _names([f"{comparison.title(r.request)} {r.request.layer}" for r in results])
        for name, result in zip(names, results, strict=True):
            _write_detector(comparison, result, target / name, image_of)
    except OSError as error:
        raise ConfigError(
            f"maps: {target} must be a folder that can be written to, but it is not "
            f"({error.strerror or error}); choose another --maps"
        ) from error


def require_members(comparison: Comparison) -> None:
    """Check that there are scores of cells with masks, or of boxes.

    Raises:
        ConfigError: They are of images.
        MissingInput: Masks or corners are not there.
    """
    require_unit(comparison.unit)
    kept, advice = ("pixels", "masks") if comparison.unit == "cell" else ("boxes", "boxes.xyxy")
    for split in comparison.splits:
        if getattr(split.truth, kept) is None:
            raise MissingInput(
                f"maps: {split.name} must have {advice}, got none; re-run extract with unit: "
                f"{comparison.unit}"
            )


def require_unit(unit: str) -> None:
    """Check that scores are of cells or boxes.

    Raises:
        ConfigError: They are of images.
    """
    if unit not in ("cell", "box"):
        raise ConfigError(
            f"maps: scores must be of cells or boxes, got unit {unit}; add --unit cell or --unit "
            "box, and no --image-score"
        )


def _write_detector(
    comparison: Comparison, result: Result, folder: Path, image_of: ImageOf | None
) -> None:
    """Write the maps of a detector, for cells, and its pictures, of every split."""
    folder.mkdir(exist_ok=True)
    title = f"{comparison.title(result.request)} · {result.request.layer}"
    for split, stem in zip(
        comparison.splits, _names([split.name for split in comparison.splits]), strict=True
    ):
        if split.truth.pixels is not None:
            path = folder / f"{stem}.npy"
            scale = comparison.scale(result, split.name)
            _write_arrays(result.scores[split.name], split.truth.pixels, scale, path)
            _write_facts(comparison, result.request, split, scale, path)
            drawn = _map_pictures(result, split, split.truth.pixels, scale, path, title, image_of)
        else:
            drawn = _box_pictures(result, split, title, image_of)
        chosen = list(drawn)
        names = _names([f"{stem} {_SUFFIX.sub('', split.images[row])}" for row, _ in chosen])
        for name, (_, figure) in zip(names, chosen, strict=True):
            with new_file(folder / f"{name}.png", sync=False) as draft:
                plots.save(figure, draft)


def _write_arrays(scores: Array, pixels: Pixels, scale: Scale, path: Path) -> None:
    """Write the maps (N, H, W) float16 of a split, some images at a time."""
    with new_file(path) as draft:
        file = np.lib.format.open_memmap(
            draft, mode="w+", dtype=np.float16, shape=tuple(pixels.masks.shape)
        )
        start = 0
        for maps in score_maps(scores, pixels, scale):
            file[start : start + len(maps)] = maps.numpy()
            start += len(maps)
        file.flush()
        del file  # before it is renamed, which Windows refuses for a file that is mapped


def _write_facts(
    comparison: Comparison, request: Request, split: ScoredSplit, scale: Scale, path: Path
) -> None:
    """Write beside maps of whom and of what they are, and how scores follow from them."""
    facts = {
        "detector": request.detector,
        "layer": request.layer,
        "hyperparameters": request.hyperparameters,
        "split": split.name,
        "role": split.role,
        "maps": path.name,
        "axes": "image, row, column; float16, higher = more OOD",
        "score": "offset + width * map; scores beyond 65504 widths of the offset are cut off",
        "offset": scale.offset,
        "width": scale.width,
        "images": list(split.images),
        "provenance": comparison.provenance,
    }
    text = json.dumps(plain(facts), indent=2, ensure_ascii=True)
    with new_file(path.with_suffix(".json"), sync=False) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def _map_pictures(
    result: Result,
    split: ScoredSplit,
    pixels: Pixels,
    scale: Scale,
    path: Path,
    title: str,
    image_of: ImageOf | None,
) -> Iterator[tuple[int, Figure]]:
    """Draw the maps of some images, those with OOD pixels first."""
    maps = np.load(path, mmap_mode="r")
    limits = pictures.limits_of(result.scores[split.name])
    ood = np.concatenate([(part == 1).flatten(1).any(dim=1).numpy() for part in pixels.parts()])
    for row in _chosen(ood):
        mask = pixels.masks.read(row, row + 1)[0].numpy()
        image = _grey(image_of, split, row, mask.shape)
        lines = title, f"{split.name} ({split.role}): {split.images[row]}"
        yield row, pictures.map_picture(scale.undo(maps[row]), mask, limits, lines, image)


def _box_pictures(
    result: Result, split: ScoredSplit, title: str, image_of: ImageOf | None
) -> Iterator[tuple[int, Figure]]:
    """Draw the boxes of some images, those with OOD boxes or objects first."""
    boxes, truth, scores = split.truth.boxes, split.truth, result.scores[split.name]
    if boxes is None:
        return
    limits = pictures.limits_of(scores)
    ood = np.bincount(truth.image[truth.ood == 1], minlength=truth.images) > 0
    if boxes.objects is not None:
        ood |= np.array([(one.ood == 1).any() for one in boxes.objects])
    for row in _chosen(ood):
        own = slice(*np.searchsorted(truth.image, (row, row + 1)).tolist())
        objects: Objects | None = None if boxes.objects is None else boxes.objects[row]
        image = _grey(image_of, split, row)
        lines = title, f"{split.name} ({split.role}): {split.images[row]}"
        yield row, pictures.box_picture(boxes.xyxy[own], scores[own], objects, limits, lines, image)


def _grey(
    image_of: ImageOf | None, split: ScoredSplit, row: int, size: tuple[int, ...] | None = None
) -> Array | None:
    """Give an image in grey, if there are images.

    Raises:
        ConfigError: It has another size than its mask.
    """
    if image_of is None:
        return None
    image = pictures.grey(image_of(split.name, row))
    if size is not None and image.shape != size:
        raise ConfigError(
            f"maps: an image must have the size of its mask, {size}, got {image.shape} for "
            f"{split.images[row]} of {split.name}; name the pipeline that was extracted"
        )
    return image


def _chosen(ood: NDArray[np.bool_]) -> list[int]:
    """Choose the images to draw: those with something OOD first, each in order."""
    rows: list[int] = np.argsort(~ood, kind="stable")[:PICTURES].tolist()
    return rows


def _names(texts: Sequence[str]) -> list[str]:
    """Turn texts into names of files, each once."""
    names: list[str] = []
    for text in texts:
        name = base = _UNSAFE.sub("_", text).strip("._")[-_LONGEST:] or "_"
        number = 1
        while name.lower() in {one.lower() for one in names}:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names


def _write_table(comparison: Comparison, path: Path) -> None:
    """Write a row for every box, with a column for every detector × layer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    titles = [f"{comparison.title(r.request)} {r.request.layer}" for r in comparison.results]
    columns = [f"{one} ({n})" if (n := titles[:i].count(one)) else one
               for i, one in enumerate(titles)]  # fmt: skip
    number = pa.float64()
    schema = pa.schema(
        {"split": pa.dictionary(pa.int32(), pa.string()), "image": pa.string()}
        | {"number": pa.int64(), "x1": number, "y1": number, "x2": number, "y2": number}
        | {"confidence": number, "prediction": pa.int64(), "label": pa.int64()}
        | {"ood": pa.uint8()}
        | dict.fromkeys(columns, number)
    )
    with new_file(path) as draft, pq.ParquetWriter(draft, schema, compression="zstd") as table:
        for split in comparison.splits:
            if split.truth.boxes is not None:
                scores = [result.scores[split.name] for result in comparison.results]
                table.write_table(_table(schema, split, split.truth.boxes, scores))


def _table(
    schema: pa.Schema, split: ScoredSplit, boxes: Boxes, scores: Sequence[Array]
) -> pa.Table:
    import pyarrow as pa

    image = split.truth.image
    ids = [unicode_name(name) for name in split.images]
    columns = [
        pa.array([split.name] * len(image)).dictionary_encode(),
        pa.array([ids[row] for row in image], pa.string()),
        np.arange(len(image)) - np.searchsorted(image, image),
        *boxes.xyxy.T,
        boxes.confidence,
        boxes.predictions,
        pa.array(split.labels, mask=split.labels == NO_CLASS),
        split.truth.ood,
        *scores,
    ]
    return pa.table([pa.array(column) for column in columns], schema=schema)
