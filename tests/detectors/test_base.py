import pytest

from latentood.detectors.registry import detector, registry
from latentood.errors import ConfigError, DetectorError, UnknownName


@pytest.mark.parametrize("name", registry())
def test_hyperparameters_come_back_as_they_were_given(name):
    first = detector(name)
    assert detector(name, **first.hyperparameters()) == first
    assert hash(detector(name)) == hash(first)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("knn", {"k": 0}, "knn: k must be ≥ 1, got 0"),
        ("knn", {"k": 1.5}, "knn: k must be of type int, got 1.5"),
        ("knn", {"k": True}, "knn: k must be of type int, got True"),
        ("knn", {"share": 0.0}, "knn: share must be > 0, got 0.0"),
        ("knn", {"share": 1.1}, "knn: share must be ≤ 1, got 1.1"),
        ("knn", {"normalise": 1}, "knn: normalise must be of type bool, got 1"),
        (
            "she",
            {"similarity": "dot"},
            "she: similarity must be one of ['inner', 'cosine', 'euclidean'], got 'dot'",
        ),
        ("energy", {"temperature": 0}, "energy: temperature must be > 0, got 0"),
        ("larem", {"ridge": float("nan")}, "larem: ridge must be finite, got nan"),
        ("energy", {"temperature": float("inf")}, "energy: temperature must be finite, got inf"),
    ],
)
def test_a_hyperparameter_outside_its_range_is_named(name, options, message):
    with pytest.raises(DetectorError) as caught:
        detector(name, **options)
    assert str(caught.value) == message


def test_an_unknown_hyperparameter_names_the_nearest():
    with pytest.raises(UnknownName, match="no hyperparameter of knn named 'normalize'; did you"):
        detector("knn", normalize=True)


def test_a_detector_cannot_be_changed():
    with pytest.raises(AttributeError):
        detector("knn").k = 3


def test_entropies_may_be_named_by_the_layer_or_by_the_source():
    by_layer = detector("knn", layer="mc.entropy/layer3")
    assert by_layer == detector("knn", layer="layer3", source="mc.entropy")
    assert by_layer.key == "mc.entropy/layer3"
    assert by_layer.hyperparameters()["layer"] == "mc.entropy/layer3"
    assert "source" not in by_layer.hyperparameters()
    assert detector("knn", layer="features/layer3").hyperparameters()["layer"] == "layer3"
    larem = detector("larem", layer="layer3")
    assert larem.hyperparameters()["layer"] == "mc.entropy/layer3"
    assert detector("larem", **larem.hyperparameters()) == larem


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("mc.entropies/layer3", "no array can be called 'mc.entropies/layer3'; did you mean"),
        ("mc.logits/layer3", "no array can be called 'mc.logits/layer3'"),
        ("scores/odin", "knn: source must be one of ['features', 'mc.entropy'], got 'scores'"),
    ],
)
def test_a_layer_that_is_no_layer_is_refused(layer, message):
    with pytest.raises((ConfigError, DetectorError)) as caught:
        detector("knn", layer=layer)
    assert str(caught.value).startswith(message)
