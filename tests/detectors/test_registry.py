import json
from importlib.metadata import EntryPoint

import pytest

from latentood.detectors.base import Detector
from latentood.detectors.registry import DETECTORS, detector, detector_table, registry
from latentood.errors import DetectorError, UnknownName


class Bare(Detector):
    """A detector whose author forgot the decorator."""

    name = "bare"


@pytest.fixture
def plugins(monkeypatch):
    """Pretend that packages are installed which register these entry points."""

    def install(**points: str) -> None:
        listed = [EntryPoint(name, target, DETECTORS.group) for name, target in points.items()]
        points_of = {DETECTORS.group: listed}
        monkeypatch.setattr(
            "latentood.plugins.entry_points", lambda group: points_of.get(group, [])
        )
        monkeypatch.setattr(DETECTORS, "_known", None)

    return install


def test_names_are_those_of_the_classes_and_in_the_order_of_the_families():
    assert list(registry()) == list(DETECTORS.built_in)
    assert [cls.name for cls in registry().values()] == list(registry())
    families = [cls.family for cls in registry().values()]
    assert list(dict.fromkeys(families))[:4] == ["logits", "shaping", "gaussian", "subspace"]


def test_an_unknown_detector_names_the_nearest():
    with pytest.raises(UnknownName) as caught:
        detector("mahalanobi")
    assert str(caught.value).startswith(
        "no detector named 'mahalanobi'; did you mean 'mahalanobis'"
    )


def test_a_plugin_is_found_by_its_entry_point(plugins):
    plugins(shift="tests.detectors.test_fitted:Shift")
    assert registry()["shift"].__name__ == "Shift"
    assert detector("shift", returned="float32").returned == "float32"


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        (
            "mine",
            "latentood.detectors.families.neighbours.knn:KNN",
            "must be the name of its class, got",
        ),
        ("mine", "json:nothing", "json:nothing must be importable"),
        ("bare", "tests.detectors.test_registry:Bare", ".* decorated with latentood.plugin"),
        ("mine", "json:dumps", "json:dumps must be a subclass of"),
        (
            "knn",
            "latentood.detectors.families.neighbours.knn:KNN",
            "must have a name that is not in use, but latentood",
        ),
    ],
    ids=["another name", "no import", "not decorated", "no detector", "name in use"],
)
def test_a_plugin_that_cannot_be_used_is_named(plugins, name, target, message):
    plugins(**{name: target})
    with pytest.raises(DetectorError, match=rf"^plug-in '{name}': {message}"):
        registry()


def test_the_table_tells_all_there_is_to_know():
    table = {row["name"]: row for row in detector_table()}
    assert list(table) == list(registry())
    knn = table["knn"]
    assert knn["family"] == "neighbours"
    assert knn["needs"] == {
        "score": ("features/penultimate",), "fit": ("features/penultimate",), "val": (),
    }  # fmt: skip
    assert knn["per_layer"]
    assert not table["msp"]["per_layer"]
    options = {option["name"]: option for option in knn["hyperparameters"]}
    assert options["k"] == {
        "name": "k",
        "default": 50,
        "range": "int ≥ 1",
        "doc": "which neighbour: 50 for CIFAR-10, 200 for CIFAR-100, 1000 for ImageNet",
    }
    assert options["share"]["range"] == "float > 0 and ≤ 1"
    assert options["engine"]["range"] == "auto | faiss | torch"
    assert options["layer"]["range"] == "str"


def test_every_row_of_the_table_is_complete_and_can_be_written_as_json():
    for row in json.loads(json.dumps(detector_table())):
        texts = [row[part] for part in ("summary", "paper", "works", "fails", "cost")]
        texts += [option["doc"] for option in row["hyperparameters"]]
        assert all(texts), row["name"]
        assert row["summary"].endswith("."), row["name"]
