"""Verify finds all damage, and discard makes extract repair exactly that."""

import shutil
from dataclasses import replace

import pytest

from latentood.errors import StoreError, StoreLocked
from latentood.store.cache import open_cache
from latentood.store.documents import group_document, write_document
from latentood.store.verify import Problem, discard, verify
from latentood.store.writer import open_writer
from tests.store import example
from tests.store.example import ARRAYS, HEAD, HEADER, block_of, tree

TRAIN = replace(example.TRAIN, arrays=(*ARRAYS[:2], ARRAYS[6], ARRAYS[8]))
FAR = replace(example.FAR, block_rows=4)

HARMS = {
    "flip": lambda data: (
        data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 1]) + data[len(data) // 3 + 1 :]
    ),
    "truncate": lambda data: data[:-1],
    "empty": lambda data: b"",
    "delete": None,
}


def fill(path):
    return example.fill(path, (FAR, TRAIN))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("caches") / "x.zarr")


@pytest.fixture
def copy(path, tmp_path):
    return shutil.copytree(path, tmp_path / "x.zarr")


def harm(file, how):
    if HARMS[how] is None:
        file.unlink()
    else:
        file.write_bytes(HARMS[how](file.read_bytes()))


def test_an_intact_cache_has_no_problem_and_progress_is_told(path):
    calls = []
    assert verify(path, progress=lambda done, total: calls.append((done, total))) == []
    assert calls == [(done, 5) for done in range(1, 6)]


def test_blocks_that_were_never_committed_are_no_damage(tmp_path):
    with open_writer(tmp_path / "x", HEADER, head=HEAD) as store:
        store.split(TRAIN)[0].write(1, block_of(TRAIN, 1))
    assert verify(tmp_path / "x") == []


def damageable(expected):
    """Every file but the lock, which is empty and says nothing."""
    return [name for name, data in expected.items() if data is not None and name != ".lock"]


@pytest.mark.parametrize("how", list(HARMS))
def test_damage_to_any_file_is_found_and_named(copy, how):
    for name, data in [(name, tree(copy)[name]) for name in damageable(tree(copy))]:
        harm(copy / name, how)
        parts = name.split("/")
        if parts[:-1] in ([], ["splits"], ["splits", "train"], ["splits", "textures"]):
            with pytest.raises(StoreError, match=parts[1] if len(parts) > 1 else "x.zarr"):
                verify(copy)
        else:
            check_names(verify(copy), parts)
        (copy / name).write_bytes(data)
    assert verify(copy) == []


@pytest.mark.parametrize("how", list(HARMS))
@pytest.mark.parametrize("first", range(4))
def test_discard_and_extract_repair_exactly_what_is_damaged(copy, how, first):
    expected = tree(copy)
    inner = [name for name in damageable(expected) if name.count("/") > 2 or name[0] == "h"]
    for name in inner[first::9]:
        harm(copy / name, how)
    problems = verify(copy)
    discard(copy, problems)
    with open_writer(copy, HEADER, head=HEAD) as store:
        pending = {(s.name, b) for s in (TRAIN, FAR) for b in store.split(s)[0].pending()}
    assert pending == {(p.split, p.block) for p in problems if p.block is not None}
    assert len(pending) < 5, "some blocks must be left alone"
    assert tree(fill(copy)) == expected


def check_names(problems, parts):
    assert len(problems) == 1, (parts, problems)
    (problem,) = problems
    if parts[0] == "head":
        assert (problem.split, problem.block, problem.array) == (None, None, "head")
        return
    assert problem.split == parts[1]
    if parts[-1] == "zarr.json":
        assert (problem.block, problem.array) == (None, "/".join(parts[2:-1]))
    else:
        assert problem.block == int(parts[-1].split(".")[1])
        assert problem.array == "/".join(parts[2:-1]).replace("mc/", "mc.")


@pytest.mark.parametrize(
    ("one", "other", "blocks"),
    [
        ("train/logits/c.0.0", "train/logits/c.1.0", [("train", 0), ("train", 1)]),
        ("train/logits/c.0.0", "textures/logits/c.0.0", [("textures", 0), ("train", 0)]),
        ("train/labels/c.0", "train/scores/odin/c.0", [("train", 0), ("train", 0)]),
        ("train/committed/c.0.0", "train/committed/c.1.0", [("train", 0)] * 4 + [("train", 1)] * 4),
    ],
)
def test_swapped_files_are_found(copy, one, other, blocks):
    files = [copy / "splits" / name for name in (one, other)]
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)
    problems = verify(copy)
    assert [(problem.split, problem.block) for problem in problems] == blocks
    before = tree(copy)
    discard(copy, problems)
    assert tree(fill(copy)) != before
    assert verify(copy) == []


def test_swapped_arrays_are_found_in_every_block(copy):
    features = copy / "splits/train"
    (features / "labels").rename(features / "was_labels")
    shutil.copytree(features / "scores/odin", features / "labels")
    problems = verify(copy)
    assert {problem.block for problem in problems} == {None, 0, 1, 2}


def test_an_older_copy_of_a_block_is_found(copy, path):
    """Every checksum of the old file is right, but it is not what the log says."""
    old = copy / "splits/train/scores/odin/c.2"
    other = fill(copy.parent / "other.zarr") / "splits/train/scores/odin/c.1"
    shutil.copy(other, old)
    (problem,) = verify(copy)
    assert (problem.split, problem.block, problem.array) == ("train", 2, "scores/odin")
    assert problem.what == "its rows are not those that were committed in this place"


def test_discard_touches_nothing_but_the_log(copy):
    before = tree(copy)
    discard(copy, [Problem("train", 1, "logits", "because")])
    after = tree(copy)
    assert {name for name in before if before[name] != after[name]} == {
        "splits/train/committed/c.1.0"
    }
    assert open_cache(copy).splits["train"].committed == (0, 2)


def test_discard_needs_the_lock(copy):
    with open_writer(copy, HEADER, head=HEAD), pytest.raises(StoreLocked):
        discard(copy, [Problem("train", 1, "logits", "because")])


def test_a_foreign_folder_is_neither_verified_nor_touched(tmp_path):
    write_document(tmp_path, group_document())
    before = tree(tmp_path)
    for use in (lambda: verify(tmp_path), lambda: discard(tmp_path, [])):
        with pytest.raises(StoreError, match="a cache must be a folder made by latentood"):
            use()
    assert tree(tmp_path) == before


def test_problem_is_a_sentence():
    assert str(Problem("train", 3, "logits", "gone")) == "split 'train', block 3, logits: gone"
    assert str(Problem(None, None, "head", "gone")) == "head: gone"
