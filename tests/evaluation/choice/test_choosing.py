"""A choice is what fitting and scoring every setting by hand would give."""

import json

import numpy as np
import pytest
import torch

from latentood.detectors.base import FeatureDetector, Needs
from latentood.detectors.fitted import fit
from latentood.detectors.registry import DETECTORS, detector
from latentood.errors import ConfigError, DataError, DetectorError, MissingInput, UnknownName
from latentood.evaluation import metrics
from latentood.evaluation.choice.choosing import arguments_of, choose, command
from latentood.evaluation.choice.confirming import confirm, differences
from latentood.evaluation.choice.guard import ChoiceSplits
from latentood.evaluation.choice.space import Candidate
from latentood.evaluation.choice.trials import Bench
from latentood.evaluation.choice.tuning_sets import scenarios
from latentood.evaluation.choice.wish import Wish
from latentood.evaluation.inputs.request import select
from latentood.evaluation.scoring import score_all
from latentood.latents import Budget, Latents
from latentood.latents.splits import SplitsInMemory
from latentood.plugins import hyper, hyperparameters_of, plugin
from latentood.stats.neighbours import search as neighbours
from tests.evaluation.choice.examples import tunable
from tests.evaluation.examples import STAND_INS, latents

KS = (1, 5, 20)


def by_hand(splits, one, criterion="auroc", sets=("odd", "other")):
    """Fit and score one detector without any of the machinery."""
    fitted = fit(one, splits["train"], splits["val"])
    ids = fitted.score(splits["val"]).numpy()
    return {
        name: float(getattr(metrics, criterion)(ids, fitted.score(splits[name]).numpy()))
        for name in sets
    }


@pytest.mark.parametrize("criterion", ["auroc", "fpr95_ood", "fpr95_id"])
def test_a_grid_is_every_setting_by_hand(criterion):
    splits = tunable()
    wish = Wish(detectors=("knn",), settings=("knn.k=1,5,20",), criterion=criterion)
    document = choose(splits, wish)
    expected = {k: by_hand(splits, detector("knn", k=k), criterion) for k in (50, *KS)}
    assert [one["settings"]["k"] for one in document["trials"]] == [50, *KS]
    for trial in document["trials"]:
        assert trial["values"] == expected[trial["settings"]["k"]]
    means = {k: np.mean(list(values.values())) for k, values in expected.items()}
    best = (max if criterion == "auroc" else min)(means, key=means.__getitem__)
    chosen = document["detectors"]["knn"]["chosen"]
    assert chosen["settings"]["k"] == best != 50
    assert chosen["value"] == means[best]
    assert document["detectors"]["knn"]["gain"]["value"] == pytest.approx(means[best] - means[50])


def test_layers_and_several_detectors_are_searched_together():
    splits = tunable()
    asked = ("knn", "mahalanobis")
    document = choose(splits, Wish(detectors=asked, layers=("*",), settings=("knn.k=5",)))
    tried = {(one["detector"], one["layer"]) for one in document["trials"]}
    assert tried == {(name, layer) for name in asked for layer in ("penultimate", "layer1")}
    values = {name: one["chosen"]["value"] for name, one in document["detectors"].items()}
    assert document["best"] == max(values, key=values.__getitem__)
    assert document["detectors"]["mahalanobis"]["chosen"]["settings"]["layer"] == "penultimate"
    for trial in document["trials"]:
        if trial["layer"] == "layer1":
            one = detector(trial["detector"], **trial["settings"])
            assert trial["values"] == by_hand(splits, one)


def test_a_sweep_builds_one_index_and_reads_statistics_once(monkeypatch):
    calls = []
    real = neighbours.make_searcher
    monkeypatch.setattr(
        neighbours, "make_searcher", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    choose(tunable(), Wish(detectors=("knn",), settings=("knn.k=1,5,20",)))
    assert len(calls) == 1


@plugin
class Flat(FeatureDetector):
    """The distance to the origin; one of its settings changes nothing."""

    name = "flat"
    family = paper = works = fails = cost = "test"
    idle: int = hyper(3, "changes nothing", tries=(1, 2, 3))
    sign: int = hyper(1, "which way", tries=(-1, 1))
    broken: bool = hyper(False, "fails")

    def needs(self):
        return Needs(score=(self.key,), fit=(self.key,))

    def score(self, state, rows):
        if self.broken:
            raise DetectorError("flat: must not be broken, got broken; mend it")
        return rows.double(self.key).norm(dim=1) * self.sign


@pytest.fixture
def flat(monkeypatch):
    monkeypatch.setattr(DETECTORS, "_known", {**DETECTORS.known(), **STAND_INS, "flat": Flat})


def test_a_tie_stays_with_the_default(flat):
    document = choose(tunable(), Wish(detectors=("flat",)))
    one = document["detectors"]["flat"]
    assert one["chosen"]["settings"] == Flat().hyperparameters()
    assert one["chosen"]["arguments"] == []
    assert (one["gain"], one["tried"], one["failed"]) == (None, 6, 0)


def test_among_equals_the_setting_nearest_to_the_default_is_chosen(flat):
    wish = Wish(detectors=("flat",), settings=("flat.sign=-1", "flat.idle=1,3"))
    assert choose(tunable(), wish)["detectors"]["flat"]["chosen"]["settings"]["idle"] == 3
    bad_default = Wish(
        detectors=("flat",), settings=("flat.sign=-1", "flat.idle=1,3"), criterion="fpr95_id"
    )
    assert choose(tunable(), bad_default)["detectors"]["flat"]["chosen"]["settings"]["sign"] == 1


def test_a_setting_that_fails_is_a_trial_with_its_reason(flat):
    document = choose(tunable(), Wish(detectors=("flat",), settings=("flat.broken=true,false",)))
    failed = [one for one in document["trials"] if one["reason"]]
    assert failed
    assert all(one["value"] is None and "must not be broken" in one["reason"] for one in failed)
    assert document["detectors"]["flat"]["failed"] == len(failed)
    with pytest.raises(DetectorError, match=r"flat: at least one setting must be scored"):
        choose(
            with_values(tunable(), "odd", float("nan")),
            Wish(detectors=("flat",), settings=("flat.idle=1,2",)),
        )


def with_values(splits, name, value):
    """Put a value into the features of a split."""
    rows = splits[name]
    features = rows["features/penultimate"].clone()
    features[3, 1] = value
    changed = Latents(features={"penultimate": features}, logits=rows["logits"], name=name)
    return SplitsInMemory({**splits.latents, name: changed}, splits.splits, splits.header)


def test_a_value_that_is_not_finite_is_named():
    splits = with_values(tunable(), "odd", float("nan"))
    with pytest.raises(DetectorError, match=r"odd: features/penultimate must be finite.* row 3"):
        choose(splits, Wish(detectors=("knn",), settings=("knn.k=1,5",)))


def test_what_all_leaves_out_is_said_and_what_is_named_is_an_error():
    document = choose(tunable(), Wish(detectors=("all",), settings=("knn.k=5",)))
    skipped = {one["detector"]: one["reason"] for one in document["skipped"]}
    assert "must have settings to choose from" in skipped["max_logit"]
    assert "needs" in skipped["mcd_msp"]
    assert {"knn", "msp", "mahalanobis"} <= document["detectors"].keys()
    with pytest.raises(ConfigError, match=r"max_logit: must have settings to choose from"):
        choose(tunable(), Wish(detectors=("max_logit",)))
    with pytest.raises(MissingInput, match=r"react: needs 'head'"):
        choose(tunable(), Wish(detectors=("react",)))


def test_a_named_detector_with_its_default_alone_competes_with_others():
    document = choose(tunable(), Wish(detectors=("knn", "max_logit"), settings=("knn.k=1,5",)))
    assert set(document["detectors"]) == {"knn", "max_logit"}
    assert document["skipped"] == []


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"val": False}, ConfigError, r"exactly one split of role val.*val: {role: val"),
        ({"sets": ()}, ConfigError, r"got none; give OOD .* role tune, or corrupted .*--synthetic"),
        ({"sizes": (60, 19, 30, 30, 30)}, DataError, r"val: must have ≥ 20 images .*, got 19"),
    ],
)
def test_what_a_cache_lacks_is_said_with_what_to_do(options, kind, message):
    with pytest.raises(kind, match=message):
        choose(tunable(**options), Wish(detectors=("knn",)))


def test_a_tuning_set_of_another_width_is_refused():
    splits = tunable()
    other = Latents(features={"penultimate": torch.randn(40, 5)}, name="odd")
    changed = SplitsInMemory({**splits.latents, "odd": other}, splits.splits, splits.header)
    with pytest.raises(
        DataError, match=r"odd: features/penultimate must have rows of shape \(8,\)"
    ):
        choose(changed, Wish(detectors=("knn",)))


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"search": "gridd"}, UnknownName, "no search named 'gridd'; did you mean 'grid'"),
        ({"criterion": "auc"}, UnknownName, "no criterion named 'auc'"),
        ({"synthetic": ("blur",)}, UnknownName, "no synthetic set named 'blur'"),
        ({"trials": 1}, ConfigError, "trials must be ≥ 2"),
        ({"unit": "cell", "passes": (2,)}, ConfigError, "must be of images, got unit cell"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(values, kind, message):
    with pytest.raises(kind, match=message):
        Wish(**values)


def test_equal_requests_give_equal_documents_and_json_can_hold_them():
    wish = Wish(detectors=("knn", "msp"), nested=True, synthetic=("mixup", "gaussian"))
    given = tunable()
    first = choose(given, Wish(detectors=("knn",), synthetic=("uniform",), nested=True))
    again = choose(tunable(), Wish(detectors=("knn",), synthetic=("uniform",), nested=True))
    assert first == again == json.loads(json.dumps(first))
    assert wish.as_json()["trials"] is None


def test_the_choice_is_confirmed_beside_the_default_as_score_would():
    splits = tunable()
    document = choose(splits, Wish(detectors=("knn", "msp"), settings=("knn.k=1,5",)))
    comparison = confirm(splits, document, unit="image")
    chosen = document["detectors"]["knn"]["chosen"]["settings"]
    assert chosen["k"] != 50
    alone = score_all(splits, [detector("knn"), detector("knn", **chosen)])
    lines = [one for one in differences(document, comparison) if one["detector"] == "knn"]
    assert [one["split"] for one in lines] == ["close", "noise", "texture", "", ""]
    both = [[*one.rows, *one.averages.values()] for one in alone.results]
    for line, old, new in zip(lines, *both, strict=True):
        assert line["default"]["auroc"] == old.auroc
        assert line["chosen"]["auroc"] == new.auroc
        assert line["gain"]["value"] == pytest.approx(new.auroc - old.auroc)
        assert (line["role"], line["split"]) == (old.role, getattr(old, "split", ""))
        if line["gain"]["low"] is not None:
            assert line["gain"]["low"] <= line["gain"]["value"] <= line["gain"]["high"]
    assert lines[0]["gain"]["low"] is not None


@pytest.mark.parametrize(
    "one",
    [
        Candidate(detector("knn", k=7, layer="layer1", normalise=False)),
        Candidate(detector("mahalanobis_layers", layers=("layer1", "penultimate"))),
        Candidate(detector("larem", layer="layer1", ridge=1e-4)),
        Candidate(detector("mahalanobis")),
    ],
    ids=lambda one: one.detector.name,
)
def test_the_arguments_of_a_choice_give_it_back(one):
    splits = SplitsInMemory.of(
        train=("fit", latents(60, 0.0, 0, name="train")),
        id=("id", latents(60, 0.0, 1, name="id")),
        far=("far", latents(60, 1.0, 2, name="far")),
    )
    asked = select(one.detector.name, settings=arguments_of(one), splits=splits, scores=False)
    assert asked.detectors == (one.detector,)


def test_the_command_of_a_choice_is_one_line_for_a_shell():
    one = Candidate(detector("knn", k=7))
    line = command("fit", one, "my caches/c.zarr", "box")
    assert line == "latentood fit 'my caches/c.zarr' --detector knn --set knn.k=7 --unit box"


def test_every_declared_value_can_be_tried_and_the_declarations_span_the_default():
    for name, cls in DETECTORS.known().items():
        for one in hyperparameters_of(cls):
            for value in one.tries:
                assert getattr(detector(name, **{one.name: value}), one.name) == value
            numbers = [v for v in one.tries if isinstance(v, float | int)]
            if numbers and isinstance(one.default, float | int):
                assert min(numbers) <= one.default <= max(numbers), (name, one.name)


@pytest.mark.parametrize(("criterion", "sign"), [("auroc", 1), ("fpr95_ood", -1), ("fpr95_id", -1)])
def test_a_search_is_told_that_low_error_rates_are_good(criterion, sign):
    wish = Wish(criterion=criterion)
    bench = Bench(scenarios(ChoiceSplits(tunable()), wish, Budget(0)), wish)
    one = Candidate(detector("knn", k=5))
    assert bench.evaluate([one]) == {one: sign * bench.trials[one].value}
