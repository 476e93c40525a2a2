"""What is said of numbers that should not be trusted as they stand."""

import numpy as np
import pytest

from latentood.evaluation.scoring import score_all
from latentood.evaluation.warnings import few_rows, tie_rate, warnings_of
from latentood.report.results import as_json
from tests.evaluation.examples import Distance, splits


@pytest.mark.parametrize("levels", [1, 3, 50, 10**6])
def test_the_tie_rate_is_that_of_all_pairs(levels):
    draw = np.random.default_rng(0)
    ids, oods = draw.integers(levels, size=70) / 7, draw.integers(levels, size=90) / 7
    assert tie_rate(ids, oods) == pytest.approx((ids[:, None] == oods).mean())


def test_nothing_is_said_of_what_is_sound():
    diagnostics = {"rank": 8, "width": 8, "recall": 0.99, "condition": 100.0, "bank": 5}
    assert warnings_of(diagnostics, {"noise": 0.01}) == ()


@pytest.mark.parametrize(
    ("diagnostics", "ties", "sentence"),
    [
        (
            {"rank": 5, "width": 8},
            {},
            "the fit rows span 5 of 8 dimensions: extract more of them",
        ),
        ({"recall": 0.9}, {}, "the index finds 90.0% of the true neighbours: raise effort"),
        (
            {"condition": 3e13},
            {},
            "the covariance has a condition number of 3.0e+13: raise ridge above 1e-6",
        ),
        (
            {},
            {"noise": 0.02, "close": 0.001},
            "2.0% of the pairs of an ID and a noise row have the same score",
        ),
        (
            {"knn": {"recall": 0.5}},
            {},
            "knn: the index finds 50.0% of the true neighbours: raise effort",
        ),
    ],
)
def test_what_is_suspicious_is_one_sentence(diagnostics, ties, sentence):
    assert warnings_of(diagnostics, ties) == (sentence,)


def test_results_carry_tie_rates_and_warnings():
    comparison = score_all(splits(), [Distance(), Distance(power=1e-300)])
    sound, flat = comparison.results
    assert sound.warnings == ()
    assert set(sound.provenance["ties"]) == {"close", "noise", "texture"}
    assert "100.0% of the pairs of an ID and a noise row have the same score" in flat.warnings
    written = as_json(comparison)["fitted"][1]["provenance"]
    assert written["warnings"] == list(flat.warnings)
    assert as_json(comparison)["provenance"]["memory"]["budget"] >= 0


def test_splits_of_too_few_rows_are_named():
    one, many = few_rows([("a", 1), ("b", 19), ("c", 20)])
    assert one.startswith("a has 1 row, and FPR95 needs 20 or more")
    assert many.startswith("b has 19 rows, and")


def test_a_comparison_warns_of_its_splits():
    comparison = score_all(splits(sizes=(120, 60, 90, 1, 50)), [Distance()])
    (sentence,) = comparison.warnings
    assert sentence.startswith("close has 1 row, ")
    assert as_json(comparison)["warnings"] == [sentence]
