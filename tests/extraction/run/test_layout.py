"""What a cache will hold: where its numbers come from, and the arrays of every split."""

import platform
from importlib.metadata import version

import pytest

from latentood.extraction.run.job import prepare
from latentood.extraction.run.layout import origin_of
from latentood.latents.facts import digest
from tests.extraction.run.test_runner import NETS, pipeline


def test_an_origin_names_all_that_the_numbers_depend_on_and_nothing_else():
    origin = origin_of(pipeline(), "ab12", 50)
    assert origin.fingerprint == {
        "model": {"target": f"{NETS}.OwnDropout", "args": {}},
        "weights": "ab12",
        "output": None,
        "head": None,
        "monte_carlo.passes": 4,
        "monte_carlo.insert": None,
        "monte_carlo.activate": True,
        "transform": None,
        "seed": 0,
        "dtype": "float32",
        "keep_bits": None,
        "autocast": None,
    }
    assert origin.digest == digest(origin.fingerprint)
    assert origin.pipeline == pipeline().model_dump(mode="json")


def test_without_passes_their_fields_are_empty():
    fingerprint = origin_of(pipeline(monte_carlo=None), "", 50).fingerprint
    passes = {field: value for field, value in fingerprint.items() if "monte_carlo" in field}
    assert passes == dict.fromkeys(passes)
    assert len(passes) == 3


def test_compilation_is_part_of_the_origin_only_where_it_is_used():
    assert origin_of(pipeline(extract__compile=True), "", 50).fingerprint["compile"] is True


@pytest.mark.parametrize(("asked", "kept"), [("auto", 50), (None, None), (5, 5)])
def test_a_batch_size_is_kept_as_it_was_asked_for_or_timed(asked, kept):
    origin = origin_of(pipeline(extract__batch_size=asked), "", 50)
    assert origin.pipeline["extract"]["batch_size"] == kept


def test_the_versions_of_what_computes_and_stores_are_recorded():
    packages = ("latentood", "torch", "torchvision", "numpy", "zarr", "numcodecs")
    versions = {package: version(package) for package in packages}
    assert origin_of(pipeline(), "", 50).versions == {
        **versions,
        "python": platform.python_version(),
    }


def test_every_array_is_laid_out_with_how_it_is_made():
    wanted = pipeline(layers=["conv1", {"conv2": "mean+std"}, "penultimate"])
    spec = prepare(wanted).specs["id"]
    assert (spec.name, spec.role, spec.rows, spec.block_rows, spec.groups) == (
        "id", "id", 23, 16, 1,
    )  # fmt: skip
    assert [(array.key, array.tail, array.dtype, array.how) for array in spec.arrays] == [
        ("ids", (2,), "uint8", ""),
        ("hashes", (), "int64", ""),
        ("labels", (), "int64", ""),
        ("logits", (4,), "float32", ""),
        ("features/conv1", (6,), "float32", "mean"),
        ("features/conv2", (12,), "float32", "mean+std"),
        ("features/penultimate", (6,), "float32", "mean"),
        ("mc.logits", (4, 4), "float32", ""),
        ("mc.features/conv2", (4, 12), "float32", "mean+std"),
        ("mc.features/penultimate", (4, 6), "float32", "mean"),
        ("mc.entropy/conv2", (12,), "float32", "mean+std"),
        ("mc.entropy/penultimate", (6,), "float32", "mean"),
    ]
    assert all(array.keep_bits is None for array in spec.arrays)
    assert spec.data == {
        "target": f"{NETS}.Images",
        "transform": None,
        "fingerprint": prepare(wanted).inputs["id"].fingerprint(),
    }


def test_a_split_without_labels_or_with_few_rows_has_none_and_one_block():
    spec = prepare(pipeline(), limit=3).specs["far"]
    assert (spec.rows, spec.block_rows, spec.blocks) == (3, 3, 1)
    assert "labels" not in [array.key for array in spec.arrays]


def test_dtype_and_bits_are_those_of_the_pipeline_but_for_rows_and_scores():
    changes = {"extract__dtype": "float16", "extract__keep_bits": 5, "scores": ["odin"]}
    spec = prepare(pipeline(**changes)).specs["id"]
    kept = {array.key: (array.dtype, array.keep_bits) for array in spec.arrays}
    assert kept.pop("ids") == ("uint8", None)
    assert kept.pop("hashes") == ("int64", None)
    assert kept.pop("labels") == ("int64", None)
    assert kept.pop("logits") == ("float16", None)
    assert kept.pop("scores/odin") == ("float64", None)
    assert set(kept.values()) == {("float16", 5)}
