"""Approximate indexes: what they propose is measured, and what they answer is exact of that."""

import pytest
import torch

from latentood.detectors.fitted import fit, load
from latentood.detectors.registry import detector
from latentood.errors import DetectorError, MissingInput
from latentood.latents import Latents
from latentood.stats.neighbours.copies import Copies
from latentood.stats.neighbours.engines import possible_engines
from latentood.stats.neighbours.search import Neighbours

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bank():
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 16, generator=draw) * 4
    return centres[torch.arange(4000) % 40] + torch.randn(4000, 16, generator=draw)


def true_recall(bank, search, k, sample):
    """Share of the k nearest rows found, by brute force over the whole bank."""
    distances = torch.cdist(bank[sample].double(), bank.double())
    distances[torch.arange(len(sample)), sample] = torch.inf
    truth = distances.topk(k, largest=False).indices
    queries = bank[sample].double() - search._centre
    own = Copies.of(torch.arange(len(bank)), sample)
    candidates = search._candidates(queries.float(), k, own)[1]
    hits = [len(set(a) & set(b)) for a, b in zip(truth.tolist(), candidates.tolist(), strict=True)]
    return sum(hits) / truth.numel()


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
@pytest.mark.parametrize("effort", [1, 8])
def test_recall_is_the_share_of_true_neighbours_found(bank, index, effort):
    search = Neighbours(bank, index=index, effort=effort)
    sample = torch.randperm(4000, generator=torch.Generator().manual_seed(3))[:256]
    expected = true_recall(bank, search, 10, sample)
    assert search.recall(10, seed=3) == pytest.approx(expected)


def test_more_effort_finds_more_and_all_of_it_is_exact(bank):
    recalls = [Neighbours(bank, index="ivf", effort=e).recall(10) for e in (1, 4, 1000)]
    assert recalls[0] < recalls[1] <= recalls[2] == 1.0
    rows = bank[:300] + 0.1
    exact = Neighbours(bank).kth_distance(rows, 10)
    everywhere = Neighbours(bank, index="ivf", effort=1000).kth_distance(rows, 10)
    torch.testing.assert_close(everywhere, exact, rtol=1e-12, atol=0)
    rough = Neighbours(bank, index="ivf", effort=1).kth_distance(rows, 10)
    assert bool((rough >= exact - 1e-12).all()), "what is missed can only be nearer"
    assert not torch.equal(rough, exact)


def test_an_exact_index_finds_all(bank):
    assert Neighbours(bank).recall(10) == 1.0
    assert Neighbours(bank, engine="torch").recall(10) == 1.0


def test_rows_with_too_few_proposals_are_searched_exactly(bank):
    search = Neighbours(bank, index="ivf", effort=1)
    far = search.kth_distance(bank[:20], 3999)
    torch.testing.assert_close(
        far, Neighbours(bank).kth_distance(bank[:20], 3999), rtol=1e-12, atol=0
    )


def test_a_proposal_that_is_none_is_infinitely_far(bank):
    near, index = Neighbours(bank, index="ivf", effort=1)._index.search(bank[:20].float(), 400)
    assert bool((index < 0).any())
    assert torch.equal(near.isinf(), index < 0)


@pytest.mark.parametrize("index", ["ivf", "hnsw"])
def test_two_indexes_over_the_same_rows_give_the_same_bits(bank, index):
    first, again = (Neighbours(bank, index=index, effort=2) for _ in range(2))
    assert torch.equal(first.kth_distance(bank[:500], 10), again.kth_distance(bank[:500], 10))


@pytest.mark.parametrize("name", ["knn", "lar_knn"])
def test_a_detector_tells_its_recall_and_default_ones_are_exact(bank, name, tmp_path):
    layer = {"features": {"penultimate": bank}, "mc_entropy": {"penultimate": bank}}
    train = Latents(**layer)
    exact, rough = (
        fit(detector(name, k=10, index=index, effort=1), train) for index in ("flat", "ivf")
    )
    assert "recall" not in exact.provenance["diagnostics"]
    assert 0.2 < rough.provenance["diagnostics"]["recall"] < 1.0
    rough.save(tmp_path / "a")
    rows = Latents(**{kind: {"penultimate": bank[:100] + 1} for kind in layer})
    assert torch.equal(load(tmp_path / "a").score(rows), rough.score(rows))


def test_torch_has_no_approximate_index():
    with pytest.raises(MissingInput) as caught:
        possible_engines("torch", CPU, "ivf")
    assert str(caught.value) == (
        "neighbours: engine must be 'auto' or 'faiss' for an index of kind 'ivf', got 'torch'; "
        "choose index=flat, which is exact"
    )
    with pytest.raises(DetectorError, match="index must be one of"):
        detector("knn", index="lsh")


def test_without_faiss_an_approximate_index_says_what_to_install(no_faiss):
    with pytest.raises(MissingInput) as caught:
        possible_engines("auto", CPU, "hnsw")
    assert str(caught.value) == (
        "neighbours: index must be 'flat' where FAISS is not installed, got 'hnsw'; run "
        'pip install "latentood[cpu]" or choose index=flat'
    )
