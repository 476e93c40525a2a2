"""The documentation of the format holds without latentood."""

import hashlib
import json
import re
import subprocess
import sys

import pytest
import zarr
from xxhash import xxh3_64

from latentood.store.schema import SCHEMA
from latentood.store.writer import open_writer
from tests.store.example import HEAD, HEADER, TRAIN, block_of, fill


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "cache-format.md").read_text()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("caches") / "latentood-demo/cache.zarr")


def run_the_example(page, folder):
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) == 9
    without_us = f"import sys; sys.modules['latentood'] = None\n{code}"
    command = [sys.executable, "-W", "error", "-c", without_us]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_example_reads_a_cache_with_zarr_alone(page, path):
    done = run_the_example(page, path.parents[1])
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"fit (20, 4) é/0.png {HEADER.fingerprint}\n"


def test_the_example_refuses_a_cache_that_is_not_complete(page, tmp_path):
    with open_writer(tmp_path / "latentood-demo/cache.zarr", HEADER, head=HEAD) as store:
        store.split(TRAIN)[0].write(0, block_of(TRAIN, 0))
    done = run_the_example(page, tmp_path)
    assert "AssertionError: not complete" in done.stderr


def test_the_page_names_the_schema(page):
    assert f"Schema number: **{SCHEMA}**" in page


def test_the_digest_and_the_seal_are_as_the_page_says(path):
    store = zarr.open_group(path, mode="r", zarr_format=3)
    split, root = store["splits/train"], store.attrs["latentood"]
    about = split.attrs["latentood"]
    place = {name: about[name] for name in ("data", "rows", "block_rows")}
    place |= {"split": "train", "fingerprint": root["fingerprint"], "head": root["head"]["digest"]}
    for column, array in enumerate(about["arrays"]):
        rows = split[array["key"].replace("mc.", "mc/")][8:16]
        texts = [sha256_of_json(place), "0", "1", array["key"], array["dtype"], str([*rows.shape])]
        expected = xxh3_64(b"".join(text.encode() + b"\0" for text in texts) + rows.tobytes())
        assert int(split["committed"][1, column]) == expected.intdigest()

    assert about.pop("digest") == sha256_of_json(about)


def sha256_of_json(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_tree_on_the_page_is_the_tree_on_the_disk(page, path):
    drawn = re.search(r"```\ncifar10.zarr/\n(.*?)```", page, re.DOTALL).group(1)
    names = re.findall(r"[├└]── (\S+)", drawn)
    split = next((path / "splits").glob("train"))
    there = {p.parent.relative_to(split).as_posix() for p in split.rglob("c.0*")}
    generic = {re.sub(r"((mc/)?(features|entropy))/.*", r"\1/<layer>", name) for name in there}
    generic = {re.sub(r"scores/.*", "scores/<name>", name) for name in generic}
    assert generic <= set(names)
    assert set(names) - generic == {
        "zarr.json", ".lock", "head/", "weight", "bias", "splits/", "train/", "committed.<g>",
        "dirichlet/<head>", "density/<head>", "distance/<head>", "weighted_logits/<head>",
        "heads/", "<head>.safetensors",  # of trained heads
    }  # fmt: skip
