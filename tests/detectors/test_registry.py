import json
from importlib.metadata import EntryPoint

import pytest

from latentood.detectors import registry as room
from latentood.detectors.registry import BUILT_IN, detector, detector_table, registry
from latentood.errors import DetectorError, UnknownName


@pytest.fixture
def plugins(monkeypatch):
    """Pretend that packages are installed which register these entry points."""

    def install(**points: str) -> None:
        found = [
            EntryPoint(name, target, room.ENTRY_POINT_GROUP) for name, target in points.items()
        ]
        monkeypatch.setattr(room, "entry_points", lambda group: found)
        registry.cache_clear()

    yield install
    registry.cache_clear()


def test_names_are_unique_and_in_the_order_of_the_tuple():
    assert list(registry()) == [cls.name for cls in BUILT_IN]


def test_an_unknown_detector_names_the_nearest():
    with pytest.raises(UnknownName) as caught:
        detector("mahalanobi")
    assert str(caught.value).startswith(
        "no detector named 'mahalanobi'; did you mean 'mahalanobis'"
    )


def test_a_plugin_is_found_by_its_entry_point(plugins):
    plugins(mine="latentood.detectors.families.neighbours.knn:KNN")
    assert registry()["mine"].__name__ == "KNN"


def test_a_plugin_that_is_no_detector_is_named(plugins):
    plugins(mine="json:dumps")
    with pytest.raises(DetectorError, match=r"^plug-in 'mine': json:dumps must be a subclass of"):
        registry()


def test_a_plugin_cannot_take_a_name_in_use(plugins):
    plugins(knn="latentood.detectors.families.neighbours.knn:KNN")
    with pytest.raises(DetectorError, match=r"^plug-in 'knn': that name is in use by latentood"):
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
