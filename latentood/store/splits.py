"""One split on disk: its documents and its array groups."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from latentood import files
from latentood.errors import LatentOODError, StoreError
from latentood.latents.key import KINDS, PREFIXES, Key
from latentood.store.disk import SPLITS, foreign_file, require_folder
from latentood.store.documents import (
    DOCUMENT,
    group_document,
    log_name,
    read_attributes,
    same_document,
    split_documents,
    write_document,
)
from latentood.store.groups import StoredGroup
from latentood.store.root import Root
from latentood.store.schema import ArraySpec, SplitSpec, check_name, some

_FOLDERS = {name.split(".")[0] for name in (*KINDS, *PREFIXES.values()) if name}
"""The first parts of the paths of arrays."""


class StoredSplit:
    """A split in its folder, ``splits/<name>`` of a store.

    Raises:
        StoreError: A link is in place of one of its folders.
    """

    def __init__(self, folder: Path, spec: SplitSpec, root: Root) -> None:
        self.folder = folder
        self.spec = spec
        self.root = root
        self.documents = split_documents(spec, root.schema)
        for path in self.documents:
            require_folder(folder / path)
        place = root.place(spec)
        self.groups = [
            StoredGroup(folder, spec, number, self.documents, place)
            for number in range(spec.groups)
        ]
        self.arrays = {key: array for group in self.groups for key, array in group.arrays.items()}

    def create(self) -> None:
        """Put the split in place, all blocks uncommitted."""
        with files.new_folder(self.folder) as draft:
            fresh = StoredSplit(draft, self.spec, self.root)
            fresh.mend_documents()
            for group in fresh.groups:
                group.begin()

    def grow(self, arrays: Sequence[ArraySpec]) -> StoredSplit:
        """Add a group of arrays, all its blocks uncommitted.

        Until the last step, which replaces the document of the split, the new folders belong to
        nothing, so that :meth:`sweep` throws away what a killed run leaves of them.
        """
        grown = StoredSplit(self.folder, self.spec.grown(arrays), self.root)
        grown._mend([path for path in grown.documents if path not in self.documents])
        grown.groups[-1].begin()
        grown._mend(["."])
        return grown

    def remake(self, arrays: Sequence[ArraySpec]) -> StoredSplit:
        """Let arrays that are there, made otherwise, be made anew as given: nothing of them stays.

        Their blocks are withdrawn before the split says how they are made now, so that a reader
        never takes old numbers for new ones.

        Raises:
            StoreError: They were written together with arrays that are not given.
        """
        given = {array.key: array for array in arrays}
        changed: dict[Key, str] = {}
        for group in self.groups:
            pairs = [(one, given[one.key]) for one in group.spec.arrays if one.key in given]
            if all(old.how == new.how for old, new in pairs):
                continue
            if group.arrays.keys() != given.keys():
                raise StoreError(
                    f"{self.folder}: {some(list(group.arrays))} were written together and can only "
                    f"be replaced together, got {some(list(given))}; choose another name for these"
                )
            for block in range(self.spec.blocks):
                group.withdraw(block)
            changed |= {new.key: new.how for _, new in pairs}
        remade = tuple(replace(one, how=changed.get(one.key, one.how)) for one in self.spec.arrays)
        stored = StoredSplit(self.folder, replace(self.spec, arrays=remade), self.root)
        stored._mend(["."] if changed else [])
        return stored

    def sweep(self) -> None:
        """Delete the folders of arrays that a killed run did not finish adding."""
        for path, document in self.documents.items():
            if document["node_type"] != "group":
                continue
            for entry in os.scandir(self.folder / path):
                inside = Path(entry.path).relative_to(self.folder)
                if (
                    entry.is_dir(follow_symlinks=False)
                    and inside.as_posix() not in self.documents
                    and self._is_leftover(inside)
                ):
                    files.remove(Path(entry.path))

    def _is_leftover(self, path: Path) -> bool:
        """Test whether a killed :meth:`grow` can have left a folder: never with rows in it."""
        folder = self.folder / path
        if foreign_file(folder) is not None:
            return False
        if path.as_posix() == log_name(self.spec.groups):
            return True
        names = {name for _, _, names in os.walk(folder) for name in names}
        of_array = path.parts[0] in _FOLDERS
        return of_array and all(name.startswith(DOCUMENT) for name in names)

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


def load_split(store: Path, root: Root, name: str) -> StoredSplit:
    """Read the documents of a split; raises StoreError if they are damaged, or links."""
    folder = store / SPLITS / name
    require_folder(store / SPLITS)
    require_folder(folder)
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
    return StoredSplit(folder, spec, root)


def list_splits(store: Path) -> list[str]:
    """Name the splits of a store that are finished being created.

    Raises:
        StoreError: They lie behind a link, or their folder is not as latentood wrote it.
    """
    folder = store / SPLITS
    require_folder(folder)
    if not folder.is_dir():
        return []
    names = [
        entry.name
        for entry in os.scandir(folder)
        if not entry.is_file(follow_symlinks=False)
        and not entry.name.startswith(".")  # left by a file browser
        and not entry.name.endswith(files.UNFINISHED)
    ]
    if names and not same_document(folder, group_document()):
        raise StoreError(
            f"{folder / DOCUMENT}: must be as latentood wrote it, but is missing or was changed; "
            "run latentood extract to write it again"
        )
    return sorted(names)
