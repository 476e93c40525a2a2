"""What every score tap must do, as a class of tests to subclass."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentood.detectors.families.score_taps.base import SCORE_TAPS, ScoreTap
from latentood.detectors.registry import DETECTORS
from latentood.extraction.passes.plan import make_plan
from latentood.extraction.scores.network import TappedModel
from latentood.latents import HEAD, Latents
from latentood.pipeline.schema import parse_pipeline
from latentood.testing.detector_contract import Spy

CLASSES, SIDE = 3, 8


def small_model() -> nn.Module:
    """Give an untrained classifier of images (3, 8, 8): two convolutions, pooling, a head."""
    draw = torch.random.fork_rng([])
    with draw:
        torch.manual_seed(0)
        parts = {
            "conv1": nn.Conv2d(3, 8, 3, padding=1),
            "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(8, 16, 3, padding=1),
            "relu2": nn.ReLU(),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(16, CLASSES),
        }
        model = nn.Sequential(OrderedDict(parts))
    return model.eval().requires_grad_(False)


def images(count: int, seed: int = 0) -> Tensor:
    """Draw images (n, 3, 8, 8)."""
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


class ScoreTapContract:
    """The tests that every score tap must pass, on a small convolutional classifier."""

    @pytest.fixture
    def tap(self) -> ScoreTap:
        """Give the tap to test."""
        raise NotImplementedError("override: give the score tap to test")

    @pytest.fixture
    def network(self) -> TappedModel:
        """Give the model that it scores with."""
        split = {"role": "fit", "target": "builtins.list"}
        model = {"target": "latentood.testing.score_tap_contract.small_model"}
        pipeline = parse_pipeline({"name": "small", "model": model, "splits": {"train": split}})
        return TappedModel(make_plan(small_model(), pipeline, images(2)), images(2))

    @pytest.fixture
    def settled(self, tap: ScoreTap, network: TappedModel) -> ScoreTap:
        """Check it against the model."""
        return tap.settle(network)

    @pytest.fixture
    def fit_rows(self, settled: ScoreTap, network: TappedModel) -> Latents:
        """Give rows of the fit split, with the column of the tap's companion."""
        inputs = images(60, seed=1)
        logits = network.logits(inputs)
        companion = settled.companion()
        columns = {}
        if companion is not None:
            companion = companion.settle(network)
            columns[companion.name] = companion.score(network, inputs, None)
        return Latents(
            logits=logits,
            labels=logits.argmax(dim=1),
            features={"penultimate": network.features("penultimate", inputs)},
            scores=columns,
            head=network.head("the contract"),
            name="train",
        )

    @pytest.fixture
    def state(self, settled: ScoreTap, network: TappedModel, fit_rows: Latents) -> Any:
        """Prepare it."""
        return settled.prepare(network, fit_rows) if settled.needs_fit else None

    def test_it_says_what_it_is(self, tap: ScoreTap) -> None:
        for fact in ("name", "paper", "works", "fails", "cost"):
            assert getattr(type(tap), fact).strip(), fact
        assert type(tap).__doc__

    def test_it_reads_declared_arrays_only(
        self, settled: ScoreTap, network: TappedModel, fit_rows: Latents
    ) -> None:
        if not settled.needs_fit:
            pytest.skip(f"{settled.name} reads no fit rows")
        settled.prepare(network, Spy.on(fit_rows, settled.reads()))
        assert HEAD not in settled.reads(), "the model brings the head"

    def test_every_row_has_one_finite_score(
        self, settled: ScoreTap, network: TappedModel, state: Any
    ) -> None:
        scores = settled.score(network, images(5), state)
        assert scores.shape == (5,)
        assert scores.dtype == torch.float64
        assert bool(scores.isfinite().all())
        assert not scores.requires_grad

    def test_a_score_does_not_depend_on_the_other_rows(
        self, settled: ScoreTap, network: TappedModel, state: Any
    ) -> None:
        whole = settled.score(network, images(5), state)
        rows = torch.cat([settled.score(network, row, state) for row in images(5).split(1)])
        assert torch.allclose(whole, rows, rtol=1e-4, atol=1e-6)

    def test_scoring_twice_gives_the_same_bits(
        self, settled: ScoreTap, network: TappedModel, fit_rows: Latents, state: Any
    ) -> None:
        again = settled.prepare(network, fit_rows) if settled.needs_fit else None
        first, second = (settled.score(network, images(5), s) for s in (state, again))
        assert torch.equal(first, second)

    def test_inputs_and_model_are_left_untouched(
        self, settled: ScoreTap, network: TappedModel, state: Any
    ) -> None:
        inputs, weights = images(5), small_model().state_dict()
        settled.score(network, inputs, state)
        assert torch.equal(inputs, images(5))
        assert not network.model.training
        for name, tensor in network.model.state_dict().items():
            assert torch.equal(tensor, weights[name]), name
        assert all(parameter.grad is None for parameter in network.model.parameters())
        assert not any(module._forward_hooks for module in network.model.modules())

    def test_the_registries_know_it_and_the_detector_of_its_column(self, tap: ScoreTap) -> None:
        assert SCORE_TAPS.build(tap.name, **tap.hyperparameters()) == tap
        assert DETECTORS.build(tap.name).needs().score == (tap.column,)
