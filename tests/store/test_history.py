"""Any history of extractions, kills, additions and damage, against a model of what is there."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from latentood.errors import IncompleteSplit, StoreError, UnknownName
from latentood.store.cache import open_cache
from latentood.store.verify import discard, verify
from latentood.store.writer import open_writer
from tests.store.example import ARRAYS, HEAD, HEADER, TRAIN, block_of, whole
from tests.store.faults import Died, Disk, attached

SPLIT = replace(TRAIN, rows=7, block_rows=3, arrays=(ARRAYS[0], ARRAYS[4], ARRAYS[5], ARRAYS[8]))
BLOCKS = set(range(SPLIT.blocks))
EVERY = tuple(array.key for array in SPLIT.arrays)
ASKED = st.lists(st.sampled_from(EVERY), min_size=1, max_size=3, unique=True).map(frozenset)


class Histories(RuleBasedStateMachine):
    """The model: the groups of keys in the order they were added, each with its blocks."""

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "x.zarr"
        self.groups: list[tuple[frozenset[str], set[int]]] = []

    def teardown(self):
        if hasattr(self, "folder"):
            self.extract_everything_in_the_end()
            shutil.rmtree(self.folder)

    @rule(asked=ASKED, blocks=st.integers(0, 3))
    def extract(self, asked, blocks):
        if self.refused(asked):
            with pytest.raises(IncompleteSplit, match="are written together"):
                self.write(asked, blocks)
            return
        self.grow(asked)
        for keys, there in self.groups:
            if keys & asked:
                there.update(sorted(BLOCKS - there)[:blocks])
        self.write(asked, blocks)
        assert self.on_disk() == self.groups

    @rule(asked=ASKED, blocks=st.integers(0, 3), operation=st.integers(0, 90))
    def extract_and_be_killed(self, asked, blocks, operation):
        if self.refused(asked):
            return
        old = [(keys, set(there)) for keys, there in self.groups]
        try:
            with attached(Disk(fail_at=operation)):
                self.write(asked, blocks)
        except Died:
            pass
        self.grow(asked)
        stored = self.on_disk()
        keys = [keys for keys, _ in stored]
        assert keys in ([keys for keys, _ in old], [keys for keys, _ in self.groups])
        for (of, there), before in zip(stored, [*(b for _, b in old), set()], strict=False):
            assert before <= there <= before | (BLOCKS if of & asked else set())
        self.groups = stored

    @precondition(lambda self: any(there for _, there in self.groups))
    @rule(data=st.data())
    def damage_a_block_and_discard_it(self, data):
        there = [(g, b) for g, (_, blocks) in enumerate(self.groups) for b in sorted(blocks)]
        group, block = data.draw(st.sampled_from(there))
        key = data.draw(st.sampled_from(sorted(self.groups[group][0])))
        (array,) = [array for array in SPLIT.arrays if array.key == key]
        shard = self.path / "splits/train" / array.key.path / f"c.{block}{'.0' * len(array.tail)}"
        shard.write_bytes(shard.read_bytes()[:-1])
        problems = verify(self.path)
        assert [(p.group, p.block, p.array) for p in problems] == [(group, block, key)]
        discard(self.path, problems)
        self.groups[group][1].discard(block)
        assert self.on_disk() == self.groups

    @rule()
    def verify_finds_nothing(self):
        if not (self.path / "zarr.json").exists():
            with pytest.raises(StoreError, match="made by latentood extract"):
                verify(self.path)
            return
        # The head is written before any split, so a store without splits may still lack it.
        assert {problem.array for problem in verify(self.path)} <= (
            set() if self.groups else {"head"}
        )

    @rule()
    def read_what_is_complete(self):
        complete = [keys for keys, there in self.groups if there == BLOCKS]
        if not (self.path / "zarr.json").exists():
            return
        cache = open_cache(self.path)
        if not self.groups:
            with pytest.raises(UnknownName):
                cache["train"]
        elif self.groups[0][1] != BLOCKS:
            with pytest.raises(IncompleteSplit, match="resume with latentood extract"):
                cache["train"]
        else:
            latents = cache["train"]
            assert set(latents.keys()) - {"head"} == set().union(*complete)
            for key in set().union(*complete):
                assert latents[key].numpy().tobytes() == whole(SPLIT)[key].tobytes()

    def extract_everything_in_the_end(self):
        self.write(frozenset(EVERY), 3)
        assert verify(self.path) == []
        latents = open_cache(self.path)["train"]
        for key, values in whole(SPLIT).items():
            assert latents[key].numpy().tobytes() == values.tobytes()

    def refused(self, asked):
        return any(keys & asked and keys - asked and there != BLOCKS for keys, there in self.groups)

    def grow(self, asked):
        new = asked - frozenset().union(*(keys for keys, _ in self.groups))
        if new:
            self.groups.append((new, set()))

    def write(self, asked, blocks):
        spec = replace(SPLIT, arrays=tuple(a for a in SPLIT.arrays if a.key in asked))
        with open_writer(self.path, HEADER, head=HEAD) as store:
            for writer in store.split(spec):
                for block in writer.pending()[:blocks]:
                    writer.write(block, block_of(writer.spec, block))

    def on_disk(self):
        if not (self.path / "zarr.json").exists():
            return []
        cache = open_cache(self.path)
        stored = cache._stored.get("train")
        return [] if stored is None else [
            (frozenset(group.arrays), {b for b, entry in enumerate(group.entries()) if entry})
            for group in stored.groups
        ]  # fmt: skip


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=40,
    stateful_step_count=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
