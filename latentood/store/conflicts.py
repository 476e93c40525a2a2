"""What may not be written into a cache that is already there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latentood.errors import FingerprintMismatch, IncompleteSplit
from latentood.latents import Key
from latentood.latents.facts import Origin, canonical
from latentood.store.documents import DOCUMENT
from latentood.store.root import Head, Root, read_root
from latentood.store.schema import SplitSpec, some
from latentood.store.splits import StoredSplit, list_splits, load_split


def refuse_other_job(
    store: Path, origin: Origin, head: Head | None, splits: Iterable[SplitSpec]
) -> None:
    """Check, without a write, that a run may write these splits into a store, if it is there."""
    if not (store / DOCUMENT).exists():
        return
    stored = read_root(store)
    refuse_other_run(store, stored, Root.of(origin, head))
    there = list_splits(store)
    for split in splits:
        if split.name in there:
            refuse_other_split(store, load_split(store, stored, split.name), split)


def refuse_other_run(store: Path, stored: Root, given: Root) -> None:
    """Check that a store was begun by the same run; the error names every field that differs."""

    def fields(root: Root) -> dict[str, Any]:
        head = None if root.head is None else root.head["digest"]
        return {**root.origin.fingerprint, "head weights": head}

    _refuse(store, "the results of another run", fields(stored), fields(given))


def refuse_other_split(store: Path, stored: StoredSplit, given: SplitSpec) -> None:
    """Check that a split can be resumed, or extended by further arrays.

    Raises:
        FingerprintMismatch: It has other rows or data, or an array made otherwise.
        IncompleteSplit: Arrays that are written together are only partly asked for.
    """
    asked = {array.key for array in given.arrays}
    shared = asked & stored.arrays.keys()

    def fields(spec: SplitSpec) -> dict[str, Any]:
        values: dict[str, Any] = {"rows": spec.rows, "block_rows": spec.block_rows}
        for array in spec.arrays:
            if array.key in shared:
                values[f"array {array.key}"] = [array.dtype, *array.tail]
                values[f"keep_bits of {array.key}"] = array.keep_bits
                values[f"the {_making(array.key)} of {array.key}"] = array.how
        return values | {f"data.{key}": value for key, value in spec.data.items()}

    there, here = fields(stored.spec), fields(given)
    if there["rows"] != here["rows"]:  # the others follow from it, or come to light later
        there, here = {"rows": there["rows"]}, {"rows": here["rows"]}
    _refuse(store, f"another split {given.name!r}", there, here)
    for group in stored.groups:
        entries = group.entries()
        lacking = [key for key in group.arrays if key not in asked]
        if lacking and len(lacking) < len(group.arrays) and not all(entries):
            full = sum(bool(entry) for entry in entries)
            raise IncompleteSplit(
                f"{store}: split {given.name!r} has {full} of {len(entries)} blocks of "
                f"{some(list(group.arrays))}, which are written together, but "
                f"{some(lacking)} {'are' if len(lacking) > 1 else 'is'} not asked for; "
                "ask for it all until that is done, or --overwrite to throw the old results away"
            )


def _making(key: Key) -> str:
    made_by = key.about.made_by
    return made_by if made_by in ("settings", "head") else "reduction"


def _refuse(store: Path, what: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    absent = object()
    differing = []
    for field in dict.fromkeys((*there, *here)):
        pair = [values.get(field, absent) for values in (there, here)]
        shown = ["absent" if value is absent else canonical(value) for value in pair]
        if shown[0] != shown[1]:
            differing.append(f"{field} is {_short(shown[0])} there but {_short(shown[1])} here")
    if differing:
        raise FingerprintMismatch(
            f"{store}: holds {what}: {'; '.join(differing)}; "
            "choose another --store, or --overwrite to throw the old results away"
        )


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}…{text[-19:]}"
