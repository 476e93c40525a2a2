import logging

import pytest
import torch

from latentood.detectors.families.gram import POWERS
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.detectors.statistics.bounds import deviations
from latentood.errors import DetectorError, MissingInput
from latentood.extraction.model import reductions
from latentood.latents import Latents


def rows(gram: torch.Tensor, predicted: list[int], name: str = "rows", **more) -> Latents:
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 3).double()
    return Latents(logits=logits, features={"gram": gram, **more}, name=name)


def test_the_orders_are_those_the_extractor_keeps():
    assert reductions.Gram.orders == POWERS
    assert reductions.Gram10.orders == 2 * POWERS


def test_twice_as_many_orders_begin_with_those_of_gram_and_take_powers_beyond_float32():
    maps = 100 * torch.rand(2, 3, 2, 2)
    ten = reductions.Gram10().apply(maps)
    assert ten.dtype == torch.float32
    assert ten.shape[1:] == reductions.Gram10().shape((3, 2, 2)) == (30,)
    torch.testing.assert_close(ten[:, :15], reductions.Gram().apply(maps))
    raised = maps.double().flatten(2) ** 10
    expected = ((raised @ raised.mT) ** 0.1).sum(dim=2)
    torch.testing.assert_close(ten[:, 27:], expected.float())


def test_layers_of_ten_orders_are_measured_by_all_of_them(blobs):
    def both(arrays, name: str) -> Latents:
        wide = torch.cat([arrays.gram, arrays.gram.square()], dim=1)
        return Latents(logits=arrays.logits, features={"gram": wide}, name=name)

    train, val = both(blobs.train, "train"), both(blobs.id, "val")
    fitted = fit(detector("gram"), train, val)
    assert fitted.state["low0"].shape[1] == 2 * blobs.train.gram.shape[1]
    assert float(fitted.score(val).mean()) == pytest.approx(1.0)


def test_deviation_is_relative_to_the_bound_that_is_passed():
    values = torch.tensor([[1.0, 2.0, 6.0, -4.0]], dtype=torch.float64)
    low = torch.tensor([[2.0, 1.0, 1.0, -2.0]], dtype=torch.float64)
    high = torch.tensor([[3.0, 2.0, 4.0, -1.0]], dtype=torch.float64)
    assert float(deviations(values, low, high)) == pytest.approx(1 / 2 + 0 + 2 / 4 + 2 / 2, 1e-5)


def test_a_unit_that_never_fired_makes_a_large_number_not_an_infinite_one():
    zero = torch.zeros(1, 5, dtype=torch.float64)
    scored = deviations(zero + 1e-3, zero, zero)
    assert float(scored) == pytest.approx(5e3)


def test_every_layer_is_measured_by_its_own_expected_deviation(blobs):
    """A layer that says everything three times over gets no more weight."""

    def every(arrays, name: str) -> Latents:
        g = arrays.gram
        features = {"one": g, "three": g.repeat(1, 3), "other": g.square()}
        return Latents(logits=arrays.logits, features=features, name=name)

    def scores(*layers: str) -> torch.Tensor:
        train, val = every(blobs.train, "train"), every(blobs.id, "val")
        return fit(detector("gram", layers=layers), train, val).score(every(blobs.far, "far"))

    assert torch.allclose(scores("three"), scores("one"))
    assert not torch.allclose(scores("other"), scores("one"), rtol=0.1)
    assert torch.allclose(scores("one", "other"), scores("one") + scores("other"))


def test_the_expected_deviation_of_val_rows_is_one(blobs):
    train, val = blobs.train.latents(), blobs.id.latents("val")
    assert float(fit(detector("gram"), train, val).score(val).mean()) == pytest.approx(1.0)


def test_fit_rows_do_not_deviate(blobs):
    train, val = blobs.train.latents(), blobs.id.latents("val")
    assert fit(detector("gram"), train, val).score(train).max() == 0.0


def test_a_class_no_fit_row_is_predicted_as_gets_the_range_of_all_and_says_so(caplog):
    gram = torch.arange(20, dtype=torch.float64).reshape(4, 5) + 1
    train = rows(gram, [0, 0, 1, 1], "train")
    val = rows(gram[:1] + 40, [0], "val")
    with caplog.at_level(logging.WARNING):
        fitted = fit(detector("gram"), train, val)
    assert "no fit row is predicted as class 2: its range is that of all rows" in caplog.text
    assert fitted.provenance["diagnostics"]["classes_never_predicted"] == [2]
    assert fitted.score(rows(gram, [2, 2, 2, 2])).tolist() == [0.0] * 4
    assert float(fitted.score(rows(gram[:1], [1]))) > 0


def test_val_rows_within_the_range_are_refused(blobs):
    train = blobs.train.latents()
    with pytest.raises(DetectorError) as caught:
        fit(detector("gram"), train, blobs.train.latents("val"))
    assert str(caught.value) == (
        "gram: features/gram must leave its range over the fit rows in some rows of ID val, got "
        'none among 240 of "val"; give more val rows, and none that were fitted on'
    )


def test_a_layer_that_was_only_pooled_is_refused(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("gram", layers=("penultimate",)), blobs.train.latents(), blobs.id.latents())
    assert str(caught.value) == (
        "gram: features/penultimate must hold 5 row sums per channel, or twice as many, got 16 "
        "values; re-run extract with the reduction gram or gram10 for it"
    )


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), r"layers must be names of layers, got \(\); list"),
        ((3,), "each of layers must be of type str, got 3"),
    ],
)
def test_layers_must_be_named(layers, message):
    with pytest.raises(DetectorError, match=f"^gram: {message}"):
        detector("gram", layers=layers)


def test_val_rows_are_needed(blobs):
    with pytest.raises(MissingInput, match=r"^gram: needs 'features/gram', 'logits' of an ID vali"):
        fit(detector("gram"), blobs.train.latents())
