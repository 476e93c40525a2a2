"""Compare models or checkpoints: each store is scored with the same detectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from latentood.detectors.base import Detector
from latentood.errors import ConfigError, LatentOODError
from latentood.evaluation.inputs.common import CommonSplits, common_ood, ood_roles
from latentood.evaluation.inputs.overlap import hashes_of
from latentood.evaluation.inputs.request import ALL, combinations, expand
from latentood.evaluation.pairing import ModelComparison, Scored, compare_models
from latentood.evaluation.scoring import Progress
from latentood.latents.facts import FITTED_ROLES, digest
from latentood.latents.key import Unit
from latentood.latents.splits import MemberSplits, Splits
from latentood.report.comparing import write_models
from latentood.workflows.given import splits_of
from latentood.workflows.scoring import names_and_detectors, score, unit_of

_LEAST = 2  # stores


def compare(
    stores: Sequence[Splits | Path | str],
    *,
    detectors: str | Sequence[str | Detector] = "all",
    layers: str | Sequence[str] | None = None,
    settings: Sequence[str] = (),
    unit: Unit | None = None,
    allow_overlap: bool = False,
    out: Path | str | None = None,
    device: str | None = None,
    memory: int | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ModelComparison:
    """Score models or checkpoints with the same detectors, and compare each with the first one.

    Compared are the OOD splits that all stores have under the same name and role. Where the inputs
    of a split are the same in two stores, by their digests and in the same order, differences are
    paired. Stores that differ in nothing but the seed of their masks are repeats of one
    extraction: they count as one model, whose values are means over seeds.

    Args:
        stores: Two caches or more, or their folders; the first is the reference.
        detectors: ``all``, names (a list, or separated by commas) or detectors.
        layers: Layers or globs, for detectors that can read any layer.
        settings: ``detector.hyperparameter=value`` each.
        unit: What a score is about: ``image``, ``cell`` or ``box``; default: that of the pipelines
            of the caches.
        allow_overlap: Score splits even if most of their rows also stand in another one.
        out: Folder of ``compare.csv`` and ``compare.json``; default: nothing is written.
        device: Where to compute; default: the GPU if there is one.
        memory: Bytes, or a size such as ``2GiB``, that arrays may occupy once they were read.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Returns:
        Values and differences of all detectors, and what is paired.

    Raises:
        ConfigError: There are fewer than two stores; they are of different units, have no OOD
            split or no detector in common; or the folder cannot be written to.
        StoreError: One of them is no cache, or is damaged.
        LatentOODError: The request does not fit one of them; the message names it.
    """
    if isinstance(stores, str | Path) or len(stores) < _LEAST:
        raise ConfigError(
            f"compare: must be given two stores or more, got {_counted(stores)}; for the detectors "
            "of one store use latentood score"
        )
    caches = dict(zip(_names(stores), map(splits_of, stores), strict=True))
    unit = unit or _common_unit(caches)
    common = common_ood(caches, unit)
    shown = {name: CommonSplits(splits, common) for name, splits in caches.items()}
    same = _same_detectors(shown, unit, detectors, layers=layers, settings=settings)
    scored = []
    for name, splits in shown.items():
        with _naming(name):
            comparison = score(
                splits,
                detectors=same,
                unit=unit,
                allow_overlap=allow_overlap,
                device=device,
                memory=memory,
                progress=_prefixed(name, progress),
            )
        hashes = {one.name: hashes_of(splits, one.name) for one in comparison.splits}
        seed = splits.header.fingerprint.get("seed")
        scored.append(Scored(name, comparison, hashes, seed, _repeated(splits)))
    left_out = {
        name: rest
        for name, splits in caches.items()
        if (rest := tuple(one for one in ood_roles(splits, unit) if one not in common))
    }
    compared = compare_models(scored, left_out)
    if out is not None:
        write_models(compared, out)
    return compared


def _counted(stores: Sequence[Splits | Path | str]) -> str:
    return f"{stores}" if isinstance(stores, str | Path) else f"{len(stores)}"


def _names(stores: Sequence[Splits | Path | str]) -> list[str]:
    """Name stores by their folders: by the last part where that is enough, with a number else."""
    paths = [Path(one) if isinstance(one, str | Path) else None for one in stores]
    names = ["store" if path is None else path.stem for path in paths]
    if max(Counter(names).values()) > 1:
        names = ["store" if path is None else str(path) for path in paths]
    counts = Counter(names)
    seen: Counter[str] = Counter()
    for at, name in enumerate(names):
        seen[name] += 1
        names[at] = f"{name} #{seen[name]}" if counts[name] > 1 else name
    return names


def _common_unit(caches: Mapping[str, Splits]) -> Unit:
    units = {name: unit_of(splits) for name, splits in caches.items()}
    if len(set(units.values())) > 1:
        listed = ", ".join(f"{name} {unit}" for name, unit in units.items())
        raise ConfigError(
            f"compare: stores must be of one unit, got {listed}; add --unit for one that all have"
        )
    return next(iter(units.values()))


def _same_detectors(
    caches: Mapping[str, CommonSplits],
    unit: Unit,
    detectors: str | Sequence[str | Detector],
    *,
    layers: str | Sequence[str] | None,
    settings: Sequence[str],
) -> list[Detector]:
    """Give all detectors that some store has the inputs of; the others then say what they lack."""
    names, ready = names_and_detectors(detectors)
    listed = _listed(names or ())
    chosen = dict.fromkeys(ready)
    for group in [listed] if ALL in listed else [[name] for name in listed]:
        others = set(listed) - set(group)
        own = [one for one in settings if one.partition(".")[0].strip() not in others]
        errors = []
        for name, splits in caches.items():
            try:
                with _naming(name):
                    members = MemberSplits(splits, unit)
                    wanted = expand(group, layers=layers, settings=own, splits=members).grids
                    for one, grid in wanted.items():
                        chosen |= dict.fromkeys(combinations(one, grid))
            except LatentOODError as error:
                errors.append(error)
        if len(errors) == len(caches):
            raise errors[0]
    return list(chosen)


def _listed(names: str | Sequence[str]) -> list[str]:
    parts = names.split(",") if isinstance(names, str) else names
    return [name.strip() for name in parts if name.strip()]


def _repeated(splits: Splits) -> str:
    """Identify all that decides the numbers of a cache but the seed of its masks."""
    fingerprint = splits.header.fingerprint
    if "seed" not in fingerprint:
        return ""
    data = {
        facts.role: facts.data.get("fingerprint")
        for facts in splits.splits.values()
        if facts.role in FITTED_ROLES
    }
    return digest([{**fingerprint, "seed": None}, data])


def _prefixed(name: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda what, done, total: progress(f"{name}: {what}", done, total)


@contextmanager
def _naming(store: str) -> Iterator[None]:
    """Say of which store an error is."""
    try:
        yield
    except LatentOODError as error:
        raise type(error)(f"compare: {store}: {error}") from error
