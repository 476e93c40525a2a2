"""All engines draw the same passes; the choice between them is made by evidence."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from latentood.errors import ModelError
from latentood.extraction.passes.engines import Plain, Pooled, Repeated, Vmapped
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.passes.plan import Plan, make_plan
from latentood.pipeline.schema import MonteCarlo, parse_pipeline
from tests.extraction.nets import (
    Branching,
    Conv,
    FunctionalDropout,
    OwnDropout,
    ReluTail,
    inputs,
)

INSERTED = {"passes": 6, "insert": {"after": "conv2", "kind": "dropblock", "block_size": 3}}
ACTIVATED = {"passes": 6, "activate": True}


def plan(model: nn.Module, passes: dict | None, layers=("conv1", "conv2", "penultimate")) -> Plan:
    raw = {
        "name": "test",
        "model": {"target": "unused"},
        "layers": list(layers),
        "monte_carlo": passes,
        "splits": {"train": {"role": "fit", "target": "unused"}},
    }
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return make_plan(model.eval().requires_grad_(False), parse_pipeline(raw), inputs(2))


def as_engine(kind, engine):
    return kind(
        engine.model, engine.taps, engine.readout, engine.sites, engine.passes, engine.varying
    )


def assert_same(a, b):
    torch.testing.assert_close(a.logits, b.logits, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(a.mc_logits, b.mc_logits, rtol=1e-5, atol=1e-6)
    for layer in a.features:
        torch.testing.assert_close(a.features[layer], b.features[layer], rtol=1e-5, atol=1e-6)
    assert a.mc_features.keys() == b.mc_features.keys()
    for layer in a.mc_features:
        torch.testing.assert_close(a.mc_features[layer], b.mc_features[layer], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "insert",
    [
        {"kind": "dropblock", "block_size": 3},
        {"kind": "dropblock", "block_size": 3, "shared": False},
        {"kind": "dropout2d", "p": 0.3},
        {"kind": "dropout", "p": 0.3},
    ],
    ids=str,
)
def test_masked_pooling_equals_vmap_and_repeated_forwards(insert):
    settled = plan(Conv(), {"passes": 6, "insert": {"after": "conv2", **insert}})
    assert isinstance(settled.engine, Pooled)
    assert settled.varying == ("conv2", "penultimate")
    x, keys = inputs(5), row_keys(1, torch.arange(5))
    fast = settled.engine.run(x, keys)
    assert fast.mc_logits.shape == (5, 6, 4)
    assert_same(fast, as_engine(Vmapped, settled.engine).run(x, keys))
    assert_same(fast, as_engine(Repeated, settled.engine).run(x, keys))


def test_an_activation_before_the_pooling_rules_masked_pooling_out():
    settled = plan(ReluTail(), INSERTED)
    assert isinstance(settled.engine, Vmapped)


def test_own_dropout_of_every_kind_runs_under_vmap():
    settled = plan(OwnDropout(), ACTIVATED)
    assert isinstance(settled.engine, Vmapped)
    assert settled.varying == ("conv2", "penultimate"), "conv1 lies before all noise"
    x, keys = inputs(5), row_keys(1, torch.arange(5))
    assert_same(settled.engine.run(x, keys), as_engine(Repeated, settled.engine).run(x, keys))


def test_a_model_that_vmap_cannot_run_falls_back_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        settled = plan(Branching(), ACTIVATED)
    assert isinstance(settled.engine, Repeated)
    assert "falling back to 6 forwards" in caplog.text


def test_what_lies_before_the_noise_is_computed_once():
    calls = []
    model = OwnDropout()
    model.conv1.register_forward_hook(lambda m, a, out: calls.append(tuple(out.shape)))
    settled = plan(model, {**ACTIVATED, "passes": 16})
    calls.clear()
    settled.engine.run(inputs(5), row_keys(1, torch.arange(5)))
    assert calls == [(5, 6, 8, 8)], "one call, without a pass axis"


@pytest.mark.parametrize("model", [Conv, OwnDropout, Branching])
def test_passes_do_not_depend_on_the_batch_size(model):
    settled = plan(model(), INSERTED if model is Conv else ACTIVATED)
    x, keys = inputs(6), row_keys(9, torch.arange(6))
    whole = settled.engine.run(x, keys)
    parts = [settled.engine.run(x[i : i + 2], keys[i : i + 2]) for i in (0, 2, 4)]
    joined = torch.cat([part.mc_logits for part in parts])
    torch.testing.assert_close(whole.mc_logits, joined, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("passes", [INSERTED, None])
def test_features_are_those_of_a_plain_forward(passes):
    model = Conv()
    settled = plan(model, passes)
    x = inputs(3)
    got = settled.engine.run(x, row_keys(0, torch.arange(3)))
    maps = model.conv2(torch.relu(model.bn(model.conv1(x))))
    torch.testing.assert_close(got.features["conv2"], maps.mean(dim=(2, 3)))
    torch.testing.assert_close(got.features["penultimate"], maps.mean(dim=(2, 3)))
    torch.testing.assert_close(got.logits, model(x))
    assert isinstance(settled.engine, Plain if passes is None else Pooled)


def test_batchnorm_statistics_and_hooks_are_left_as_they_were():
    model = OwnDropout()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settled = plan(model, ACTIVATED)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settled.engine.run(inputs(4), row_keys(0, torch.arange(4)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("passes", [INSERTED, ACTIVATED, None], ids=["pooled", "vmap", "plain"])
def test_hooks_are_gone_after_an_exception(passes):
    model = OwnDropout() if passes is ACTIVATED else Conv()
    settled = plan(model, passes)
    with pytest.raises(RuntimeError):
        settled.engine.run(torch.randn(2, 99, 8, 8), row_keys(0, torch.arange(2)))
    assert not any(module._forward_hooks for module in model.modules())


def test_functional_dropout_is_reached_by_its_own_mode():
    model = FunctionalDropout()
    settled = plan(model, {"passes": 6, "activate": "functional"})
    assert isinstance(settled.engine, Vmapped)
    x, keys = inputs(5), row_keys(1, torch.arange(5))
    got = settled.engine.run(x, keys)
    assert_same(got, as_engine(Repeated, settled.engine).run(x, keys))
    torch.testing.assert_close(got.logits, model(x))
    share = (got.mc_features["conv2"] == got.mc_features["conv2"][:, :1]).float().mean()
    assert share < 0.5, "drop1, before conv2, is reached too"


def test_functional_dropout_that_would_stay_off_is_an_error():
    with pytest.raises(ModelError, match=r"calls F.dropout 2 times outside dropout modules"):
        plan(FunctionalDropout(), ACTIVATED)
    assert plan(FunctionalDropout(), {"passes": 2, "activate": ["drop1"]}).varying


def test_nothing_stochastic_is_an_error_that_says_what_to_insert():
    with pytest.raises(ModelError, match="nothing stochastic is active"):
        plan(Conv(), ACTIVATED)


def test_passes_that_do_not_differ_are_an_error():
    model = Conv()
    model.unused = nn.Dropout(0.5)
    with pytest.raises(ModelError, match="the passes do not differ"):
        plan(model, ACTIVATED)


def test_followed_layers_must_vary():
    with pytest.raises(
        ModelError, match="'conv1': does not vary over the passes; layers that do: conv2"
    ):
        plan(Conv(), {**INSERTED, "layers": ["conv1"]})
    with pytest.raises(ModelError, match="'conv_2': is not among layers:; did you mean 'conv2'"):
        plan(Conv(), {**INSERTED, "layers": ["conv_2"]})
    assert plan(Conv(), {**INSERTED, "layers": ["conv2"]}).varying == ("conv2",)


def test_an_engine_that_computes_something_else_is_not_chosen(monkeypatch):
    # Were the pooling engine wrong, the plan would notice and take vmap instead.
    right = Pooled._pool
    monkeypatch.setattr(Pooled, "_pool", lambda self, *a: right(self, *a) * 1.01)
    assert isinstance(plan(Conv(), INSERTED).engine, Vmapped)


def test_the_number_of_passes_only_adds_passes():
    settled = plan(OwnDropout(), ACTIVATED)
    x, keys = inputs(3), row_keys(2, torch.arange(3))
    few = replace(settled.engine, passes=2).run(x, keys)
    many = settled.engine.run(x, keys)
    torch.testing.assert_close(few.mc_logits, many.mc_logits[:, :2], rtol=1e-5, atol=1e-6)


def test_a_pipeline_without_a_source_of_noise_is_refused():
    with pytest.raises(ValueError, match="give insert"):
        MonteCarlo(passes=4)
