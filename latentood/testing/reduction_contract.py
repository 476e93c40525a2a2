"""What every reduction must do, as a class of tests to subclass."""

from __future__ import annotations

import warnings
from contextlib import suppress

import pytest
import torch
from torch import Tensor

from latentood.errors import ModelError
from latentood.extraction.model.reductions import REDUCTIONS, Reduction

SHAPES = {"maps": (6, 4, 5), "tokens": (7, 6), "vectors": (6,)}
"""Shapes of one row of the outputs that layers give."""


class ReductionContract:
    """The tests that every reduction must pass."""

    @pytest.fixture
    def reduction(self) -> Reduction:
        """Give the reduction to test."""
        raise NotImplementedError("override: give the reduction to test")

    @pytest.fixture
    def outputs(self, reduction: Reduction) -> list[Tensor]:
        """Give outputs of layers for 3 rows, of every shape that the reduction applies to."""
        draw = torch.Generator().manual_seed(0)
        applicable = []
        for shape in SHAPES.values():
            with suppress(ModelError):
                reduction.shape(shape)
                applicable.append(torch.randn(3, *shape, generator=draw))
        assert applicable, f"{reduction.name} applies to none of {SHAPES}"
        return applicable

    def test_it_says_what_it_is(self, reduction: Reduction) -> None:
        assert reduction.name
        assert (type(reduction).__doc__ or "").partition("\n")[0]

    def test_it_gives_the_shape_that_it_declares(
        self, reduction: Reduction, outputs: list[Tensor]
    ) -> None:
        for output in outputs:
            declared = reduction.shape(tuple(output.shape[1:]))
            assert tuple(reduction.apply(output).shape) == (len(output), *declared)

    def test_each_row_is_reduced_by_itself(
        self, reduction: Reduction, outputs: list[Tensor]
    ) -> None:
        for output in outputs:
            rows = torch.cat([reduction.apply(row) for row in output.split(1)])
            assert torch.allclose(reduction.apply(output), rows, rtol=1e-5, atol=1e-6)

    def test_the_output_is_left_untouched(
        self, reduction: Reduction, outputs: list[Tensor]
    ) -> None:
        for output in outputs:
            before = output.clone()
            reduction.apply(output)
            assert torch.equal(output, before)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_the_dtype_of_the_output_stays(
        self, reduction: Reduction, outputs: list[Tensor], dtype: torch.dtype
    ) -> None:
        for output in outputs:
            assert reduction.apply(output.to(dtype)).dtype == dtype

    def test_it_runs_under_vmap(self, reduction: Reduction, outputs: list[Tensor]) -> None:
        for output in outputs:
            passes = torch.stack([output, 2 * output])
            with warnings.catch_warnings():
                # Operations without a batching rule run in a loop: slower, but right.
                warnings.filterwarnings("ignore", message="There is a performance drop")
                mapped = torch.func.vmap(reduction.apply)(passes)
            assert torch.allclose(mapped[1], reduction.apply(2 * output), rtol=1e-5, atol=1e-6)

    def test_the_registry_knows_it(self, reduction: Reduction) -> None:
        assert REDUCTIONS.build(reduction.name, **reduction.hyperparameters()) == reduction
