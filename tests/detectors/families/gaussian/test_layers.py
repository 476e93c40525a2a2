import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError, MissingInput
from latentood.evaluation.warnings import warnings_of
from latentood.latents import Latents
from latentood.testing.detector_contract import DetectorContract
from tests.parity.agreement import assert_agrees
from tests.references.registry import REFERENCES

LAYERS = ("penultimate", "mc.entropy/penultimate")


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "uniform"},
        {"fusion": "weighted", "alpha": (0.3, -2)},
        {"fusion": "standardised"},
        {"fusion": "standardised", "ridge": 0.1},
    ],
    ids=str,
)
def test_every_fusion_agrees_with_the_slow_formula(blobs, options):
    assert_agrees(blobs, "mahalanobis_layers", layers=LAYERS, **options)


class TestStandardised(DetectorContract):
    """The contract once more, with two layers and ID val rows."""

    refused = {"one row": DetectorError}  # noqa: RUF012

    @pytest.fixture
    def detector(self):
        return detector("mahalanobis_layers", layers=LAYERS, fusion="standardised")

    @pytest.fixture
    def formula(self):
        return REFERENCES["mahalanobis_layers"]


def test_one_layer_is_mahalanobis(blobs):
    one, plain = (
        fit(detector(name), blobs.train.latents()).score(blobs.far.latents())
        for name in ("mahalanobis_layers", "mahalanobis")
    )
    assert torch.equal(one, plain)


def test_standardised_distances_of_val_rows_have_mean_zero_and_variance_one(blobs):
    val = blobs.id.latents("val")
    for layer in LAYERS:
        chosen = detector("mahalanobis_layers", layers=(layer,), fusion="standardised")
        scores = fit(chosen, blobs.train.latents(), val).score(val)
        assert abs(float(scores.mean())) < 1e-12
        assert abs(float(scores.std(correction=0)) - 1) < 1e-12


def test_ranks_and_weights_are_told_by_layer(blobs):
    chosen = detector("mahalanobis_layers", layers=LAYERS, fusion="weighted", alpha=(1.0, 0.5))
    diagnostics = fit(chosen, blobs.train.rows(slice(12)).latents()).provenance["diagnostics"]
    for layer, alpha in zip(LAYERS, (1.0, 0.5), strict=True):
        facts = {"alpha": alpha, "rank": 8, "width": 16, "classes": 4}
        assert diagnostics[layer].items() >= facts.items()
    assert warnings_of(diagnostics, {}) == tuple(
        f"{layer}: the fit rows span 8 of 16 dimensions: extract more of them" for layer in LAYERS
    )


def test_only_standardising_needs_val_rows(blobs):
    assert detector("mahalanobis_layers").needs().val == ()
    chosen = detector("mahalanobis_layers", fusion="standardised")
    with pytest.raises(MissingInput, match=r"^mahalanobis_layers: needs 'features/penultimate' of"):
        fit(chosen, blobs.train.latents())


def test_val_rows_of_one_distance_cannot_standardise(blobs):
    chosen = detector("mahalanobis_layers", fusion="standardised")
    same = Latents(features={"penultimate": blobs.id.features[:1].repeat(7, 1)}, name="val")
    with pytest.raises(DetectorError) as caught:
        fit(chosen, blobs.train.latents(), same)
    assert str(caught.value) == (
        "mahalanobis_layers: distances at penultimate must vary over the ID val rows to be "
        'standardised, got 7 rows of "val" with one distance; extract more of them or set '
        "fusion=uniform"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ()}, "layers must name different layers, at least one, got (); remove"),
        ({"layers": ("a", "a")}, "layers must name different layers, at least one, got ('a', 'a')"),
        ({"alpha": (1.0,)}, "alpha must be 0 numbers for fusion=uniform of 1 layers, got"),
        ({"fusion": "weighted"}, "alpha must be 1 numbers for fusion=weighted of 1 layers"),
        ({"fusion": "weighted", "alpha": (float("nan"),)}, "each of alpha must be finite, got nan"),
        ({"fusion": "weighted", "alpha": ("1",)}, "each of alpha must be of type float, got '1'"),
    ],
)
def test_layers_and_weights_that_do_not_fit_are_named(options, message):
    with pytest.raises(DetectorError) as caught:
        detector("mahalanobis_layers", **options)
    assert str(caught.value).startswith(f"mahalanobis_layers: {message}")


def test_messages_of_a_layer_speak_for_the_fusion():
    train = Latents(
        features={"penultimate": torch.full((6, 3), 0.1)},
        labels=torch.zeros(6, dtype=torch.int64),
        name="train",
    )
    with pytest.raises(DetectorError, match=r"^mahalanobis_layers: features/penultimate must vary"):
        fit(detector("mahalanobis_layers"), train)
