"""Names, globs and grids become detectors."""

import pytest
import torch

from latentood.detectors.families.monte_carlo import FeatureVariance
from latentood.detectors.registry import DETECTORS
from latentood.errors import ConfigError, DetectorError, MissingInput, UnknownName
from latentood.evaluation.inputs.request import select
from latentood.latents import Latents
from latentood.latents.splits import SplitsInMemory
from tests.evaluation.examples import (
    STAND_INS,
    Broken,
    Calibrated,
    Distance,
    Entropic,
    Peak,
    splits,
)


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch):
    monkeypatch.setattr(DETECTORS, "known", lambda: STAND_INS)


@pytest.fixture(scope="module")
def data():
    return splits()


def test_all_means_every_detector_at_its_own_layer(data):
    selection = select(splits=data)
    assert selection.detectors == (
        Distance(), Peak(), Entropic(layer="mc.entropy/layer1"), Calibrated(), Broken(),
    )  # fmt: skip
    assert selection.skipped == ()


def test_names_may_be_a_list_or_commas_and_count_once(data):
    assert select("peak, distance,peak", splits=data).detectors == (Peak(), Distance())
    assert select(["peak", "distance"], splits=data).detectors == (Peak(), Distance())


def test_globs_choose_layers_for_detectors_that_can_look_at_any(data):
    chosen = select("distance,peak", layers="layer*,penultimate", splits=data).detectors
    assert chosen == (Distance(layer="layer1"), Distance(layer="penultimate"), Peak())


def test_a_star_means_features_and_entropies_have_to_be_named(data):
    star = select("distance", layers="*", splits=data).detectors
    assert [one.key for one in star] == ["features/layer1", "features/penultimate"]
    named = select("distance", layers="mc.entropy/*", splits=data).detectors
    assert [one.key for one in named] == ["mc.entropy/layer1"]


def test_detectors_of_passes_look_at_the_layers_that_were_followed(monkeypatch):
    known = {"mcd_feature_variance": FeatureVariance}
    monkeypatch.setattr(DETECTORS, "known", lambda: known)
    draw = torch.Generator().manual_seed(0)

    def rows(name):
        passes = {layer: torch.randn(8, 4, 3, generator=draw) for layer in ("layer1", "layer3")}
        still = {layer: values[:, 0] for layer, values in passes.items()} | {
            "stem": torch.randn(8, 3, generator=draw)
        }
        logits = torch.randn(8, 2, generator=draw)
        return Latents(logits=logits, features=still, mc_features=passes, name=name)

    data = SplitsInMemory.of(
        train=("fit", rows("train")), id=("id", rows("id")), far=("far", rows("far"))
    )
    for globs, layers in ((None, ["layer1", "layer3"]), ("layer3", ["layer3"]), ("*1", ["layer1"])):
        chosen = select("all", layers=globs, splits=data).detectors
        assert [one.layer for one in chosen] == layers
    with pytest.raises(MissingInput, match="looks at one of layer1, layer3, but --layers has stem"):
        select("all", layers="stem", splits=data)


def test_detectors_of_entropies_take_the_same_globs(data):
    for glob in ("layer1", "mc.entropy/layer1", "*"):
        chosen = select("entropic", layers=glob, splits=data).detectors
        assert [one.key for one in chosen] == ["mc.entropy/layer1"]


def test_a_list_of_values_is_a_grid(data):
    settings = ["distance.power=1,2.5", "distance.layer=[layer1, penultimate]"]
    chosen = select("distance", settings=settings, splits=data).detectors
    assert [(one.power, one.layer) for one in chosen] == [
        (1, "layer1"), (1, "penultimate"), (2.5, "layer1"), (2.5, "penultimate"),
    ]  # fmt: skip


def test_brackets_are_one_value_where_the_hyperparameter_is_a_sequence(data):
    chosen = select("distance", settings=["distance.weights=[1, 2],[3]"], splits=data).detectors
    assert [one.weights for one in chosen] == [(1, 2), (3,)]


def test_an_exponent_without_a_point_is_a_number(data):
    chosen = select("distance", settings=["distance.power=1e-3"], splits=data).detectors
    assert [one.power for one in chosen] == [0.001]


def test_a_glob_and_a_grid_multiply(data):
    chosen = select("distance", layers="*", settings=["distance.power=1,2"], splits=data).detectors
    assert len(chosen) == 4


def test_all_skips_what_lacks_its_inputs_and_says_why():
    selection = select("all", splits=splits(entropy=False, val=False))
    assert [one.name for one in selection.detectors] == ["distance", "peak", "broken"]
    reasons = {one.request.detector: one.reason for one in selection.skipped}
    assert "re-run extract with monte_carlo" in reasons["entropic"]
    assert "add one to the pipeline, e.g. val: {role: val" in reasons["calibrated"]


@pytest.mark.parametrize(
    ("names", "settings", "named"),
    [
        ("all", [], []),
        ("all,peak", [], ["peak"]),
        ("all", ["distance.power=2"], ["distance"]),
        ("peak,distance", [], ["peak", "distance"]),
    ],
)
def test_what_only_all_stands_for_may_be_left_out_later(data, names, settings, named):
    selection = select(names, settings=settings, splits=data)
    optional = {one.name for one in selection.optional}
    assert {one.name for one in selection.detectors} - optional == set(named)
    assert optional.isdisjoint(named)


def test_all_skips_detectors_without_a_layer_that_was_asked_for(data):
    selection = select("all", layers="penultimate", splits=data)
    assert [one.request.detector for one in selection.skipped] == ["entropic"]


def test_named_explicitly_a_missing_input_is_an_error():
    data = splits(entropy=False)
    with pytest.raises(MissingInput, match=r"^entropic: needs 'mc.entropy/penultimate'"):
        select("entropic,peak", splits=data)


def test_named_explicitly_a_missing_layer_is_an_error(data):
    message = (
        r"^entropic: looks at one of mc\.entropy/layer1, but --layers has penultimate; "
        "add one of them or leave out entropic"
    )
    with pytest.raises(MissingInput, match=message):
        select("entropic", layers="penultimate", splits=data)


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        ("distanc", {}, UnknownName, r"^no detector named 'distanc'; did you mean 'distance'"),
        (
            "distance",
            {"layers": "layr1"},
            UnknownName,
            r"^no cached layer named 'layr1'; did you mean 'layer1'",
        ),
        (
            "distance",
            {"settings": ["distance.powr=2"]},
            UnknownName,
            r"^no hyperparameter of distance named 'powr'; did you mean 'power'\?",
        ),
        (
            "distance",
            {"settings": ["distanc.power=2"]},
            UnknownName,
            r"^no detector named 'distanc'; did you mean 'distance'",
        ),
        (
            "distance",
            {"settings": ["peak.power=2"]},
            ConfigError,
            r"^--set peak\.power=2: peak must be among the detectors to score, got distance; ",
        ),
        (
            "distance",
            {"settings": ["power=2"]},
            ConfigError,
            r"must be DETECTOR\.HYPERPARAMETER=VALUE, e\.g\. --set knn\.k=10,50",
        ),
        (
            "distance",
            {"settings": ["distance.power="]},
            ConfigError,
            "must have a value in YAML, e.g. 50 or 10,50",
        ),
        (
            "all",
            {"settings": ["distance.power=-1"]},
            DetectorError,
            r"^distance: power must be > 0, got -1",
        ),
        ("", {}, ConfigError, "must be all or names separated by commas, got none"),
    ],
)
def test_what_cannot_be_selected_names_what_can(data, names, options, error, message):
    with pytest.raises(error, match=message):
        select(names, splits=data, **options)


def test_all_is_an_error_where_nothing_at_all_can_be_scored(data, monkeypatch):
    monkeypatch.setattr(DETECTORS, "known", lambda: {"calibrated": Calibrated})
    message = "^score: no detector finds all it reads; the first: calibrated: needs a split of role"
    with pytest.raises(MissingInput, match=message):
        select("all", splits=splits(val=False))


def test_layers_that_no_detector_can_use_are_warned_about(data, caplog):
    select("peak", layers="layer1", splits=data)
    assert "none of these detectors can look at another layer" in caplog.text
