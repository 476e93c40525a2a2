"""What every detector must do, as a class of tests.

A package that brings its own detector subclasses :class:`DetectorContract` in its tests, overrides
the fixture ``detector`` and, if it has a slow formula, the fixture ``formula``::

    class TestCentroid(DetectorContract):
        @pytest.fixture
        def detector(self):
            return Centroid()

        @pytest.fixture
        def formula(self):
            return centroid
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latentood.detectors import fitted as fitting
from latentood.detectors.base import AwkwardRows, Detector
from latentood.detectors.fitted import Fitted, fit, load
from latentood.errors import DataError, DetectorError, MissingInput
from latentood.latents import HEAD, LABELS, Latents
from latentood.latents.rows import InMemory, Rows
from latentood.testing.blobs import Arrays, Blobs, auroc, make_blobs
from latentood.testing.formulas import Formula, Vector

FOUR_FACTS = re.compile(r"^.+: .+ must .+, got .+; .+$")
"""Who, what is allowed, what it got, and what to do: the form of an error's message."""

RELATIVE = 1e-9
"""Largest difference from a slow formula, relative to the largest score."""


def as_numpy(scores: Tensor) -> Vector:
    """Give scores as a NumPy array, after checking what every score must be."""
    assert scores.dtype == torch.float64
    assert scores.device.type == "cpu"
    assert scores.dim() == 1
    return np.asarray(scores.numpy())


def assert_close(scores: Tensor, expected: Vector, relative: float = RELATIVE) -> None:
    """Check that scores equal others up to rounding, relative to the size of the scores."""
    given = as_numpy(scores)
    assert given.shape == expected.shape
    assert np.isfinite(given).all()
    assert np.abs(given - expected).max() <= relative * max(1e-2, np.abs(expected).max())


class Spy(Latents):
    """Latents that fail when an array is read that was not declared."""

    declared: Collection[str] = ()

    @classmethod
    def on(cls, latents: Latents, declared: Collection[str]) -> Spy:
        """Watch the same rows."""
        head = latents.head if HEAD in latents else None
        spy = cls.__new__(cls)
        spy.__dict__ |= Latents.from_rows(arrays_of(latents), head=head).__dict__
        spy.declared = declared
        return spy

    def read(self, key: str, start: int, stop: int) -> Tensor:
        """Read rows of a declared array."""
        assert key in self.declared, f"{key} was read without being declared"
        return super().read(key, start, stop)

    @property
    def head(self) -> tuple[Tensor, Tensor]:
        """Give the head, if it was declared."""
        assert HEAD in self.declared, "the head was read without being declared"
        return super().head


def arrays_of(latents: Latents) -> dict[str, Rows]:
    """Give all arrays of rows by key."""
    return {key: InMemory(latents[key]) for key in latents.keys() if key != HEAD}  # noqa: SIM118


def changed(latents: Latents, arrays: dict[str, Rows]) -> Latents:
    """Give the same rows with other arrays."""
    head = latents.head if HEAD in latents else None
    return Latents.from_rows(arrays, head=head, name=latents.name)


def only(latents: Latents, keys: tuple[str, ...]) -> Latents:
    """Give the same rows with some arrays alone."""
    return latents.take(keys, 0, len(latents))


def fit_arrays(train: Arrays, val: Arrays) -> dict[str, Any]:
    """Give what a slow formula fits on: the fit arrays, and under ``val`` those of ID val."""
    return train.numpy() | {"val": val.numpy()}


class DetectorContract:
    """The tests that every detector must pass."""

    otherwise: str = ""
    """Why far blobs need not score above ID ones, where that is so."""

    @pytest.fixture
    def detector(self) -> Detector:
        """Give the detector to test."""
        raise NotImplementedError("override: give the detector to test")

    @pytest.fixture
    def formula(self) -> Formula | None:
        """Give its slow formula, if there is one."""
        return None

    @pytest.fixture
    def blobs(self, detector: Detector) -> Blobs:
        """Give the rows it is tested on: after a ReLU for a detector that refuses others."""
        blobs = make_blobs()
        return blobs.rectified() if "negative features" in detector.cannot_fit_on else blobs

    @pytest.fixture
    def fitted(self, detector: Detector, blobs: Blobs) -> Fitted:
        """Fit it."""
        return fit(detector, blobs.train.latents(), blobs.id.latents("val"))

    def check(
        self,
        case: AwkwardRows | None,
        detector: Detector,
        formula: Formula | None,
        splits: tuple[Arrays, Arrays, Arrays],
    ) -> None:
        """Check that scores equal the slow formula, or that the declared refusal is well worded.

        ``case`` says what is awkward about the rows; ``splits`` are fit, scored and ID val rows.
        """
        train, rows, val = splits
        if case in detector.cannot_fit_on:
            with pytest.raises(DetectorError) as caught:
                fit(detector, train.latents(), val.latents("val")).score(rows.latents("rows"))
            assert FOUR_FACTS.match(str(caught.value)), str(caught.value)
            return
        scores = fit(detector, train.latents(), val.latents("val")).score(rows.latents("rows"))
        assert bool(scores.isfinite().all())
        if formula is not None:
            assert_close(scores, formula(detector, fit_arrays(train, val), rows.numpy(), False))

    # declarations

    def test_it_says_what_it_is(self, detector: Detector) -> None:
        for fact in ("name", "family", "paper", "works", "fails", "cost"):
            assert getattr(type(detector), fact).strip(), fact
        assert type(detector).__doc__

    def test_fit_and_score_read_declared_arrays_only(
        self, detector: Detector, blobs: Blobs
    ) -> None:
        needs = detector.needs()
        train = Spy.on(blobs.train.latents(), needs.fit)
        val = Spy.on(blobs.id.latents(), needs.val)
        rows = Spy.on(blobs.far.latents(), needs.score)
        fit(detector, train, val).score(rows)

    def test_declared_arrays_alone_are_enough(
        self, detector: Detector, blobs: Blobs, fitted: Fitted
    ) -> None:
        needs = detector.needs()
        train, val, rows = blobs.train.latents(), blobs.id.latents(), blobs.far.latents()
        train = only(train, needs.fit) if needs.fit else train
        own_val = only(val, needs.val) if needs.val else None
        alone = fit(detector, train, own_val).score(only(rows, needs.score))
        assert torch.equal(alone, fitted.score(rows))

    def test_labels_are_never_needed_to_score(self, detector: Detector) -> None:
        assert LABELS not in detector.needs().score

    # scores

    def test_higher_is_more_ood(self, fitted: Fitted, blobs: Blobs) -> None:
        if self.otherwise:
            pytest.skip(f"other rows test this: {self.otherwise}")
        id_scores, far_scores = (fitted.score(x.latents()) for x in (blobs.id, blobs.far))
        assert auroc(id_scores, far_scores) > 0.9

    def test_scores_equal_the_slow_formula(
        self, detector: Detector, formula: Formula | None, fitted: Fitted, blobs: Blobs
    ) -> None:
        if formula is None:
            pytest.skip("this detector brings no slow formula")
        for rows in (blobs.id, blobs.far):
            expected = formula(detector, fit_arrays(blobs.train, blobs.id), rows.numpy(), False)
            assert_close(fitted.score(rows.latents()), expected)

    def test_fit_rows_score_as_the_slow_formula_says(
        self, detector: Detector, formula: Formula | None, blobs: Blobs
    ) -> None:
        if formula is None:
            pytest.skip("this detector brings no slow formula")
        train = blobs.train.latents()
        given = fit_arrays(blobs.train, blobs.id)
        expected = formula(detector, given, blobs.train.numpy(), True)
        assert_close(fit(detector, train, blobs.id.latents()).score(train), expected)

    def test_chunks_score_as_the_whole(
        self, fitted: Fitted, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = blobs.far.latents()
        whole = fitted.score(rows)
        monkeypatch.setattr(fitting, "CHUNK_ROWS", 7)
        assert_close(fitted.score(rows), as_numpy(whole))

    def test_row_order_does_not_matter(self, fitted: Fitted, blobs: Blobs) -> None:
        order = torch.randperm(len(blobs.far.labels))
        shuffled = fitted.score(blobs.far.rows(order).latents())
        assert_close(shuffled, as_numpy(fitted.score(blobs.far.latents())[order]))

    def test_scoring_twice_gives_the_same_bits(self, fitted: Fitted, blobs: Blobs) -> None:
        rows = blobs.far.latents()
        assert torch.equal(fitted.score(rows), fitted.score(rows))

    def test_a_second_fit_gives_the_same_bits(self, detector: Detector, blobs: Blobs) -> None:
        first, second = blobs.train.latents(), blobs.train.latents()
        second.origin = first.origin
        val = blobs.id.latents("val")
        states = [fit(detector, train, val).state for train in (first, second)]
        assert list(states[0]) == list(states[1])
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

    def test_inputs_are_left_untouched(self, detector: Detector, blobs: Blobs) -> None:
        kept = copy.deepcopy(blobs)
        fitted = fit(detector, blobs.train.latents(), blobs.id.latents("val"))
        fitted.score(blobs.train.latents())
        fitted.score(blobs.far.latents())
        for split in ("train", "id", "far"):
            now, before = getattr(blobs, split).latents(), getattr(kept, split).latents()
            assert all(torch.equal(now[k], before[k]) for k in arrays_of(now))
            assert torch.equal(now.head[0], before.head[0])

    def test_a_saved_detector_gives_the_same_bits(
        self, fitted: Fitted, blobs: Blobs, tmp_path: Path
    ) -> None:
        path = tmp_path / "fitted.safetensors"
        fitted.save(path)
        again = load(path)
        assert again.detector == fitted.detector
        assert again.provenance == fitted.provenance
        for rows in (blobs.id.latents(), blobs.far.latents()):
            assert torch.equal(again.score(rows), fitted.score(rows))

    # inputs

    @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
    def test_every_float_type_is_computed_in_float64(
        self, detector: Detector, formula: Formula | None, blobs: Blobs, dtype: torch.dtype
    ) -> None:
        train, rows, val = (split.cast(dtype) for split in (blobs.train, blobs.far, blobs.id))
        self.check(None, detector, formula, (train, rows, val))

    def test_numpy_arrays_do_as_well(
        self, detector: Detector, fitted: Fitted, blobs: Blobs
    ) -> None:
        train, rows = (split.latents(numpy=True) for split in (blobs.train, blobs.far))
        scores = fit(detector, train, blobs.id.latents("val", numpy=True)).score(rows)
        assert torch.equal(scores, fitted.score(blobs.far.latents()))

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
    def test_a_value_that_is_not_finite_is_named_by_its_row(
        self, detector: Detector, fitted: Fitted, blobs: Blobs, bad: float
    ) -> None:
        rows = blobs.far.latents("textures")
        key = next(k for k in detector.needs().score if k != HEAD)
        array = rows[key].clone()
        array[17].view(-1)[-1] = bad
        spoilt = changed(rows, arrays_of(rows) | {key: InMemory(array)})
        with pytest.raises(DataError, match=r"textures: .* must be finite, .* in row 17; "):
            fitted.score(spoilt)

    def test_no_rows_is_a_named_error(self, fitted: Fitted, blobs: Blobs) -> None:
        with pytest.raises(DataError, match="nothing: there are no rows to score"):
            fitted.score(blobs.far.rows(slice(0)).latents("nothing"))

    def test_a_missing_array_is_a_named_error(
        self, detector: Detector, fitted: Fitted, blobs: Blobs
    ) -> None:
        rows = blobs.far.latents("textures")
        for key in detector.needs().score:
            gone = {key, key.replace("mc.entropy/", "mc.features/")}  # which entropies follow from
            rest = {name: array for name, array in arrays_of(rows).items() if name not in gone}
            with pytest.raises(
                MissingInput, match=f"^{detector.name}: needs '{key}', but textures"
            ):
                fitted.score(changed(rows, rest))

    def test_another_width_is_a_named_error(
        self, detector: Detector, fitted: Fitted, blobs: Blobs
    ) -> None:
        rows = blobs.far.latents("textures")
        wide = [key for key, row in fitted.widths.items() if row]
        if not wide:
            pytest.skip("what this detector reads has one number per row")
        read = arrays_of(only(rows, detector.needs().score))
        for key in wide:
            narrow = Latents.from_rows(read | {key: InMemory(rows[key][..., :-1])}, name=rows.name)
            message = rf"^{detector.name}: {re.escape(key)} must .* got .* in \"textures\"; "
            with pytest.raises(DetectorError, match=message):
                fitted.score(narrow)

    # awkward fit rows: the right answer, or an error that says what to do

    def test_one_class(self, detector: Detector, formula: Formula | None, blobs: Blobs) -> None:
        train = blobs.train.rows(blobs.train.labels == 0)
        self.check("one class", detector, formula, (train, blobs.far, blobs.id))

    def test_a_class_without_fit_rows(
        self, detector: Detector, formula: Formula | None, blobs: Blobs
    ) -> None:
        train = blobs.train.rows(blobs.train.labels != 1)
        self.check("absent class", detector, formula, (train, blobs.far, blobs.id))

    def test_constant_columns(
        self, detector: Detector, formula: Formula | None, blobs: Blobs
    ) -> None:
        train, rows, val = (s.with_constant_columns() for s in (blobs.train, blobs.far, blobs.id))
        self.check("constant columns", detector, formula, (train, rows, val))

    def test_fewer_rows_than_dimensions(
        self, detector: Detector, formula: Formula | None, blobs: Blobs
    ) -> None:
        train = blobs.train.rows(slice(12))
        self.check("few rows", detector, formula, (train, blobs.far, blobs.id))

    def test_a_single_fit_row(
        self, detector: Detector, formula: Formula | None, blobs: Blobs
    ) -> None:
        train = blobs.train.rows(slice(1))
        self.check("one row", detector, formula, (train, blobs.far, blobs.id))

    def test_negative_features(self, detector: Detector, formula: Formula | None) -> None:
        blobs = make_blobs()
        self.check("negative features", detector, formula, (blobs.train, blobs.far, blobs.id))
