"""Which stores are one model, which rows are the same, and how two models are compared."""

from dataclasses import replace

import numpy as np
import pytest

import latentood as lo
from latentood.errors import ConfigError
from latentood.evaluation.inputs.overlap import hashes_of
from latentood.evaluation.pairing import Scored, compare_models, models_of, why_unpaired
from latentood.evaluation.truth import Boxes
from tests.test_workflow_comparing import store


def scored(name, **options):
    given = store(**options)
    comparison = lo.score(given, detectors="msp", device="cpu")
    hashes = {one.name: hashes_of(given, one.name) for one in comparison.splits}
    return Scored(name, comparison, hashes)


def with_truth(one, split, **changes):
    splits = tuple(
        replace(each, truth=replace(each.truth, **changes)) if each.name == split else each
        for each in one.comparison.splits
    )
    return replace(one, comparison=replace(one.comparison, splits=splits))


def test_rows_are_the_same_where_inputs_truth_and_images_are():
    one, other = scored("a"), scored("b", seed=1)
    assert why_unpaired(one, other, "close") == ""
    turned = with_truth(other, "close", ood=np.zeros(90, np.uint8))
    assert why_unpaired(one, turned, "close") == "other images, or other truth"
    moved = with_truth(other, "close", image=np.arange(90)[::-1])
    assert why_unpaired(one, moved, "close") == "other images, or other truth"
    fewer = with_truth(other, "close", image=np.arange(80), ood=np.ones(80, np.uint8))
    assert why_unpaired(one, fewer, "close") == "other images, or other truth"
    assert why_unpaired(one, with_truth(other, "close", boxes=Boxes(*[None] * 4)), "close") == ""
    unknown = replace(other, hashes={**other.hashes, "close": None})
    assert why_unpaired(one, unknown, "close") == "the inputs have no digests"


def test_the_seed_must_be_another_one_and_known_to_be_all_that_differs():
    one, other = scored("a"), scored("b", seed=1)
    assert len(models_of([one, replace(other, seed=1)])) == 2
    one, other = (replace(each, repeats="same") for each in (one, other))
    assert len(models_of([one, other])) == 2
    assert len(models_of([replace(one, seed=0), replace(other, seed=1)])) == 1
    third = [replace(one, seed=0), replace(other, seed=1), replace(other, name="c", seed=1)]
    assert [len(model.stores) for model in models_of(third)] == [2, 1]


def test_intervals_of_unpaired_rows_are_joined_by_their_squares():
    compared = compare_models([scored("a"), scored("b", seed=1, hashes=False)])
    lines = {(line.model, line.of, line.metric): line for line in compared.lines}
    for (model, of, metric), line in lines.items():
        if model == "b":
            one, gap = lines["a", of, metric], line.gap
            below = np.hypot(line.value - line.low, one.high - one.value)
            above = np.hypot(line.high - line.value, one.value - one.low)
            assert gap.value == line.value - one.value
            assert (gap.low, gap.high) == pytest.approx(
                (max(gap.value - below, -1), min(gap.value + above, 1))
            )
            assert (gap.p_value < 0.05) == (not gap.low <= 0 <= gap.high)


def test_the_mean_weighs_roles_and_its_interval_is_never_too_narrow():
    one = scored("a")
    compared = compare_models([one, scored("b", seed=1)])
    averages = one.comparison.results[0].averages
    (line,) = (
        line for line in compared.lines
        if (line.model, line.of, line.metric) == ("a", "mean", "auroc")
    )  # fmt: skip
    for name, value in (("auroc", line.value), ("auroc_low", line.low), ("auroc_high", line.high)):
        expected = np.mean([getattr(averages[role], name) for role in ("near", "far")])
        assert value == pytest.approx(expected)


def test_a_single_row_is_compared_without_a_paired_test():
    given = [scored("a"), scored("b", seed=1)]
    rows = tuple(replace(row, n_ood=1) for row in given[0].comparison.results[0].rows)
    result = replace(given[0].comparison.results[0], rows=rows)
    given[0] = replace(given[0], comparison=replace(given[0].comparison, results=(result,)))
    assert not any(line.gap.paired for line in compare_models(given).lines if line.gap)


def test_without_a_detector_in_common_the_first_reason_is_given():
    one, other = scored("a"), scored("b", seed=1)
    other = replace(other, comparison=replace(other.comparison, results=()))
    with pytest.raises(ConfigError, match=r"got none; the first: was not scored"):
        compare_models([one, other])
