"""FAISS on a GPU: which engine is chosen, here with a stand-in for it, and there for real."""

import sys
import time
from types import ModuleType, SimpleNamespace

import pytest
import torch

from latentood.stats.neighbours import faiss_index
from latentood.stats.neighbours.engines import Flat, possible_engines
from latentood.stats.neighbours.search import Neighbours

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def faiss_with_gpu(monkeypatch):
    """Stand in for a FAISS that was built for GPUs and sees one; gives the calls it gets."""
    calls = []

    def knn_gpu(resources, queries, vectors, count, device):
        calls.append((resources, count, device))
        near, index = torch.cdist(queries, vectors).square().topk(count, largest=False)
        return near, index

    module = ModuleType("faiss")
    module.get_num_gpus = lambda: 1
    module.StandardGpuResources = lambda: "resources"
    module.knn_gpu = knn_gpu
    module.contrib = SimpleNamespace(torch_utils=None)
    monkeypatch.setitem(sys.modules, "faiss", module)
    monkeypatch.setitem(sys.modules, "faiss.contrib", ModuleType("faiss.contrib"))
    monkeypatch.setitem(sys.modules, "faiss.contrib.torch_utils", ModuleType("torch_utils"))
    faiss_index._gpu_resources.cache_clear()
    yield calls
    faiss_index._gpu_resources.cache_clear()


def test_on_a_gpu_both_engines_may_run_where_faiss_sees_it(faiss_with_gpu):
    assert possible_engines("auto", CUDA) == ("torch", "faiss")
    assert possible_engines("auto", torch.device("cuda:1")) == ("torch",), "it sees one GPU alone"
    assert possible_engines("torch", CUDA) == ("torch",)
    assert possible_engines("faiss", CUDA) == ("faiss",)


def test_a_faiss_built_for_the_cpu_leaves_a_gpu_to_torch():
    assert possible_engines("auto", CUDA) == ("torch",)


@pytest.mark.parametrize(("slow", "chosen"), [("torch", "faiss"), ("faiss", "torch")])
def test_the_faster_engine_is_chosen_once_and_both_propose_the_same(monkeypatch, slow, chosen):
    bank, queries = torch.randn(300, 5), torch.randn(20, 5)
    search = Flat(("torch", "faiss"), (300, 5), CPU)
    search.add(bank[:100])
    search.add(bank[100:])
    asked = []
    by = Flat._by

    def timed(self, engine, queries, count):
        asked.append(engine)
        time.sleep(0.05 * (engine == slow))
        return by(self, engine, queries, count)

    monkeypatch.setattr(Flat, "_by", timed)
    near, index = search.search(queries, 7)
    assert search.engine == chosen
    assert asked == ["torch", "torch", "faiss", "faiss", chosen]
    expected, places = torch.cdist(queries, bank).square().topk(7, largest=False)
    torch.testing.assert_close(near, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(index, places)


def test_a_gpu_is_asked_for_no_more_neighbours_than_faiss_selects_there(faiss_with_gpu):
    bank = torch.randn(3_000, 5)
    search = Flat(("faiss",), (3_000, 5), CPU)
    search.add(bank)
    search._on_gpu = True  # the code is the same, but for where the tensors are
    few, _ = search.search(bank[:4], 2_048)
    many, _ = search.search(bank[:4], 2_049)
    assert faiss_with_gpu == [("resources", 2_048, 0)]
    torch.testing.assert_close(many[:, :2_048], few, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("engine", ["auto", "torch", "faiss"])
def test_a_gpu_finds_the_neighbours_of_the_cpu_and_says_by_which_engine(engine):
    bank, rows = torch.randn(5_000, 32), torch.randn(400, 32)
    for k in (1, 50, 3_000):  # the last is more than FAISS selects on a GPU
        there = Neighbours(bank.cuda(), engine=engine)
        assert there.engine in (engine, "torch", "faiss")
        expected = Neighbours(bank).kth_distance(rows, k)
        distances = there.kth_distance(rows.cuda(), k).cpu()
        torch.testing.assert_close(distances, expected, rtol=1e-9, atol=0)
    assert engine == "auto" or there.engine == engine
