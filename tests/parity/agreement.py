"""Checks that many test files of detectors share."""

from typing import Any

import torch

import tests.references  # noqa: F401  (registers the slow formulas)
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.testing.blobs import Blobs
from latentood.testing.detector_contract import assert_close, fit_arrays
from tests.references.registry import REFERENCES


def assert_agrees(blobs: Blobs, name: str, **hyperparameters: Any) -> torch.Tensor:
    """Scores of ID, far and fit rows equal the slow formula; gives those of the far rows."""
    chosen = detector(name, **hyperparameters)
    train = blobs.train.latents()
    fitted = fit(chosen, train, blobs.id.latents("val"))
    formula = REFERENCES[name]
    for rows in (blobs.id, blobs.far):
        expected = formula(chosen, fit_arrays(blobs.train, blobs.id), rows.numpy(), False)
        assert_close(fitted.score(rows.latents()), expected)
    own = formula(chosen, fit_arrays(blobs.train, blobs.id), blobs.train.numpy(), True)
    assert_close(fitted.score(train), own)
    return fitted.score(blobs.far.latents())
