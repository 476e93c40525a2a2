"""One split on disk: its documents and its array groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latentood import files
from latentood.errors import LatentOODError, StoreError
from latentood.store.documents import (
    read_attributes,
    same_document,
    split_documents,
    write_document,
)
from latentood.store.groups import StoredGroup
from latentood.store.schema import ArraySpec, SplitSpec, check_name

SPLITS = "splits"


class StoredSplit:
    """A split in its folder, ``splits/<name>`` of a store."""

    def __init__(self, folder: Path, spec: SplitSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.documents = split_documents(spec)
        self.groups = [
            StoredGroup(folder, spec, number, self.documents) for number in range(spec.groups)
        ]
        self.arrays = {key: array for group in self.groups for key, array in group.arrays.items()}

    def create(self) -> None:
        """Put the split in place, all blocks uncommitted."""
        with files.new_folder(self.folder) as draft:
            fresh = StoredSplit(draft, self.spec)
            fresh.mend_documents()
            for group in fresh.groups:
                group.begin()

    def grow(self, arrays: Sequence[ArraySpec]) -> StoredSplit:
        """Add a group of arrays, all its blocks uncommitted.

        Until the last step, which replaces the document of the split, the new folders belong to
        nothing, so that :meth:`sweep` throws away what a killed run leaves of them.
        """
        grown = StoredSplit(self.folder, self.spec.grown(arrays))
        grown._mend([path for path in grown.documents if path not in self.documents])
        grown.groups[-1].begin()
        grown._mend(["."])
        return grown

    def sweep(self) -> None:
        """Delete the folders of arrays that a killed run did not finish adding."""
        for path, document in self.documents.items():
            if document["node_type"] != "group":
                continue
            for entry in (self.folder / path).iterdir():
                known = entry.relative_to(self.folder).as_posix() in self.documents
                if not known and not entry.name.startswith(".") and entry.is_dir():
                    files.remove(entry)

    def damaged_documents(self) -> list[str]:
        """Name the folders within the split whose document is missing or was changed."""
        return [
            path
            for path, document in self.documents.items()
            if not same_document(self.folder / path, document)
        ]

    def mend_documents(self) -> None:
        """Write what is missing or was changed: every document follows from the split."""
        self._mend(self.damaged_documents())

    def _mend(self, paths: Sequence[str]) -> None:
        for path in paths:
            folder = self.folder / path
            if not folder.is_dir():
                folder.mkdir()
                files.sync_folder(folder.parent)
            write_document(folder, self.documents[path])


def load_split(store: Path, name: str) -> StoredSplit:
    """Read the documents of a split; raises StoreError if its metadata are damaged."""
    folder = store / SPLITS / name
    try:
        check_name("split", name)
        spec = SplitSpec.from_json(read_attributes(folder) or {})
        if spec.name != name:
            raise StoreError(f"they are those of split {spec.name!r}")
    except (LatentOODError, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{store}: the metadata of split {name!r} must be as latentood wrote them, but "
            f"cannot be used ({error}); delete {folder} and extract again"
        ) from error
    return StoredSplit(folder, spec)


def list_splits(store: Path) -> list[str]:
    """Name the splits of a store that are finished being created."""
    folder = store / SPLITS
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir()
        and not entry.name.startswith(".")  # left by a file browser
        and not entry.name.endswith(files.UNFINISHED)
    )
