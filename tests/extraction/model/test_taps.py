"""Layers by name, glob and call."""

import pytest
import torch

from latentood.errors import ModelError, UnknownName
from latentood.extraction.model.taps import capture, check_calls, make_taps, matching
from latentood.pipeline.schema import Layer
from tests.extraction.nets import CalledTwice, Conv, NoHead, inputs


def names(model, *layers, head="fc"):
    return [tap.layer for tap in make_taps(model, [Layer(name=name) for name in layers], head)]


def test_globs_expand_in_the_order_of_the_model():
    assert names(Conv(), "conv*", "penultimate") == ["conv1", "conv2", "penultimate"]


def test_a_star_stays_within_a_level_of_the_dotted_name():
    names = ["layer1", "layer1.0", "layer1.0.conv1", "layer1.0.conv2", "layer2", "fc"]
    assert matching("layer*", names) == ["layer1", "layer2"]
    assert matching("layer1.*.conv?", names) == ["layer1.0.conv1", "layer1.0.conv2"]
    assert matching("layer1.**", names) == ["layer1.0", "layer1.0.conv1", "layer1.0.conv2"]
    assert matching("layer.", names) == [], "a dot is a dot"


def test_a_layer_named_twice_is_captured_once():
    assert names(Conv(), "conv1", "conv*") == ["conv1", "conv2"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv3", "layer 'conv3': matches no module; did you mean 'conv2' or 'conv1'?"),
        ("layer*", "layer 'layer*': matches no module"),
        ("conv1#0", "the call after # must be 1, 2, …, got '0'"),
    ],
)
def test_a_wrong_layer_is_answered_with_near_names(name, message):
    with pytest.raises(ModelError) as caught:
        names(Conv(), name)
    assert message in str(caught.value)


def test_an_unknown_reduction_names_the_nearest():
    with pytest.raises(UnknownName, match="no reduction named 'men'; did you mean 'mean'"):
        make_taps(Conv(), [Layer(name="conv1", reduction="men")], None)


def test_penultimate_without_a_head_says_to_name_it():
    with pytest.raises(ModelError, match="name the last linear layer with head:"):
        names(NoHead(), "penultimate", head=None)


def calls_of(model, *layers):
    taps = make_taps(model, [Layer(name=name) for name in layers], "fc")
    with capture(model.eval(), taps) as seen, torch.no_grad():
        model(inputs(2))
    check_calls(taps, seen.calls)
    return seen.outputs


def test_a_layer_that_is_never_called_is_an_error():
    with pytest.raises(ModelError, match="layer 'spare': is never called in the forward"):
        calls_of(CalledTwice(), "spare")


def test_a_layer_called_twice_must_be_indexed():
    with pytest.raises(ModelError, match=r"called 2 times per forward; say which: act#1, act#2"):
        calls_of(CalledTwice(), "act")
    outputs = calls_of(CalledTwice(), "act#1", "act#2")
    assert set(outputs) == {"act#1", "act#2"}
    assert not torch.equal(outputs["act#1"], outputs["act#2"])
    with pytest.raises(ModelError, match="called 2 times per forward, not 3"):
        calls_of(CalledTwice(), "act#3")


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("mean", lambda maps: maps.mean(dim=(2, 3))),
        ("max", lambda maps: maps.amax(dim=(2, 3))),
        ("flatten", lambda maps: maps.flatten(1)),
    ],
)
def test_reductions_of_maps(reduction, expected):
    model, x = Conv().eval(), inputs(3)
    taps = make_taps(model, [Layer(name="conv1", reduction=reduction)], None)
    with capture(model, taps) as seen, torch.no_grad():
        model(x)
    torch.testing.assert_close(seen.outputs["conv1"], expected(model.conv1(x).detach()))
