import torch

from latentood.detectors.banks import bank_state
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector, registry
from latentood.detectors.statistics.bank import Bank, drawn, own_copies
from latentood.detectors.statistics.classes import ClassMoments
from latentood.detectors.statistics.moments import Moments
from latentood.latents import LABELS, Latents

KEY = "features/penultimate"


class Counting(Latents):
    """Latents that count how often a row of each array is read."""

    def read(self, key, start, stop):
        self.reads = getattr(self, "reads", {})
        self.reads[key] = self.reads.get(key, 0) + stop - start
        return super().read(key, start, stop)


def counting(latents: Latents) -> Counting:
    return Counting.from_rows(latents._rows, head=latents._head, name=latents.name)


def test_all_detectors_together_read_each_array_once_and_vim_once_more(blobs):
    train = counting(blobs.train.latents())
    chosen = [detector(name) for name in registry() if registry()[name].family != "logits"]
    train.gather([s for d in chosen for s in d.statistics()])
    rows = len(train)
    once = train.reads[KEY]
    # vim's residuals take the second read; a row more for each kind of bank, to learn its type
    assert 2 * rows < once <= 2 * rows + 5
    assert train.reads["mc.entropy/penultimate"] == rows + 1
    for name in ("mahalanobis", "rmd", "vim", "knn", "nnguide", "cfood", "she", "fdbd", "pnml"):
        fit(detector(name), train)
    assert train.reads[KEY] == once


def test_class_moments_share_the_scatter_of_moments(blobs):
    train = blobs.train.latents()
    train.gather((Moments(KEY), ClassMoments(KEY)))
    alone = blobs.train.latents().compute(ClassMoments(KEY))
    together = train.compute(ClassMoments(KEY))
    assert torch.equal(alone.tied.matrix, together.tied.matrix)


def test_an_eigendecomposition_is_computed_once_for_all(blobs, monkeypatch):
    calls = []
    original = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda m: (calls.append(1), original(m))[1])
    narrow = blobs.train.latents()[KEY]
    twice = torch.cat([narrow, narrow], dim=1)  # of half the rank, so that eigenvalues matter
    train = Latents(features={"penultimate": twice}, labels=blobs.train.labels)
    for d in (detector("mahalanobis"), detector("mahalanobis", ridge=0.1), detector("rmd")):
        fit(d, train)
    assert len(calls) == 2  # tied and background


def test_the_result_does_not_depend_on_who_asked_first(blobs):
    first, second = blobs.train.latents(), blobs.train.latents()
    fit(detector("vim"), first)
    a, b = (fit(detector("rmd"), train).state for train in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_drawn_rows_are_ascending_without_repeats_and_never_none():
    assert drawn(10, 1.0, 0).tolist() == list(range(10))
    part = drawn(1000, 0.1, 3)
    assert len(part) == 100
    assert torch.equal(part, part.unique())
    assert len(drawn(10, 0.001, 0)) == 1


def test_a_bank_crosses_blocks_and_knows_where_its_rows_were():
    rows = torch.arange(9000, dtype=torch.float32).unsqueeze(1)
    train = Latents(features={"penultimate": rows})
    bank = train.take((KEY,), 1000, 9000).compute(Bank(KEY, 0.3, 0))
    assert len(bank.rows) == 2400
    assert torch.equal(bank.rows[:, 0].long(), bank.positions)
    assert bank.positions.min() >= 1000


def test_own_rows_are_found_by_origin_and_place():
    train = Latents(features={"penultimate": torch.randn(10, 2)})
    bank = train.compute(Bank(KEY, 0.5, 0))
    state = bank_state(bank)
    own = own_copies(state, train.take((KEY,), 2, 9))
    for row, places in zip(range(2, 9), own.among(slice(None)), strict=True):
        assert bank.positions[places].tolist() == [row] * (row in bank.positions.tolist())
    stranger = Latents(features={"penultimate": train[KEY]})
    assert own_copies(state, stranger) is None


def test_class_means_stream_over_blocks_in_any_class_order():
    labels = torch.arange(9000) // 3000  # sorted by class, as a folder of images is
    rows = torch.randn(9000, 3, dtype=torch.float64) + 5.0 * labels.unsqueeze(1)
    train = Latents(features={"penultimate": rows}, labels=labels)
    classes = train.compute(ClassMoments(KEY))
    means = torch.stack([rows[labels == c].mean(dim=0) for c in range(3)])
    torch.testing.assert_close(classes.means, means, rtol=1e-12, atol=1e-12)
    centred = rows - means[train[LABELS]]
    torch.testing.assert_close(
        classes.tied.matrix, centred.T @ centred / 9000, rtol=1e-10, atol=1e-10
    )
