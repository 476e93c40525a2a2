"""Write a comparison as one page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from latentood.device import parse_memory, resolve_device
from latentood.errors import ConfigError
from latentood.latents.key import Unit
from latentood.latents.splits import MemberSplits
from latentood.report.html import Document, Extras, read_document, write_report
from latentood.report.results import write_results
from latentood.store.cache import Cache, open_cache
from latentood.workflows.given import PipelineSource
from latentood.workflows.images import Images
from latentood.workflows.report_inputs import inputs_of
from latentood.workflows.scoring import results_folder, score

_RESULTS = "results.json"
_CACHE = "zarr.json"


def report(
    source: Path | str,
    out: Path | str = "report.html",
    *,
    store: Path | str | None = None,
    images: PipelineSource | None = None,
    device: str | None = None,
    memory: int | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Write a comparison as one HTML file, which needs no network and no other file.

    Results say how well detectors separate; their cache adds the features in two dimensions, the
    calibration of the predictions and, where the passes were kept one by one, how many are enough.
    The results of a cache are those that lie beside it (``CACHE-results``); where there are none,
    all detectors are scored and the results are written there, but not tracked.

    Args:
        source: A results folder, or a cache.
        out: The file to write; one that is there is replaced.
        store: The cache of a results folder.
        images: The pipeline that was extracted, or its file: its data sets give the images.
        device: Where to compute; default: the GPU if there is one.
        memory: Bytes, or a size such as ``2GiB``, that arrays may occupy once they were read.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Returns:
        The file.

    Raises:
        ConfigError: There are no results, they are of a newer format or cannot be read, their
            scores are of another comparison, the cache or the pipeline is another one, or the
            file cannot be written.
        LatentOODError: The cache is damaged, or cannot be scored.
    """
    limit = parse_memory(memory) if isinstance(memory, str) else memory
    folder, cache = _opened(Path(source), store)
    if not (folder / _RESULTS).exists():
        comparison = score(cache, device=device, memory=limit, progress=progress)
        write_results(comparison, folder)
    document = read_document(folder)
    extras = Extras()
    if cache is not None:
        _require_same(document, cache)
        extras = inputs_of(
            document,
            MemberSplits(cache, _unit(document)),
            device=resolve_device(device or "auto"),
            memory=limit,
            progress=progress,
        )
    if images is not None:
        extras = replace(extras, image_of=_images(document, cache, images))
    return write_report(document, out, extras)


def _opened(source: Path, store: Path | str | None) -> tuple[Path, Cache | None]:
    """Give the results folder, and the cache if there is one."""
    if (source / _CACHE).is_file() and not (source / _RESULTS).is_file():
        if store is not None:
            raise ConfigError(
                f"report: a cache must be given once, got {source} and --store {store}; name a "
                "results folder, or leave --store out"
            )
        return results_folder(source), open_cache(source)
    if not (source / _RESULTS).is_file():
        raise ConfigError(
            f"report: must be given a results folder or a cache, but {source} has neither "
            f"{_RESULTS} nor {_CACHE}; run latentood score first, or name the folder it wrote"
        )
    return source, None if store is None else open_cache(store)


def _require_same(document: Document, cache: Cache) -> None:
    """Check that the results are of this cache, as it is now."""
    own = document.provenance.get("digest")
    splits = MemberSplits(cache, _unit(document))
    rows = {name: len(splits[name]) for name in document.roles if name in splits.splits}
    scored = {name: len(document.scores.rows[name].ids) for name in document.roles}
    if own != cache.header.digest or rows != scored:
        raise ConfigError(
            f"report: the results in {document.folder} must be of the cache {cache.path}, but are "
            f"of another one; run latentood score {cache.path} again, or name the right --store"
        )


def _images(document: Document, cache: Cache | None, pipeline: PipelineSource) -> Images:
    if document.unit != "image":
        raise ConfigError(
            f"report: images must be of a comparison of images, got one of {document.unit}; "
            "latentood score --maps draws cells and boxes in their images"
        )
    facts = document.provenance["splits"]
    return Images.of(
        pipeline,
        {
            name: (
                document.scores.rows[name].ids if cache is None else cache.ids(name),
                facts[name]["data"],
            )
            for name in document.roles
        },
    )


def _unit(document: Document) -> Unit:
    unit: Unit = document.facts.get("unit", "image")
    return unit
