import pytest
import torch

from latentood.detectors.families.neighbours.knn import unit_rows
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.stats.neighbours import engines
from latentood.stats.neighbours import search as searched
from latentood.stats.neighbours.engines import Flat
from tests.parity.agreement import assert_agrees


@pytest.mark.parametrize(
    "options",
    [
        {"k": 1},
        {"k": 239, "engine": "torch"},
        {"normalise": False},
        {"metric": "squared_euclidean", "engine": "torch", "normalise": False},
    ],
    ids=str,
)
def test_every_option_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "knn", **options)


def test_entropies_do_as_features(blobs):
    assert_agrees(blobs, "knn", layer="mc.entropy/penultimate")


def test_both_engines_give_the_same_bits_and_say_which_ran(blobs):
    both = [fit(detector("knn", engine=e), blobs.train.latents()) for e in ("faiss", "torch")]
    assert torch.equal(*(fitted.score(blobs.far.latents()) for fitted in both))
    assert [f.provenance["diagnostics"]["engine"] for f in both] == ["faiss", "torch"]


def test_a_share_of_the_rows_is_drawn_by_the_seed_alone(blobs):
    def bank(**options):
        return fit(detector("knn", share=0.25, k=5, **options), blobs.train.latents()).state

    first, again, other = bank(), bank(), bank(seed=1)
    assert len(first["bank"]) == 60
    assert torch.equal(first["positions"], again["positions"])
    assert not torch.equal(first["positions"], other["positions"])
    assert torch.equal(first["bank"], blobs.train.features[first["positions"]])


def test_a_row_of_a_share_is_not_its_own_neighbour_and_others_lose_nothing(blobs):
    train = blobs.train.latents()
    fitted = fit(detector("knn", share=0.25, k=1), train)
    inside = torch.zeros(len(train), dtype=torch.bool)
    inside[fitted.state["positions"]] = True
    own, stranger = fitted.score(train), fitted.score(blobs.train.latents())
    assert bool((own[inside] > 0).all())
    assert bool((stranger[inside] == 0).all())
    assert torch.equal(own[~inside], stranger[~inside])


def test_a_part_of_the_fit_rows_is_recognised_too(blobs):
    train = blobs.train.latents()
    fitted = fit(detector("knn", k=1), train)
    part = train.take(("features/penultimate",), 100, 130)
    assert torch.equal(fitted.score(part), fitted.score(train)[100:130])


def test_a_detector_fitted_on_a_part_knows_the_rows_of_that_part_alone(blobs):
    train = blobs.train.latents()
    fitted = fit(detector("knn", k=1), train.take(("features/penultimate",), 100, 200))
    scores = fitted.score(train)
    assert bool((scores > 0).all())
    assert fitted.state["positions"].tolist() == list(range(100, 200))


def test_the_bank_keeps_the_type_it_is_stored_in(blobs):
    fitted = fit(detector("knn"), blobs.train.cast(torch.float16).latents())
    assert fitted.state["bank"].dtype == torch.float16


def test_a_row_of_zeros_stays_one():
    assert unit_rows(torch.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]


def test_more_neighbours_than_rows_are_refused(blobs):
    train = blobs.train.rows(slice(50)).latents()
    with pytest.raises(DetectorError) as caught:
        fit(detector("knn", k=200), train)
    assert str(caught.value) == (
        'knn: k must be ≤ the bank\'s 50 rows, got 200; lower k or extract more of "train"'
    )
    fitted = fit(detector("knn", k=50), train)
    assert len(fitted.score(blobs.far.latents())) == len(blobs.far.labels)
    with pytest.raises(DetectorError) as caught:
        fitted.score(train)
    assert str(caught.value) == (
        "knn: k must be ≤ the bank's 49 rows, got 50; lower k or score rows other than the fit rows"
    )


def test_the_same_rows_in_new_latents_are_strangers(blobs):
    h = blobs.train.features
    fitted = fit(detector("knn", k=1), Latents(features={"penultimate": h}))
    assert fitted.score(Latents(features={"penultimate": h})).max() == 0.0


@pytest.mark.parametrize("name", ["knn", "lar_knn", "lof"])
def test_of_several_engines_the_one_that_was_chosen_is_reported(blobs, monkeypatch, name):
    def diagnosed(**options):
        fitted = fit(detector(name, **options), blobs.train.latents())
        return fitted.provenance["diagnostics"]["engine"]

    assert diagnosed() == "faiss"
    assert diagnosed(engine="torch") == "torch"
    monkeypatch.setattr(Flat, "_seconds", lambda self, engine, *_: 1.0 if engine == "torch" else 2)
    for module in (searched, engines):
        monkeypatch.setattr(module, "possible_engines", lambda *_: ("torch", "faiss"))
    assert diagnosed() == "torch"
