"""Rows that stand in several splits: counted, said, refused where they are most."""

import pytest
import torch

import latentood as lo
from latentood.detectors.fitted import fit, load
from latentood.errors import ConfigError
from latentood.evaluation.inputs.overlap import Overlap, overlaps, require_apart
from latentood.latents import HASHES, Latents
from latentood.latents.splits import SplitsInMemory

BANK_DETECTORS = ["knn", "lof", "kde", "cfood", "relation", "nnguide"]


def rows(numbers, name, *, hashed=True, shift=0.0):
    """Rows whose input is known by its number: equal numbers are equal rows."""
    numbers = torch.as_tensor(numbers)
    table = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) + shift
    features = table[numbers]
    return Latents(
        features={"penultimate": features},
        logits=features[:, :3].exp(),
        labels=numbers % 3,
        hashes=numbers - 200 if hashed else None,
        name=name,
    )


def given(fit_rows, id_rows, far_rows=range(300, 360), **options):
    return SplitsInMemory.of(
        train=("fit", rows(list(fit_rows), "train", **options)),
        id_test=("id", rows(list(id_rows), "id_test", **options)),
        noise=("far", rows(list(far_rows), "noise", **options)),
    )


def test_rows_that_stand_in_an_earlier_split_are_counted():
    splits = SplitsInMemory.of(
        near=("near", rows([9, 50, 51], "near")),
        far=("far", rows([9, 50, 60], "far")),
        id=("id", rows([0, 0, 9, 20], "id")),
        val=("val", rows([1, 9], "val")),
        train=("fit", rows([0, 1, 2, 3], "train")),
    )
    assert set(overlaps(splits)) == {
        Overlap("val", "train", rows=1, of=2),
        Overlap("id", "train", rows=2, of=4),
        Overlap("id", "val", rows=1, of=4),
        Overlap("near", "id", rows=1, of=3),
        Overlap("near", "val", rows=1, of=3),
        Overlap("far", "id", rows=1, of=3),
        Overlap("far", "val", rows=1, of=3),
    }


def test_an_overlap_is_one_sentence():
    overlap = Overlap("id_test", "train", rows=12, of=5000)
    assert str(overlap) == "id_test: 12 of 5,000 rows also stand in train"


def test_a_split_is_refused_where_most_of_its_rows_stand_in_another():
    half, most = (Overlap("id", "train", rows=count, of=60) for count in (30, 31))
    require_apart([half], ["id"], who="tune")
    require_apart([most], ["far"], who="tune")
    with pytest.raises(ConfigError, match=r"^tune: splits must hold different rows, but 31 of the"):
        require_apart([half, most], ["id"], who="tune")


def test_scoring_the_fit_rows_as_id_is_refused_unless_allowed():
    splits = given(range(100), range(100))
    with pytest.raises(
        ConfigError, match=r"100 of the 100 rows of 'id_test' also stand in 'train'"
    ):
        lo.score(splits, detectors="knn", settings=["knn.k=1"])
    done = lo.score(splits, detectors="knn", settings=["knn.k=1"], allow_overlap=True)
    assert done.overlaps == (Overlap("id_test", "train", rows=100, of=100),)
    assert done.provenance["overlaps"] == [
        {"split": "id_test", "other": "train", "rows": 100, "of": 100}
    ]
    (result,) = done.results
    assert (result.scores["id_test"] > 0).all(), "a row's own copy is no neighbour of it"
    assert result.rows[0].auroc < 0.7


def test_scoring_the_id_rows_as_ood_is_refused():
    with pytest.raises(ConfigError, match="40 of the 60 rows of 'noise' also stand in 'id_test'"):
        lo.score(
            given(range(100), range(100, 140), [*range(100, 140), *range(20)]), detectors="knn"
        )


def test_without_hashes_nothing_is_refused_or_changed(caplog):
    caplog.set_level("INFO", "latentood")
    done = lo.score(
        given(range(99), range(99), hashed=False), detectors="knn", settings=["knn.k=1"]
    )
    assert done.overlaps == ()
    assert (done.results[0].scores["id_test"] == 0).all()
    lines = [record.getMessage() for record in caplog.records if "no hashes" in record.getMessage()]
    assert lines == [
        "id_test, noise, train: no hashes, so rows that also stand in other splits are not known"
    ]


@pytest.mark.parametrize("name", BANK_DETECTORS)
def test_hashes_of_different_rows_change_no_score(name):
    settings = [f"{name}.k=7"] if name in ("knn", "lof", "nnguide") else []
    with_hashes, without = (
        lo.score(given(range(120), range(120, 180), hashed=h), detectors=name, settings=settings)
        for h in (True, False)
    )
    for split, scores in without.results[0].scores.items():
        assert (with_hashes.results[0].scores[split] == scores).all()


@pytest.mark.parametrize("name", BANK_DETECTORS)
def test_a_copy_in_another_split_is_scored_as_the_row_of_the_bank_itself(name):
    options = {"k": 7} if name in ("knn", "lof", "nnguide") else {}
    fitted = fit(lo.detector(name, **options), train := rows(range(120), "train"))
    copies = rows(range(40, 80), "id_test")
    assert torch.equal(fitted.score(copies), fitted.score(train)[40:80])
    unknown = fitted.score(rows(range(40, 80), "id_test", hashed=False))
    assert not torch.equal(unknown, fitted.score(copies))


def test_all_copies_in_the_bank_are_left_out():
    fitted = fit(lo.detector("knn", k=1), rows([5, 5, 5, 6, 7], "train"))
    near, far = fitted.score(rows([5, 8], "id_test")).tolist()
    alone = fit(lo.detector("knn", k=1), rows([6, 7], "train"))
    assert near == alone.score(rows([5], "id_test")).item() > 0
    assert far > 0


def test_the_hashes_of_a_bank_are_saved_and_a_state_without_them_scores(tmp_path):
    fitted = fit(lo.detector("knn", k=1, share=0.5), rows(range(120), "train"))
    assert torch.equal(fitted.state["hashes"], fitted.state["positions"] - 200)
    fitted.save(tmp_path / "knn.safetensors")
    copies = rows(range(120), "id_test")
    assert torch.equal(load(tmp_path / "knn.safetensors").score(copies), fitted.score(copies))
    older = fit(lo.detector("knn", k=1), rows(range(120), "train", hashed=False))
    assert "hashes" not in older.state
    older.save(tmp_path / "older.safetensors")
    assert load(tmp_path / "older.safetensors").score(copies).abs().max() == 0


def test_a_member_of_a_fusion_leaves_copies_out_too():
    train, val = rows(range(100), "train"), rows(range(150, 200), "val")
    fitted = fit(lo.detector("fusion_mean", members=("knn:k=1", "kde")), train, val)
    copies = fitted.score(rows(range(40, 80), "id_test"))
    assert torch.equal(copies, fitted.score(train)[40:80])
    assert not torch.equal(copies, fitted.score(rows(range(40, 80), "id_test", hashed=False)))


def test_k_must_leave_a_rows_copies_out():
    splits = given([1, 1, 1, 2, 3], [1, 9, 10])
    done = lo.score(splits, detectors="knn", settings=["knn.k=3"])
    assert "k must be ≤ the bank's 2 rows, got 3" in done.failed[0].reason


def test_a_split_that_is_not_complete_is_left_out(monkeypatch):
    splits = given(range(10), range(10))

    class Partial(SplitsInMemory):
        def __getitem__(self, split):
            if split == "train":
                raise lo.errors.IncompleteSplit("train: not complete")
            return super().__getitem__(split)

    assert overlaps(splits)
    assert overlaps(Partial(splits.latents, splits.splits)) == ()
    assert HASHES in splits["train"]
