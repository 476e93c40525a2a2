"""Every damage there can be to a small store: each byte, each file, each pair of files.

Each is found by verify, and refused by a read that touches it, or is in ``WITHOUT_EFFECT``.
"""

import itertools
import os
import shutil
import zlib
from contextlib import suppress

import numpy as np
import pytest

from latentood.errors import StoreError
from latentood.latents.facts import Origin
from latentood.store.cache import open_cache
from latentood.store.schema import ArraySpec, SplitSpec
from latentood.store.verify import verify
from latentood.store.writer import open_writer

WITHOUT_EFFECT = {".lock": "it is empty, and only the process that writes uses it"}
HEAD = (np.eye(2, dtype=np.float32), np.ones(2, np.float32))
FIRST = (ArraySpec("logits", (2,), "float32"), ArraySpec("ids", (4,), "uint8"))
ADDED = (ArraySpec("mc.entropy/a", (2,), "float32"),)
SPLITS = {"id": (FIRST, (*FIRST, *ADDED)), "far": (FIRST[:1],)}


def write(path):
    with open_writer(path, Origin(fingerprint={"seed": 0}), head=HEAD) as store:
        for name, arrays in [(name, one) for name, some in SPLITS.items() for one in some]:
            for writer in store.split(SplitSpec(name, name, 3, 2, arrays, {"fingerprint": name})):
                for block in writer.pending():
                    rows = slice(*writer.bounds(block))
                    writer.write(block, {a.key: values(name, a)[rows] for a in writer.spec.arrays})
    return path


def values(split, array):
    rng = np.random.default_rng(zlib.crc32(f"{split}/{array.key}".encode()))
    return rng.integers(97, 123, (3, *array.tail)).astype(array.dtype)


def read(path, split):
    """Read all that there is about a split."""
    cache = open_cache(path)
    latents = cache[split]
    if any(array.key == "ids" for array in SPLITS[split][-1]):
        cache.ids(split)
    return cache.head, *(latents[array.key] for array in SPLITS[split][-1] if array.key != "ids")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("caches") / "x.zarr")


@pytest.fixture(scope="module")
def files(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in WITHOUT_EFFECT
    }


@pytest.fixture
def copy(path, tmp_path):
    return shutil.copytree(path, tmp_path / "x.zarr")


def undetected(copy, *names):
    """Name who does not see the damage to these files: verify, or a read of their splits."""
    blind = []
    with suppress(StoreError):
        blind += [] if verify(copy) else ["verify"]
    splits = {name.split("/")[1] for name in names if name.count("/") > 1 and name[0] == "s"}
    for split in splits or SPLITS:
        try:
            read(copy, split)
            blind.append(f"read {split}")
        except StoreError:
            continue
    return blind


def test_the_store_has_every_kind_of_file(files):
    assert len(files) == 32
    assert {name.split("/")[0] for name in files} == {"zarr.json", "head", "splits"}


def test_an_intact_store_has_no_damage(copy):
    assert undetected(copy) == ["verify", "read id", "read far"]


def test_every_flipped_byte_is_found_and_refused(copy, files):
    """One bit of each byte; without LATENTOOD_SOAK=1, which takes minutes, of one byte in 48."""
    passed = []
    step = 1 if os.environ.get("LATENTOOD_SOAK") == "1" else 48
    for number, (name, data) in enumerate(files.items()):
        for position in range(number % step, len(data), step):
            damaged = bytearray(data)
            damaged[position] ^= 1 << position % 8
            (copy / name).write_bytes(damaged)
            passed += [(name, position, who) for who in undetected(copy, name)]
        (copy / name).write_bytes(data)
    assert passed == []


@pytest.mark.parametrize("harm", ["removed", "emptied", "cut", "extended"])
def test_every_file_that_is_gone_or_has_another_length_is_found_and_refused(copy, files, harm):
    passed = []
    for name, data in files.items():
        if harm == "removed":
            (copy / name).unlink()
        else:
            (copy / name).write_bytes({"emptied": b"", "cut": data[:-1]}.get(harm, data + b"\0"))
        passed += [(name, who) for who in undetected(copy, name)]
        (copy / name).write_bytes(data)
    assert passed == []


def test_every_pair_of_files_that_changed_places_is_found_and_refused(copy, files):
    passed, pairs = [], 0
    for one, other in itertools.combinations(files, 2):
        if len(files[one]) != len(files[other]) or files[one] == files[other]:
            continue
        pairs += 1
        (copy / one).write_bytes(files[other])
        (copy / other).write_bytes(files[one])
        passed += [(one, other, who) for who in undetected(copy, one, other)]
        for name in (one, other):
            (copy / name).write_bytes(files[name])
    assert passed == []
    assert pairs == 36
