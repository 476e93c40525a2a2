"""Detectors fitted on one cache and scored on another."""

from dataclasses import replace

import numpy as np
import pytest

from latentood.detectors.fitted import fit, load
from latentood.detectors.registry import detector
from latentood.errors import ConfigError, FingerprintMismatch
from latentood.evaluation.inputs.transfer import admit, with_origin
from latentood.evaluation.scoring import score_all
from latentood.latents.facts import Origin, SplitFacts
from latentood.latents.splits import SplitsInMemory
from latentood.store.cache import open_cache
from latentood.workflows import extract
from tests.evaluation.examples import latents, splits
from tests.extraction.run.test_runner import pipeline

FINGERPRINT = {
    "model": {"target": "nets.small", "args": {}},
    "weights": "a1" * 32,
    "head": "auto",
    "monte_carlo.passes": None,
    "monte_carlo.insert": None,
    "monte_carlo.activate": None,
    "transform": None,
    "seed": 7,
    "dtype": "float32",
}


def cache(*, fit_rows=True, data="t" * 64, layers=("layer1", "penultimate"), how="mean", **changes):
    """Splits as of a cache with this fingerprint and these layers."""
    made = splits()
    reductions = {f"features/{layer}": how for layer in layers}
    roles = {name: replace(role, made=reductions) for name, role in made.splits.items()}
    roles["train"] = SplitFacts("fit", {"fingerprint": data}, reductions)
    if not fit_rows:
        roles = {name: role for name, role in roles.items() if role.role not in ("fit", "val")}
    header = Origin(fingerprint=FINGERPRINT | changes)
    rows = {name: made.latents[name] for name in roles}
    return SplitsInMemory(rows, roles, header)


@pytest.fixture
def fitted():
    here = cache()
    return with_origin(fit(detector("mahalanobis"), here["train"]), here)


def test_a_fitted_detector_scores_a_cache_without_a_fit_split(fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    comparison = score_all(cache(fit_rows=False), fitted=[load(tmp_path / "m.safetensors")])
    whole = score_all(cache(), [detector("mahalanobis")])
    (there,), (here,) = comparison.results, whole.results
    for split in here.scores:
        np.testing.assert_array_equal(there.scores[split], here.scores[split])
    assert there.rows[0].auroc == here.rows[0].auroc
    assert there.provenance["cache"]["fingerprint"]["weights"] == "a1" * 32
    assert there.warnings == ()


def test_fitted_and_new_detectors_are_compared_together(fitted):
    comparison = score_all(cache(), [detector("knn", k=5)], fitted=[fitted])
    assert [result.request.detector for result in comparison.results] == ["knn", "mahalanobis"]


def test_to_fit_there_must_be_a_fit_split():
    with pytest.raises(ConfigError, match="needs exactly one split of role fit"):
        score_all(cache(fit_rows=False), [detector("mahalanobis")])


def test_nothing_to_score_is_an_error():
    with pytest.raises(ConfigError, match="must have at least one detector, got none; name one"):
        score_all(cache())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"weights": "b2" * 32}, "weights is 'a1a1a1a1a1a1a1a1' there and 'b2b2b2b2b2b2b2b2' here"),
        ({"transform": {"target": "crop"}}, "transform is None there and {'target': 'crop'} here"),
        ({"model": {"target": "nets.big"}}, "model is "),
        (
            {"how": "max"},
            "layers: the reduction of penultimate is 'mean' there and 'max' here",
        ),
    ],
)
def test_another_run_is_refused_in_one_sentence_that_names_the_field(fitted, changes, field):
    with pytest.raises(FingerprintMismatch) as caught:
        score_all(cache(**changes), fitted=[fitted])
    message = str(caught.value)
    assert message.startswith(
        f"mahalanobis: must score a cache of the run it was fitted on, but {field}"
    )
    assert message.endswith("here; fit it on this cache, or add --any-cache")


def test_any_cache_turns_the_refusal_into_a_warning(fitted):
    comparison = score_all(cache(weights="b2" * 32), fitted=[fitted], any_cache=True)
    assert comparison.results[0].warnings == ("weights differs between the fit and this cache",)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": 8}, "seed is 7 in the fit and 8 here"),
        ({"dtype": "float16"}, "dtype is 'float32' in the fit and 'float16' here"),
        (
            {"data": "u" * 64},
            "the fit split of this cache holds other data than the detector was fitted on",
        ),
    ],
)
def test_equal_weights_with_other_data_are_a_warning(fitted, changes, sentence):
    assert score_all(cache(**changes), fitted=[fitted]).results[0].warnings == (sentence,)


def test_layers_that_are_not_read_may_differ(fitted):
    assert admit(fitted, cache(layers=["penultimate"])).provenance["warnings"] == []


def test_passes_matter_to_those_that_read_them(fitted):
    here = cache()
    reader = replace(fitted, detector=detector("mahalanobis", layer="mc.entropy/layer1"))
    there = cache(**{"monte_carlo.passes": 8})
    with pytest.raises(FingerprintMismatch, match="but monte_carlo is None there and"):
        admit(reader, there)
    assert admit(reader, here).provenance["warnings"] == []
    assert admit(fitted, there).provenance["warnings"][0].startswith("monte_carlo is None in the")


def test_a_detector_fitted_in_memory_is_scored_with_a_warning():
    alone = fit(detector("mahalanobis"), latents(120, 0.0, 0, name="train"))
    assert score_all(cache(), fitted=[alone]).results[0].warnings == (
        "the file does not say which cache the detector was fitted on",
    )


def test_a_cache_without_the_layer_fails_that_detector_alone(fitted):
    lacking = cache()
    rows = {
        name: part.take(["logits", "labels"], 0, len(part))
        for name, part in lacking.latents.items()
    }
    poor = replace(lacking, latents=rows)
    comparison = score_all(poor, [detector("msp")], fitted=[fitted])
    assert [result.request.detector for result in comparison.results] == ["msp"]
    assert comparison.failed[0].reason.startswith("mahalanobis: needs 'features/penultimate', but ")


def test_caches_on_disk_record_their_passes_and_reductions(tmp_path):
    def extracted(name, **changes):
        extract(pipeline(**changes), tmp_path / name)
        return open_cache(tmp_path / name)

    here = extracted("here")
    others = {
        "layers: the reduction of conv1 is 'mean' there and 'max' here": extracted(
            "max", layers=[{"conv1": "max"}, "conv2", "penultimate"]
        ),
        "monte_carlo is ": extracted("more", monte_carlo__passes=6),
    }
    reduced, passes = (
        with_origin(fit(detector(name, layer=layer), here["train"]), here)
        for name, layer in (("ssd", "conv1"), ("larem", "conv2"))
    )
    for fitted, (field, other) in zip((reduced, passes), others.items(), strict=True):
        assert admit(fitted, here).provenance["warnings"] == []
        with pytest.raises(FingerprintMismatch, match=f"fitted on, but {field}"):
            admit(fitted, other)
    assert admit(passes, others.popitem()[1], any_cache=True).provenance["warnings"]
    unread = with_origin(fit(detector("ssd", layer="conv2"), here["train"]), here)
    assert admit(unread, others.popitem()[1]).provenance["warnings"] == []
