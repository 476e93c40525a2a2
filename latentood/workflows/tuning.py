"""Choose settings of detectors, fix the choice in a file, and look once at what is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentood.detectors.base import Detector
from latentood.device import parse_memory, resolve_device
from latentood.errors import ConfigError, TrackingError, masked
from latentood.evaluation.choice.choosing import choose, command
from latentood.evaluation.choice.confirming import candidate_of, confirm, differences
from latentood.evaluation.choice.guard import require_unseen
from latentood.evaluation.choice.wish import Criterion, SearchName, Synthetic, Wish
from latentood.evaluation.comparison import Comparison
from latentood.evaluation.inputs.overlap import overlaps, require_apart
from latentood.evaluation.scoring import Progress
from latentood.latents.facts import OOD_ROLES
from latentood.latents.key import Unit
from latentood.latents.splits import Splits
from latentood.report.choices import NAME, read_choice, write_choice
from latentood.report.results import write_results
from latentood.report.tracking import track
from latentood.report.tracking_store import default_uri
from latentood.report.tracking_tuning import track_tuning
from latentood.workflows.given import NO_TRACKING, splits_of
from latentood.workflows.scoring import Files, unit_of


@dataclass(frozen=True)
class Choice:
    """Settings that were chosen, what they were chosen by, and how they do on what is reported.

    Attributes:
        document: The choice as JSON values, as ``choice.json`` has it.
        comparison: Default and chosen settings on the splits that are reported; None where the
            cache has none.
        searched: Whether it was searched for now; else the file had it.
    """

    document: Mapping[str, Any]
    comparison: Comparison | None = None
    searched: bool = True

    @property
    def best(self) -> str:
        """The detector with the best value on the tuning sets."""
        return str(self.document["best"])

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Detector → its chosen hyperparameters, and ``passes`` where not all of them are used."""
        chosen = {n: candidate_of(n, one["chosen"]) for n, one in self._detectors.items()}
        return {name: one.settings for name, one in chosen.items()}

    @property
    def detectors(self) -> dict[str, Detector]:
        """Name → the detector with its chosen hyperparameters."""
        named = self._detectors.items()
        return {name: candidate_of(name, one["chosen"]).detector for name, one in named}

    @property
    def trials(self) -> list[dict[str, Any]]:
        """All settings that were tried: their values by tuning set, and why some failed."""
        return list(self.document["trials"])

    @property
    def differences(self) -> list[dict[str, Any]]:
        """Default and chosen settings side by side on every OOD split that is reported."""
        return [] if self.comparison is None else differences(self.document, self.comparison)

    def command(self, verb: str, store: Path | str) -> str:
        """Give the command line of ``score`` or ``fit`` that uses the best detector as chosen."""
        candidate = candidate_of(self.best, self._detectors[self.best]["chosen"])
        return command(verb, candidate, str(store), self.document["request"]["unit"])

    @property
    def _detectors(self) -> Mapping[str, Any]:
        detectors: Mapping[str, Any] = self.document["detectors"]
        return detectors


def tune(
    source: Splits | Path | str,
    *,
    detectors: str | Sequence[str] = "all",
    layers: str | Sequence[str] | None = None,
    settings: Sequence[str] = (),
    passes: Sequence[int] = (),
    synthetic: Sequence[Synthetic] = (),
    hold_out_classes: int | Sequence[int] = 0,
    search: SearchName = "grid",
    trials: int = 20,
    criterion: Criterion = "auroc",
    nested: bool = False,
    seed: int = 0,
    unit: Unit | None = None,
    out: Path | str | None = None,
    overwrite: bool = False,
    allow_overlap: bool = False,
    device: str | None = None,
    memory: int | str | None = None,
    progress: Progress | None = None,
) -> Choice:
    """Choose settings on ID val rows against tuning OOD, then score them once on the test splits.

    No split of role id, near, far or mixed is opened before the choice is fixed. Tuning OOD are
    the splits of role ``tune``, and what ``synthetic`` and ``hold_out_classes`` make.

    Args:
        source: A cache, or its folder.
        detectors: ``all``, or names (a list, or separated by commas).
        layers: Layers or globs, for detectors that can read any layer; default: their own.
        settings: ``detector.hyperparameter=value,value`` each, in place of the values that the
            detector declares; with random search and Optuna also a range such as ``knn.k=5..500``.
        passes: Numbers of passes to try, for detectors that read passes.
        synthetic: Tuning sets made of features: ``gaussian``, ``uniform``, ``mixup``.
        hold_out_classes: How many ID classes, or which, detectors are fitted without, so that their
            val rows take the place of OOD: a weak proxy, since the network knows them.
        search: ``grid``, ``random`` or ``optuna``.
        trials: Settings that random search and Optuna try of each detector, the default included.
        criterion: What is averaged over the tuning sets: ``auroc``, ``fpr95_ood``, ``fpr95_id``.
        nested: Estimate how optimistic the value of the choice is, by cross-fitting.
        seed: Decides what is drawn.
        unit: What a row is; default: that of the pipeline of the cache.
        out: Folder of ``choice.json``. A choice that is there and was asked for alike is used as
            it is; without a folder nothing is written.
        overwrite: Choose anew in place of what is there.
        allow_overlap: Take splits even if most of their rows also stand in another one.
        device: Where to compute; default: the GPU if there is one.
        memory: Bytes, or a size such as ``2GiB``, that arrays may occupy once they were read.
        progress: Called with what is being done, how much of it is done, and how much there is.

    Returns:
        The choice, its trials, and the comparison on the splits that are reported.

    Raises:
        LatentOODError: The request does not fit the cache, the cache is damaged, or the folder
            holds another choice.
    """
    splits = splits_of(source)
    held = hold_out_classes if isinstance(hold_out_classes, int) else tuple(hold_out_classes)
    wish = Wish(
        detectors=_listed(detectors),
        layers=_listed(layers or ()),
        settings=tuple(settings),
        passes=tuple(passes),
        synthetic=tuple(synthetic),
        hold_out_classes=held,
        search=search,
        trials=trials,
        criterion=criterion,
        nested=nested,
        seed=seed,
        unit=unit or unit_of(splits),
    )
    if not allow_overlap:
        counted = overlaps(splits, tune=True)
        require_apart(counted, splits.splits.keys(), who="tune")
        require_unseen(counted, splits)
    options: dict[str, Any] = {
        "device": resolve_device(device or "auto"),
        "memory": parse_memory(memory) if isinstance(memory, str) else memory,
    }
    searching = None if progress is None else _prefixed("tune: ", progress)
    lock = None if out is None else Path(out) / NAME
    document = None if lock is None or overwrite else _there(lock, splits, wish)
    searched = document is None
    if document is None:
        document = choose(splits, wish, **options, progress=searching)
        if lock is not None:
            write_choice(document, lock)
    choice = Choice(document, searched=searched)
    if not any(facts.role in OOD_ROLES for facts in splits.splits.values()):
        return choice
    comparison = confirm(splits, document, unit=wish.unit, **options, progress=progress)
    return replace(choice, comparison=comparison)


def publish_choice(choice: Choice, folder: Path | str, *, tracking: str | None = None) -> Files:
    """Write the comparison of a choice, then track the search and the comparison in MLflow.

    Args:
        choice: What :func:`tune` gave, with ``out`` in this folder.
        folder: Folder of ``choice.json``, which is written where it is not there, and the results.
        tracking: MLflow store; ``none`` for no tracking; default as for ``publish``.

    Returns:
        Where it went; a failure of the tracking store is reported there.

    Raises:
        ConfigError: The folder cannot be written to.
    """
    lock = Path(folder) / NAME
    if not lock.exists():
        write_choice(choice.document, lock)
    results = {} if choice.comparison is None else write_results(choice.comparison, folder)
    files = {"choice": lock, **results}
    if tracking == NO_TRACKING:
        return Files(files)
    uri = tracking or default_uri()
    try:
        run = None
        if choice.comparison is not None:
            run = track(choice.comparison, uri=uri, results=results)
        if choice.searched:
            track_tuning(choice.document, choice.differences, lock, uri=uri, comparison=run)
    except TrackingError as error:
        return Files(files, tracking_error=str(error))
    return Files(files, tracking=masked(uri))


def choice_folder(store: Path | str, unit: Unit | None = None) -> Path:
    """Give the folder beside a cache in which its choice lies unless another is named."""
    path = Path(store)
    return path.with_name("-".join([path.stem, "tuned", *([unit] if unit else [])]))


def _prefixed(prefix: str, progress: Progress) -> Progress:
    return lambda what, done, total: progress(prefix + what, done, total)


def _listed(names: str | Sequence[str]) -> tuple[str, ...]:
    parts = names.split(",") if isinstance(names, str) else names
    return tuple(part.strip() for part in parts if part.strip())


def _there(lock: Path, splits: Splits, wish: Wish) -> dict[str, Any] | None:
    """Give the choice of a file, if there is one and it answers the same request.

    Raises:
        StoreError: The file was edited, or holds something else.
        ConfigError: It answers another request, or is of another cache.
    """
    if not lock.exists():
        return None
    document = read_choice(lock)
    asked = {"cache": splits.header.digest} | wish.as_json()
    was = {"cache": document["cache"]["digest"]} | document["request"]
    for name, value in asked.items():
        if was.get(name) != value:
            raise ConfigError(
                f"tune: {lock} holds a choice with {name} {was.get(name)!r}, but {value!r} was "
                "asked for; add --overwrite to choose anew, or name another --out"
            )
    return document
