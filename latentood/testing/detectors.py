"""What every detector must do, as a class of tests.

A package that brings its own detector subclasses :class:`DetectorContract`, overrides the
fixture ``detector`` and, if it has a slow formula, the fixture ``formula``.
"""

import copy
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from latentood.detectors import fitting
from latentood.detectors.base import Detector
from latentood.detectors.fitted import Fitted, fit, load
from latentood.errors import DataError, DetectorError, LatentOODError, MissingInput
from latentood.latents import HEAD, LABELS, Latents
from latentood.testing.blobs import Arrays, Blobs, as_numpy, auroc, make_blobs

Formula = Callable[[Any, Any, Any, bool], np.ndarray]

FOUR_FACTS = re.compile(r"^.+: .+ must .+, got .+; .+$")
RELATIVE = 1e-9


class Spy(Latents):
    """Latents that fail when an array is read that was not declared."""

    declared: tuple[str, ...] = ()

    def read(self, key: str, start: int, stop: int) -> torch.Tensor:
        assert key in self.declared, f"{key} was read without being declared"
        return super().read(key, start, stop)

    @property
    def head(self) -> tuple[torch.Tensor, torch.Tensor]:
        assert HEAD in self.declared, "the head was read without being declared"
        return super().head


def spied(latents: Latents, declared: tuple[str, ...]) -> Spy:
    """The same rows, watched."""
    spy = Spy.from_rows(latents._rows, head=latents._head, name=latents.name)
    spy.declared = declared
    return spy


def only(latents: Latents, keys: tuple[str, ...]) -> Latents:
    """The same rows with some arrays alone."""
    return latents.take(keys, 0, len(latents))


def fit_arrays(train: Arrays, val: Arrays) -> dict[str, Any]:
    """What a slow formula gets to fit on: the fit arrays, and under ``val`` those of ID val."""
    return train.numpy() | {"val": val.numpy()}


def assert_close(scores: torch.Tensor, expected: np.ndarray, relative: float = RELATIVE) -> None:
    """Equal up to rounding, relative to the size of the scores."""
    found = as_numpy(scores)
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() <= relative * max(1e-2, np.abs(expected).max())


@pytest.fixture(scope="session")
def blobs() -> Blobs:
    return make_blobs()


class DetectorContract:
    """The tests every registered detector must pass."""

    refused: ClassVar[dict[str, type[LatentOODError]]] = {}
    """Case → the error that is its right answer; a case not named here must give right scores."""

    otherwise: str = ""
    """Why far blobs need not score above ID ones, where that is so."""

    @pytest.fixture
    def detector(self) -> Detector:
        raise NotImplementedError("override: give the detector to test")

    @pytest.fixture
    def formula(self) -> Formula | None:
        return None

    @pytest.fixture
    def fitted(self, detector: Detector, blobs: Blobs) -> Fitted:
        return fit(detector, blobs.train.latents(), blobs.id.latents("val"))

    def check(self, case, detector, formula, train: Arrays, rows: Arrays, val: Arrays) -> None:
        """Scores equal the slow formula, or the expected error is raised and well worded."""
        if error := self.refused.get(case):
            with pytest.raises(error) as caught:
                fit(detector, train.latents(), val.latents("val")).score(rows.latents("rows"))
            assert FOUR_FACTS.match(str(caught.value)), str(caught.value)
            return
        scores = fit(detector, train.latents(), val.latents("val")).score(rows.latents("rows"))
        assert bool(scores.isfinite().all())
        if formula is not None:
            assert_close(scores, formula(detector, fit_arrays(train, val), rows.numpy(), False))

    # declarations

    def test_it_says_what_it_is(self, detector):
        for fact in ("name", "family", "paper", "works", "fails", "cost"):
            assert getattr(type(detector), fact).strip(), fact
        assert type(detector).__doc__

    def test_fit_and_score_read_declared_arrays_only(self, detector, blobs):
        needs = detector.needs()
        train = spied(blobs.train.latents(), needs.fit)
        val = spied(blobs.id.latents(), needs.val)
        rows = spied(blobs.far.latents(), needs.score)
        fit(detector, train, val).score(rows)

    def test_declared_arrays_alone_are_enough(self, detector, blobs, fitted):
        needs = detector.needs()
        train, val, rows = blobs.train.latents(), blobs.id.latents(), blobs.far.latents()
        train = only(train, needs.fit) if needs.fit else train
        val = only(val, needs.val) if needs.val else None
        alone = fit(detector, train, val).score(only(rows, needs.score))
        assert torch.equal(alone, fitted.score(rows))

    def test_labels_are_never_needed_to_score(self, detector):
        assert LABELS not in detector.needs().score

    # scores

    def test_higher_is_more_ood(self, fitted, blobs):
        if self.otherwise:
            pytest.skip(f"other rows test this: {self.otherwise}")
        id_scores, far_scores = (fitted.score(x.latents()) for x in (blobs.id, blobs.far))
        assert auroc(id_scores, far_scores) > 0.9

    def test_scores_equal_the_slow_formula(self, detector, formula, fitted, blobs):
        if formula is None:
            pytest.skip("this detector brings no slow formula")
        for rows in (blobs.id, blobs.far):
            expected = formula(detector, fit_arrays(blobs.train, blobs.id), rows.numpy(), False)
            assert_close(fitted.score(rows.latents()), expected)

    def test_fit_rows_score_as_the_slow_formula_says(self, detector, formula, blobs):
        if formula is None:
            pytest.skip("this detector brings no slow formula")
        train = blobs.train.latents()
        given = fit_arrays(blobs.train, blobs.id)
        expected = formula(detector, given, blobs.train.numpy(), True)
        assert_close(fit(detector, train, blobs.id.latents()).score(train), expected)

    def test_blocks_score_as_the_whole(self, fitted, blobs, monkeypatch):
        rows = blobs.far.latents()
        whole = fitted.score(rows)
        monkeypatch.setattr(fitting, "GROUP_ROWS", 7)
        assert_close(fitted.score(rows), as_numpy(whole))

    def test_row_order_does_not_matter(self, fitted, blobs):
        order = torch.randperm(len(blobs.far.labels))
        shuffled = fitted.score(blobs.far.rows(order).latents())
        assert_close(shuffled, as_numpy(fitted.score(blobs.far.latents())[order]))

    def test_scoring_twice_gives_the_same_bits(self, fitted, blobs):
        rows = blobs.far.latents()
        assert torch.equal(fitted.score(rows), fitted.score(rows))

    def test_a_second_fit_gives_the_same_bits(self, detector, blobs):
        first, second = blobs.train.latents(), blobs.train.latents()
        second.origin = first.origin
        val = blobs.id.latents("val")
        states = [fit(detector, train, val).state for train in (first, second)]
        assert list(states[0]) == list(states[1])
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    def test_inputs_are_left_untouched(self, detector, blobs):
        kept = copy.deepcopy(blobs)
        fitted = fit(detector, blobs.train.latents(), blobs.id.latents("val"))
        fitted.score(blobs.train.latents())
        fitted.score(blobs.far.latents())
        for split in ("train", "id", "far"):
            now, before = getattr(blobs, split).latents(), getattr(kept, split).latents()
            assert all(torch.equal(now[k], before[k]) for k in now.keys() if k != HEAD)  # noqa: SIM118
            assert torch.equal(now.head[0], before.head[0])

    def test_a_saved_detector_gives_the_same_bits(self, fitted, blobs, tmp_path):
        path = tmp_path / "fitted.safetensors"
        fitted.save(path)
        again = load(path)
        assert again.detector == fitted.detector
        assert again.provenance == fitted.provenance
        for rows in (blobs.id.latents(), blobs.far.latents()):
            assert torch.equal(again.score(rows), fitted.score(rows))

    # inputs

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_every_float_type_is_computed_in_float64(self, detector, formula, blobs, dtype):
        train, rows, val = (split.cast(dtype) for split in (blobs.train, blobs.far, blobs.id))
        self.check(str(dtype), detector, formula, train, rows, val)

    def test_numpy_arrays_do_as_well(self, detector, fitted, blobs):
        train, rows = (split.latents(numpy=True) for split in (blobs.train, blobs.far))
        scores = fit(detector, train, blobs.id.latents("val", numpy=True)).score(rows)
        assert torch.equal(scores, fitted.score(blobs.far.latents()))

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
    def test_a_value_that_is_not_finite_is_named_by_its_row(self, detector, fitted, blobs, bad):
        spoilt = blobs.far.rows(slice(None)).cast(torch.float64)
        key = next(k for k in detector.needs().score if k != HEAD)
        rows = spoilt.latents("textures")
        array = rows[key].clone()
        array[17].view(-1)[-1] = bad
        rows._rows[key].tensor = array
        with pytest.raises(DataError, match=r"textures: .* must be finite, .* in row 17; "):
            fitted.score(rows)

    def test_no_rows_is_a_named_error(self, fitted, blobs):
        with pytest.raises(DataError, match="nothing: there are no rows to score"):
            fitted.score(blobs.far.rows(slice(0)).latents("nothing"))

    def test_a_missing_array_is_a_named_error(self, detector, fitted, blobs):
        for key in detector.needs().score:
            rows = blobs.far.latents("textures")
            del rows._rows[key]
            with pytest.raises(
                MissingInput, match=f"^{detector.name}: needs '{key}', but textures"
            ):
                fitted.score(rows)

    def test_another_width_is_a_named_error(self, detector, fitted, blobs):
        for key in (key for key, row in fitted.widths.items() if row):  # a column has no width
            rows = blobs.far.latents("textures")
            rows._rows[key].tensor = rows[key][..., :-1]
            rows._rows[key].shape = tuple(rows._rows[key].tensor.shape)
            message = rf"^{detector.name}: {re.escape(key)} must .* got .* in \"textures\"; "
            with pytest.raises(DetectorError, match=message):
                fitted.score(rows)

    # awkward fit rows: the right answer, or an error that says what to do

    def test_one_class(self, detector, formula, blobs):
        train = blobs.train.rows(blobs.train.labels == 0)
        self.check("one class", detector, formula, train, blobs.far, blobs.id)

    def test_a_class_without_fit_rows(self, detector, formula, blobs):
        train = blobs.train.rows(blobs.train.labels != 1)
        self.check("absent class", detector, formula, train, blobs.far, blobs.id)

    def test_constant_columns(self, detector, formula, blobs):
        train, rows, val = (s.rows(slice(None)) for s in (blobs.train, blobs.far, blobs.id))
        for arrays in (train, rows, val):
            for name in ("features", "gram", "mc_entropy"):
                spoilt = getattr(arrays, name).clone()
                spoilt[:, [2, 11]] = 0.1
                object.__setattr__(arrays, name, spoilt)
        self.check("constant columns", detector, formula, train, rows, val)

    def test_fewer_rows_than_dimensions(self, detector, formula, blobs):
        train = blobs.train.rows(slice(12))
        self.check("few rows", detector, formula, train, blobs.far, blobs.id)

    def test_a_single_fit_row(self, detector, formula, blobs):
        train = blobs.train.rows(slice(1))
        self.check("one row", detector, formula, train, blobs.far, blobs.id)
