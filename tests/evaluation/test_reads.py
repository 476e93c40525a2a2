"""One read: of the fit split for all statistics, of every other split for all scores."""

import pytest
import torch

from latentood.detectors import fitted as fitting
from latentood.detectors.registry import DETECTORS, detector
from latentood.evaluation.scoring import gather, score_all
from latentood.latents import Latents
from latentood.latents.facts import SplitFacts
from latentood.latents.rows import Budget, Kept
from latentood.latents.splits import SplitsInMemory
from latentood.testing.blobs import make_blobs

CHUNK = 64
ROLES = {"train": "fit", "val": "val", "id": "id", "far": "far"}


class Watched:
    """Rows on a disk that count how often each is read."""

    def __init__(self, values):
        self.values, self.shape = values, tuple(values.shape)
        self.times = torch.zeros(len(values), dtype=torch.int64)

    def read(self, start, stop):
        self.times[start:stop] += 1
        return self.values[start:stop].clone()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(Latents.chunks, "__defaults__", (CHUNK,))
    monkeypatch.setattr(fitting, "CHUNK_ROWS", CHUNK)
    monkeypatch.setattr(Kept, "_MOST_ROWS", CHUNK)
    monkeypatch.setattr(Kept, "_ALIGNMENT", CHUNK)


def watched():
    """A cache of blobs on a disk that counts: the splits, and split → key → rows."""
    blobs = make_blobs(rows=240).rectified()
    arrays = {"train": blobs.train, "val": blobs.id, "id": blobs.id, "far": blobs.far}
    disk = {
        name: {k: Watched(v.tensor) for k, v in split.latents()._rows.items()}
        for name, split in arrays.items()
    }
    splits = SplitsInMemory(
        {
            name: Latents.from_rows(rows, head=arrays[name].head, name=name, origin=name)
            for name, rows in disk.items()
        },
        {name: SplitFacts(role) for name, role in ROLES.items()},
    )
    return splits, disk


EVERY = [name for name in DETECTORS.built_in if name != "neglabel"]
"""All detectors that need no file."""


def everything():
    return [detector(name) for name in EVERY]


def reads(rows):
    return {key: set(array.times.tolist()) for key, array in rows.items() if array.times.any()}


def test_all_statistics_come_from_one_read_and_those_that_wait_from_one_more():
    splits, disk = watched()
    gather(splits["train"].within(Budget(0)), everything())
    counts = reads(disk["train"])
    assert len(counts) >= 6, "the features, logits, labels and passes are asked for"
    waiting = {"features/penultimate", "logits"}  # vim measures residuals, openmax its tails
    assert {key for key, times in counts.items() if times != {1}} <= waiting
    assert all(times <= {1, 2} for times in counts.values())


def test_with_memory_for_them_all_arrays_of_the_fit_split_are_read_once():
    splits, disk = watched()
    comparison = score_all(splits, everything(), memory=1 << 30)
    assert comparison.failed == ()
    for split in ("train", "val"):
        assert all(times == {1} for times in reads(disk[split]).values()), split
    assert comparison.provenance["memory"]["budget"] == 1 << 30
    assert comparison.provenance["memory"]["kept"] > 0


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_scoring_reads_every_split_once_whatever_the_memory(memory):
    splits, disk = watched()
    score_all(splits, everything(), memory=memory)
    for split in ("id", "far"):
        assert all(times == {1} for times in reads(disk[split]).values()), split


def test_a_shared_read_grows_with_no_detector():
    splits, disk = watched()
    grid = [detector("mahalanobis", ridge=ridge) for ridge in (1e-6, 1e-3, 0.1)]
    score_all(splits, [*grid, detector("rmd"), detector("ssd")], memory=0)
    assert reads(disk["train"])["features/penultimate"] == {1}


def test_memory_changes_no_bit_of_any_score_or_state():
    comparisons = [
        score_all(watched()[0], everything(), memory=memory) for memory in (0, 9000, 1 << 30)
    ]
    for results in zip(*(one.results for one in comparisons), strict=True):
        for split in ("id", "far"):
            first, *others = (torch.from_numpy(result.scores[split]) for result in results)
            assert all(torch.equal(first, other) for other in others), results[0].request
    assert [result.request.detector for result in comparisons[0].results] == EVERY
    states = [
        fitting.fit(detector("vim"), watched()[0]["train"].within(Budget(limit))).state
        for limit in (0, 1 << 30)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_was_kept_is_let_go_before_scoring(monkeypatch):
    budgets, used = [], []

    class Spied(Budget):
        def __init__(self, limit):
            super().__init__(limit)
            budgets.append(self)

    monkeypatch.setattr("latentood.evaluation.scoring.Budget", Spied)
    score_all(
        watched()[0],
        [detector("mahalanobis")],
        memory=1 << 30,
        progress=lambda what, done, total: used.append((what, budgets[0].used)),
    )
    assert used[0][0] == "fit"
    assert used[0][1] > 0
    assert {size for what, size in used if what != "fit"} == {0}
