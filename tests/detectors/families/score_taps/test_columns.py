"""Detectors that read a score computed during extraction."""

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import MissingInput
from latentood.evaluation.inputs.request import select
from latentood.latents import Latents
from latentood.latents.splits import SplitsInMemory


def rows(seed: int, **scores: torch.Tensor) -> Latents:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(20, 3, generator=draw)
    return Latents(logits=logits, labels=torch.arange(20) % 3, scores=scores, name=f"rows{seed}")


def splits(**of_scored: torch.Tensor) -> SplitsInMemory:
    """The fit split has no columns, as after a tap that reads it."""
    scored = {"id": ("id", rows(1, **of_scored)), "far": ("far", rows(2, **of_scored))}
    return SplitsInMemory.of(train=("fit", rows(0)), **scored)


def test_a_column_is_the_score_as_it_is_and_needs_no_fit_rows():
    column = torch.randn(20, dtype=torch.float64)
    fitted = fit(detector("odin"), rows(0))
    assert torch.equal(fitted.score(rows(1, odin=column)), column)
    assert fitted.state == {}


def test_a_missing_column_says_how_to_get_it():
    with pytest.raises(
        MissingInput,
        match=r"^grood: needs 'scores/grood', but rows1 has 'logits', 'labels'; "
        r"add scores: \[grood\] to the pipeline and re-run extract$",
    ):
        fit(detector("grood"), rows(0)).score(rows(1))


def test_all_takes_the_columns_that_are_there_and_leaves_out_the_others():
    selection = select("all", splits=splits(odin=torch.zeros(20)))
    assert "odin" in {one.name for one in selection.detectors}
    left_out = {one.request.detector: one.reason for one in selection.skipped}
    assert "add scores: [rankfeat]" in left_out["rankfeat"]


def test_a_column_that_is_asked_for_and_not_there_is_an_error():
    with pytest.raises(MissingInput, match=r"^rankfeat: needs 'scores/rankfeat', but rows1 has"):
        select("rankfeat", splits=splits())
