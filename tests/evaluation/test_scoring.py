"""Fitting and scoring many detectors from splits."""

import re

import numpy as np
import pytest
import torch

from latentood import metrics
from latentood.detectors import checks
from latentood.detectors.families.gaussian.distances import Mahalanobis, RelativeMahalanobis
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DamagedBlock, DetectorError, UnknownName
from latentood.evaluation import scoring
from latentood.evaluation.comparison import NO_CLASS, Request
from latentood.evaluation.scoring import score_all
from latentood.evaluation.uncertainty.independent import auroc_interval, mean_auroc
from latentood.latents import CHUNK_ROWS, Latents
from latentood.latents.facts import SplitFacts
from latentood.latents.splits import SplitsInMemory
from tests.evaluation.examples import (
    Broken,
    Buggy,
    Calibrated,
    Distance,
    Entropic,
    Peak,
    latents,
    splits,
)

OOD = ("close", "noise", "texture")


@pytest.fixture(scope="module")
def data():
    return splits()


@pytest.fixture(scope="module")
def comparison(data):
    return score_all(data, [Distance(), Distance(layer="layer1"), Peak(), Calibrated()])


def test_there_is_one_row_per_detector_layer_and_ood_split(comparison):
    listed = [(row.detector, row.layer, row.split, row.role) for row in comparison.rows]
    roles = {"close": "near", "noise": "far", "texture": "far"}
    asked = [("distance", "penultimate"), ("distance", "layer1")]
    asked += [("peak", "logits"), ("calibrated", "logits")]
    assert listed == [(*pair, split, roles[split]) for pair in asked for split in OOD]


def test_scores_are_those_of_fitting_and_scoring_each_detector_alone(data, comparison):
    alone = fit(Distance(), data["train"])
    for split in ("id_test", *OOD):
        expected = alone.score(data[split]).numpy()
        np.testing.assert_array_equal(comparison.results[0].scores[split], expected)


def test_numbers_are_the_metrics_of_the_scores(comparison):
    for result in comparison.results:
        ids = result.scores["id_test"]
        for row in result.rows:
            oods = result.scores[row.split]
            assert (row.n_id, row.n_ood) == (len(ids), len(oods))
            for name in ("auroc", "aupr_out", "aupr_in", "fpr95_ood", "fpr95_id"):
                assert getattr(row, name) == getattr(metrics, name)(ids, oods)
            assert (row.auroc_low, row.auroc_high) == auroc_interval(ids, oods)


def test_averages_are_taken_per_role_over_its_splits(comparison):
    result = comparison.results[0]
    far = [result.scores["noise"], result.scores["texture"]]
    average = result.averages["far"]
    numbers = (average.auroc, average.auroc_low, average.auroc_high)
    assert numbers == mean_auroc(result.scores["id_test"], far)
    assert result.mean_auroc == (result.averages["near"].auroc + average.auroc) / 2
    assert result.averages["near"].auroc == result.rows[0].auroc


def test_labels_predictions_and_accuracy_come_along(data, comparison):
    ids = comparison.id_split
    assert ids.name == "id_test"
    np.testing.assert_array_equal(ids.labels, data["id_test"]["labels"])
    np.testing.assert_array_equal(ids.predictions, data["id_test"]["logits"].argmax(dim=1))
    assert ids.accuracy == metrics.accuracy(ids.predictions, ids.labels)


def test_rows_without_label_do_not_count_for_accuracy(data):
    rows = data["id_test"]
    labels = rows["labels"].clone()
    labels[:45] = NO_CLASS
    changed = Latents(
        logits=rows["logits"],
        labels=labels,
        features={"penultimate": rows["features/penultimate"]},
        name="id_test",
    )
    swapped = SplitsInMemory({**data.latents, "id_test": changed}, data.splits)
    expected = metrics.accuracy(rows["logits"][45:].argmax(dim=1), labels[45:])
    assert score_all(swapped, [Distance()]).id_split.accuracy == expected


def test_the_fit_split_is_read_once_for_all_detectors(data):
    reads = []

    class Counted:
        def __init__(self, key):
            self.key = key
            self.shape = data["train"].shape(key)

        def read(self, start, stop):
            reads.append(self.key)
            return data["train"].read(self.key, start, stop)

    rows = {key: Counted(key) for key in ("features/penultimate", "labels")}
    watched = SplitsInMemory(
        {**data.latents, "train": Latents.from_rows(rows, name="train")}, data.splits
    )
    score_all(watched, [Mahalanobis(), RelativeMahalanobis(), Mahalanobis(ridge=0.1)])
    assert reads.count("features/penultimate") == 1


def test_a_failing_detector_does_not_disturb_the_others(data, comparison):
    outcome = score_all(data, [Broken(), Distance(), Entropic(layer="nowhere")])
    np.testing.assert_array_equal(
        outcome.results[0].scores["noise"], comparison.results[0].scores["noise"]
    )
    assert [result.request.detector for result in outcome.results] == ["distance"]
    reasons = {failure.request.detector: failure.reason for failure in outcome.failed}
    assert reasons["broken"] == "broken: must not be used, got used; leave it out"
    assert reasons["entropic"].startswith("entropic: needs 'mc.entropy/nowhere', but train has ")


@pytest.mark.parametrize(
    ("where", "error", "function"),
    [
        ("start", "MemoryError", "start"),
        ("chunk", "LinAlgError", "take"),
        ("fit", "LinAlgError", "stop"),
        ("prepare", "LinAlgError", "stop"),
        ("score", "LinAlgError", "stop"),
    ],
)
def test_any_error_of_a_detector_is_its_own_with_type_and_place(
    data, comparison, caplog, where, error, function
):
    caplog.set_level("INFO", "latentood")
    buggy = [Buggy(where=where), Buggy(where=where, layer="layer1")]
    outcome = score_all(data, [buggy[0], Mahalanobis(), Distance(), buggy[1]], optional=buggy)
    assert [result.request.detector for result in outcome.results] == ["mahalanobis", "distance"]
    np.testing.assert_array_equal(
        outcome.results[1].scores["noise"], comparison.results[0].scores["noise"]
    )
    assert outcome.skipped == ()
    assert [one.request.layer for one in outcome.failed] == ["penultimate", "layer1"]
    failed = outcome.failed[0]
    assert failed.error == error
    assert re.fullmatch(rf"tests/evaluation/examples\.py:\d+ in {function}", failed.place)
    assert failed.reason == (
        f"buggy: stopped by {error} at {failed.place} (no {where} at all); score it alone with "
        "--verbose for the traceback"
    )
    logged = [record for record in caplog.records if record.exc_info]
    assert len(logged) == 2
    assert all(record.levelname == "INFO" for record in caplog.records)


def test_a_statistic_that_fails_costs_the_others_no_read(data):
    reads = []

    class Counted:
        def __init__(self, key):
            self.key = key
            self.shape = data["train"].shape(key)

        def read(self, start, stop):
            reads.append(self.key)
            return data["train"].read(self.key, start, stop)

    keys = ("features/penultimate", "features/layer1", "labels")
    train = Latents.from_rows({key: Counted(key) for key in keys}, name="train")
    watched = SplitsInMemory({**data.latents, "train": train}, data.splits)
    score_all(watched, [Mahalanobis(), Buggy(where="chunk", layer="layer1"), RelativeMahalanobis()])
    assert reads.count("features/penultimate") == 1


def test_what_was_not_asked_for_by_name_is_skipped_where_it_cannot_be_used(data, monkeypatch):
    knn = detector("knn", k=500)
    outcome = score_all(data, [knn, Distance()], optional=[knn])
    assert outcome.failed == ()
    assert [one.reason for one in outcome.skipped] == [
        'knn: k must be ≤ the bank\'s 120 rows, got 500; lower k or extract more of "train"'
    ]
    assert [one.error for one in outcome.skipped] == ["DetectorError"]
    outcome = score_all(data, [knn, Distance()])
    assert [one.request.detector for one in outcome.failed] == ["knn"]
    assert outcome.skipped == ()
    monkeypatch.setattr(checks, "free_memory", lambda device: 1000)
    outcome = score_all(data, [Mahalanobis(), Distance()], optional=[Mahalanobis()])
    assert outcome.skipped[0].reason.startswith(
        "mahalanobis: what a fit takes must be ≤ the 1000 B"
    )


@pytest.mark.parametrize("one", [detector("knn", k=500), Broken()])
def test_nothing_but_what_is_skipped_is_an_error(data, one):
    lead = f"^score: no detector can be used; the first: {one.name}: "
    with pytest.raises(DetectorError, match=lead):
        score_all(data, [one], optional=[one])


def test_a_score_that_is_not_finite_is_a_failure_even_of_what_may_be_skipped(data):
    huge = Distance(power=5e3)
    outcome = score_all(data, [huge, Distance()], optional=[huge])
    assert outcome.failed[0].reason == (
        'distance: scores must be finite, got inf in row 0 of "id_test"; look at that row and at '
        "the scale of what is read"
    )


def test_statistics_that_do_not_fit_together_are_computed_one_after_the_other(data, monkeypatch):
    asked = []
    real = Latents.gather

    def gather(self, statistics):
        statistics = list(statistics)
        asked.append(len(statistics))
        real(self, statistics)

    monkeypatch.setattr(Latents, "gather", gather)
    monkeypatch.setattr(scoring, "free_memory", lambda device: 5 * 8 * 8**2)
    outcome = score_all(data, [Mahalanobis(), Mahalanobis(layer="layer1")])
    assert len(outcome.results) == 2
    assert asked == [1, 3, 3]


def test_nothing_but_failures_is_still_a_comparison(data):
    outcome = score_all(data, [Broken()])
    assert outcome.results == ()
    assert outcome.id_split.accuracy is not None


def test_a_bad_value_fails_only_the_detectors_that_read_it(data):
    rows = data["train"]
    spoiled = rows["features/layer1"].clone()
    spoiled[7, 1] = torch.nan
    train = Latents(
        labels=rows["labels"],
        features={"layer1": spoiled, "penultimate": rows["features/penultimate"]},
        name="train",
    )
    swapped = SplitsInMemory({**data.latents, "train": train}, data.splits)
    outcome = score_all(swapped, [Mahalanobis(layer="layer1"), Mahalanobis()])
    assert [result.request.layer for result in outcome.results] == ["penultimate"]
    assert (
        "features/layer1 must be finite, got NaN or infinity in row 7" in outcome.failed[0].reason
    )


@pytest.mark.parametrize("split", ["train", "noise"])
def test_damage_to_the_cache_is_not_a_failure_of_a_detector(data, split):
    class Damaged:
        shape = (50, 8)

        def read(self, start, stop):
            raise DamagedBlock(f"cache: split {split!r}, block 0 is damaged")

    rows = Latents.from_rows({"features/penultimate": Damaged()}, name=split)
    swapped = SplitsInMemory({**data.latents, split: rows}, data.splits)
    with pytest.raises(DamagedBlock):
        score_all(swapped, [Distance()])


def test_splits_longer_than_a_block_keep_their_order(data):
    long = latents(CHUNK_ROWS + 5, 1.0, 9, name="noise")
    swapped = SplitsInMemory({**data.latents, "noise": long}, data.splits)
    calls = []
    outcome = score_all(swapped, [Distance()], progress=lambda *news: calls.append(news))
    whole = fit(Distance(), data["train"]).score(long).numpy()
    np.testing.assert_allclose(outcome.results[0].scores["noise"], whole, rtol=1e-12)
    assert ("fit", 1, 1) in calls
    rows = [done for what, done, total in calls if what == "score noise"]
    assert rows == [CHUNK_ROWS, CHUNK_ROWS + 5]


def test_far_alone_is_enough(data):
    far = {"train": "fit", "id_test": "id", "noise": "far"}
    outcome = score_all(
        SplitsInMemory(data.latents, {name: SplitFacts(role) for name, role in far.items()}),
        [Distance()],
    )
    assert outcome.results[0].averages.keys() == {"far"}
    assert outcome.results[0].mean_auroc == outcome.rows[0].auroc


def test_time_is_kept_apart_for_fitting_and_scoring(comparison):
    for result in comparison.results:
        assert result.fit_seconds > 0
        assert set(result.score_seconds) == {"id_test", *OOD}
        assert result.rows[1].score_seconds == result.score_seconds["noise"] > 0
    assert comparison.shared_seconds["read"] > 0


def test_provenance_leads_back_to_model_and_data(data, comparison):
    provenance = comparison.provenance
    assert provenance["digest"] == data.header.digest
    assert provenance["weights"] == "a1" * 32
    assert provenance["seed"] == 7
    assert provenance["splits"]["noise"] == {
        "role": "far",
        "rows": 50,
        "data": {"fingerprint": "n" * 64},
    }
    assert provenance["versions"]["score"]["torch"] == torch.__version__
    assert comparison.results[0].provenance["fit"]["rows"] == 120


def test_the_layer_of_a_detector_is_what_it_reads():
    assert Request.of(Distance(layer="layer1")).layer == "layer1"
    assert Request.of(Distance(layer="mc.entropy/layer1")).layer == "mc.entropy/layer1"
    assert Request.of(Entropic(layer="layer1")).layer == "mc.entropy/layer1"
    assert Request.of(Peak()).layer == "logits"


def test_siblings_of_a_grid_are_named_by_what_differs(data):
    outcome = score_all(data, [Distance(), Distance(power=2.0), Distance(layer="layer1"), Peak()])
    titles = [outcome.title(result.request) for result in outcome.results]
    assert titles == ["distance power=1.0", "distance power=2.0", "distance", "peak"]


def test_rows_of_a_cache_without_ids_are_named_by_their_number(data, monkeypatch):
    def no_ids(self, split):
        raise UnknownName("no array in split 'noise' named 'ids'")

    monkeypatch.setattr(SplitsInMemory, "ids", no_ids)
    assert score_all(data, [Peak()]).splits[2].ids[-1] == "49"


def test_wrong_predictions_are_compared_with_right_ones_on_the_id_split(data, comparison):
    rows = data["id_test"]
    right = (rows["logits"].argmax(dim=1) == rows["labels"]).numpy()
    assert 0 < right.sum() < len(right), "the example has no errors to look at"
    for result in comparison.results:
        scores, wrong = result.scores["id_test"], result.wrong
        assert (wrong.split, wrong.role) == ("id_test", "wrong")
        assert (wrong.n_id, wrong.n_ood) == (right.sum(), (~right).sum())
        assert wrong.auroc == metrics.auroc(scores[right], scores[~right])
        assert wrong.aupr_in == metrics.aupr_in(scores[right], scores[~right])
        assert wrong.fpr95_id == metrics.fpr95_id(scores[right], scores[~right])
    assert len(comparison.rows) == len(comparison.results) * len(OOD)


def test_without_labels_or_errors_nothing_is_said_of_wrong_predictions(data):
    def scored(**changes):
        known = dict(data.latents)
        rows = known["id_test"]
        fields = {"logits": rows["logits"], "labels": rows["labels"]} | changes
        known["id_test"] = Latents(name="id_test", **fields)
        given = SplitsInMemory(known, data.splits, data.header)
        return score_all(given, [Peak()]).results[0]

    assert scored(labels=None).wrong is None
    assert scored(labels=data["id_test"]["logits"].argmax(dim=1)).wrong is None
    partly = data["id_test"]["labels"].clone()
    partly[:10] = NO_CLASS
    wrong = scored(labels=partly).wrong
    assert wrong.n_id + wrong.n_ood == len(partly) - 10
