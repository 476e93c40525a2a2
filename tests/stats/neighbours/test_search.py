import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentood.errors import MissingInput
from latentood.stats.neighbours import engines, search
from latentood.stats.neighbours.copies import Copies
from latentood.stats.neighbours.search import Neighbours, possible_engines

BOTH = ("faiss", "torch")
CPU = torch.device("cpu")


def brute_force(bank, rows, k, own=None):
    """Float64 differences to every row, sorted."""
    distances = (rows.double().unsqueeze(1) - bank.double()).square().sum(dim=2).sqrt()
    if own is not None:
        distances[torch.arange(len(rows))[own >= 0], own[own >= 0]] = torch.inf
    return distances.sort(dim=1).values[:, k - 1]


@pytest.mark.parametrize("engine", BOTH)
@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 80),
    width=st.integers(1, 6),
    levels=st.sampled_from([2, 5, 10_000]),  # few levels: many rows are equal
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_the_kth_distance_is_that_of_a_float64_search(
    engine, size, width, levels, offset, seed, data
):
    draw = torch.Generator().manual_seed(seed)
    bank = torch.randint(levels, (size, width), generator=draw).double() / 7 + offset
    rows = torch.randint(levels, (9, width), generator=draw).double() / 7 + offset
    k = data.draw(st.integers(1, size))
    distances = Neighbours(bank, engine=engine).kth_distance(rows, k)
    torch.testing.assert_close(distances, brute_force(bank, rows, k), rtol=1e-12, atol=1e-12)


def test_both_engines_give_the_same_bits_over_many_chunks(monkeypatch):
    monkeypatch.setattr(engines, "_CHUNK", 64)
    monkeypatch.setattr(search, "_QUERIES", 50)
    bank, rows = torch.randn(1000, 32), torch.randn(120, 32)
    for k in (1, 10, 200, 1000):
        answers = [Neighbours(bank, engine=engine).kth_distance(rows, k) for engine in BOTH]
        assert torch.equal(*answers)
        torch.testing.assert_close(answers[0], brute_force(bank, rows, k), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-20, 1e18, 1e30])
def test_scales_beyond_float32_are_searched_in_float64(engine, scale):
    bank, rows = torch.randn(400, 3).double() * scale, torch.randn(5, 3).double() * scale
    distances = Neighbours(bank, engine=engine).kth_distance(rows, 3)
    torch.testing.assert_close(distances, brute_force(bank, rows, 3), rtol=1e-12, atol=0)


@pytest.mark.parametrize("engine", BOTH)
def test_neighbours_that_differ_below_float32_are_told_apart(engine):
    steps = torch.arange(200, dtype=torch.float64) * 1e-10
    bank = torch.stack([1.0 + steps, torch.zeros(200)], dim=1)[torch.randperm(200)]
    bank[::20] += 50.0  # far rows, so that the middle of the bank is no help to float32
    rows = torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    search = Neighbours(bank, engine=engine)
    for k in (1, 7, 60, 199):
        assert torch.equal(search.kth_distance(rows, k), brute_force(bank, rows, k))
        own = torch.arange(200)
        distances = search.kth_distance(bank, k, Copies.of(torch.arange(len(bank)), own))
        torch.testing.assert_close(
            distances, brute_force(bank, bank, k, own), rtol=1e-12, atol=1e-15
        )


@pytest.mark.parametrize("engine", BOTH)
def test_a_row_is_not_its_own_neighbour(engine):
    bank = torch.randn(60, 4)
    bank[33] = bank[5]  # an equal row is a neighbour all the same
    own = torch.arange(60)
    own[7] = -1
    search = Neighbours(bank, engine=engine)
    for k in (1, 5, 59):
        distances = search.kth_distance(bank, k, Copies.of(torch.arange(len(bank)), own))
        torch.testing.assert_close(
            distances, brute_force(bank, bank, k, own), rtol=1e-12, atol=1e-12
        )
    nearest = search.kth_distance(bank, 1, Copies.of(torch.arange(60), own))
    assert nearest[5] == nearest[33] == nearest[7] == 0.0
    assert (nearest > 0).sum() == 57


@pytest.mark.parametrize("engine", BOTH)
def test_own_rows_among_many_equal_ones_are_left_out_once(engine):
    bank = torch.cat([torch.zeros(90, 2), torch.ones(10, 2)])
    search = Neighbours(bank, engine=engine)
    copies = Copies.of(torch.arange(100), torch.arange(3))
    distances = search.kth_distance(bank[:3], 90, copies)
    torch.testing.assert_close(distances, torch.full((3,), 2.0, dtype=torch.float64).sqrt())
    assert search.kth_distance(bank[:3], 89, copies).tolist() == [0.0] * 3


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("most", [3, 100])  # copies in the bank; of 100, not all are candidates
def test_all_copies_of_a_row_are_left_out(engine, most):
    marks = torch.cat([torch.zeros(most, dtype=torch.int64), torch.arange(1, 41), torch.arange(9)])
    table = torch.randn(50, 4)
    bank, rows = table[marks], table[[0, 5, 20, 45]]
    copies = Copies.of(marks, torch.tensor([0, 5, 20, 45]))
    assert copies.counts.tolist() == [most + 1, 2, 1, 0]
    distances = torch.cdist(rows.double(), bank.double())
    expected = distances.masked_fill_(copies.among(slice(None)), torch.inf).sort(dim=1).values
    search = Neighbours(bank, engine=engine)
    for k in (1, 20, 40):
        torch.testing.assert_close(search.kth_distance(rows, k, copies), expected[:, k - 1])
        near, index = search.nearest(rows, k, copies)
        torch.testing.assert_close(near, expected[:, :k])
        assert not copies.among(index).any()


def test_rows_without_copies_cost_nothing():
    assert Copies.of(torch.arange(5), torch.arange(5, 9)) is None


def test_rows_are_compared_as_vectors_made_from_them():
    bank, rows = torch.randn(30, 5), torch.randn(4, 5)

    def doubled(part: torch.Tensor) -> torch.Tensor:
        return 2 * part.double()

    plain, twice = Neighbours(bank), Neighbours(bank, vectors=doubled)
    torch.testing.assert_close(twice.kth_distance(rows, 3), 2 * plain.kth_distance(rows, 3))


def test_no_queries_give_no_distances():
    distances = Neighbours(torch.randn(5, 2)).kth_distance(torch.empty(0, 2), 1)
    assert distances.shape == (0,)
    assert distances.dtype == torch.float64


def test_faiss_is_chosen_on_the_cpu_and_torch_elsewhere():
    assert possible_engines("auto", CPU) == ("faiss",)
    assert possible_engines("torch", CPU) == ("torch",)
    assert possible_engines("auto", torch.device("mps")) == ("torch",)
    assert Neighbours(torch.randn(5, 2)).engine == "faiss"


def test_without_faiss_torch_does_the_same_and_asking_for_faiss_says_what_to_install(no_faiss):
    assert possible_engines("auto", CPU) == ("torch",)
    with pytest.raises(MissingInput) as caught:
        possible_engines("faiss", CPU)
    assert str(caught.value) == (
        "neighbours: engine must be 'auto' or 'torch' where FAISS is not installed, got 'faiss'; "
        'run pip install "latentood[cpu]" or choose engine=torch'
    )


def nearest_by_force(bank, rows, k, own=None):
    """All differences in float64; equal distances in order of position."""
    bank, rows = bank.double(), rows.double()
    distances = (rows.unsqueeze(1) - bank).square().sum(dim=2).sqrt()
    if own is not None:
        distances[torch.arange(len(bank)) == own.unsqueeze(1)] = torch.inf
    near, index = distances.sort(dim=1, stable=True)
    return near[:, :k], index[:, :k]


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("k", [1, 5, 199])
def test_the_nearest_rows_come_in_order(engine, k):
    bank, rows = torch.randn(200, 6), torch.randn(50, 6)
    near, index = Neighbours(bank, engine=engine).nearest(rows, k)
    expected, places = nearest_by_force(bank, rows, k)
    torch.testing.assert_close(near, expected, rtol=1e-13, atol=0)
    assert torch.equal(index, places)


@pytest.mark.parametrize("engine", BOTH)
def test_a_row_is_not_among_its_own_nearest(engine):
    bank = torch.randn(100, 3)
    own = torch.arange(100).masked_fill(torch.arange(100) % 3 == 0, -1)
    copies = Copies.of(torch.arange(100), own)
    near, index = Neighbours(bank, engine=engine).nearest(bank, 4, copies)
    expected, places = nearest_by_force(bank, bank, 4, own)
    torch.testing.assert_close(near, expected, rtol=1e-13, atol=1e-15)
    assert torch.equal(index, places)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("size", [10, 400])
@pytest.mark.parametrize("scale", [1e-22, 1e18, 1e30])
def test_the_nearest_rows_are_found_beyond_float32(engine, scale, size):
    bank, rows = torch.randn(size, 3).double() * scale, torch.randn(5, 3).double() * scale
    near, index = Neighbours(bank, engine=engine).nearest(rows, 3)
    expected, places = nearest_by_force(bank, rows, 3)
    torch.testing.assert_close(near, expected, rtol=1e-12, atol=0)
    assert torch.equal(index, places)


@pytest.mark.parametrize("engine", BOTH)
def test_ties_and_differences_below_float32_are_ordered_as_by_float64(engine):
    steps = torch.arange(300, dtype=torch.float64) * 1e-10
    bank = torch.stack([1.0 + steps, torch.zeros(300)], dim=1)[torch.randperm(300)]
    bank = torch.cat([bank, bank[:100]])  # duplicates: equal distances
    bank[::20] += 50.0
    rows = torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    for k in (1, 7, 60, 400):
        near, index = Neighbours(bank, engine=engine).nearest(rows, k)
        expected, places = nearest_by_force(bank, rows, k)
        torch.testing.assert_close(near, expected, rtol=1e-15, atol=0)
        assert torch.equal(index, places)


@pytest.mark.parametrize("engine", BOTH)
def test_vectors_may_have_another_width_than_the_rows(engine):
    bank, rows, axes = torch.randn(90, 7), torch.randn(4, 7), torch.randn(7, 2).double()
    search = Neighbours(bank, vectors=lambda r: r.double() @ axes, engine=engine)
    expected, places = nearest_by_force(bank.double() @ axes, rows.double() @ axes, 5)
    near, index = search.nearest(rows, 5)
    torch.testing.assert_close(near, expected, rtol=1e-12, atol=0)
    assert torch.equal(index, places)
    torch.testing.assert_close(search.kth_distance(rows, 5), expected[:, 4], rtol=1e-12, atol=0)
