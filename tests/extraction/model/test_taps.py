"""Layers by name, glob and call; heads found or named; logits taken from any output."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from latentood.errors import ModelError, UnknownName
from latentood.extraction.model.head import find_head, select_logits
from latentood.extraction.model.taps import capture, check_calls, make_taps, matching
from latentood.pipeline.schema import Layer
from tests.extraction.nets import CalledTwice, Conv, DictOutput, NoHead, inputs


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
    with pytest.raises(ModelError, match="layer 'spare': is never called in the forward pass"):
        calls_of(CalledTwice(), "spare")


def test_a_layer_called_twice_must_be_indexed():
    with pytest.raises(
        ModelError, match=r"called 2 times per forward pass; say which: act#1, act#2"
    ):
        calls_of(CalledTwice(), "act")
    outputs = calls_of(CalledTwice(), "act#1", "act#2")
    assert set(outputs) == {"act#1", "act#2"}
    assert not torch.equal(outputs["act#1"], outputs["act#2"])
    with pytest.raises(ModelError, match="called 2 times per forward pass, not 3"):
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


def test_the_head_is_the_linear_layer_that_gives_the_logits():
    assert find_head(Conv().eval(), inputs(2)) == "fc"
    assert find_head(CalledTwice().eval(), inputs(2)) == "fc"
    assert find_head(DictOutput().eval(), inputs(2), output="logits") == "fc"
    assert find_head(NoHead().eval(), inputs(2)) is None


def test_a_linear_layer_followed_by_anything_is_not_the_head():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4), nn.Softmax(dim=1)).eval()
    assert find_head(model, inputs(2)) is None


def test_a_head_named_wrongly_is_answered_with_the_linear_layers():
    with pytest.raises(ModelError, match="head 'fcc': must name a linear layer; did you mean 'fc'"):
        find_head(Conv(), inputs(2), named="fcc")


@dataclass
class Out:
    logits: torch.Tensor
    other: int = 0


@pytest.mark.parametrize(
    ("output", "field"),
    [
        (torch.ones(2, 3), None),
        ({"logits": torch.ones(2, 3)}, "logits"),
        (Out(torch.ones(2, 3)), "logits"),
        ((0, torch.ones(2, 3)), "1"),
    ],
)
def test_logits_are_found_in_any_kind_of_output(output, field):
    assert select_logits(output, field).shape == (2, 3)


@pytest.mark.parametrize(
    ("output", "field", "message"),
    [
        ({"logits": 1}, None, "got dict; its fields: logits; name the field with model.output:"),
        (Out(torch.ones(2, 3)), "logit", "has no 'logit'; did you mean 'logits'"),
        (torch.ones(2, 3), "logits", "but the model returns a tensor; remove it"),
        (torch.ones(2, 3, 4), None, r"the logits must be (B, C), got (2, 3, 4)"),
    ],
)
def test_an_output_without_logits_says_what_is_there(output, field, message):
    with pytest.raises(ModelError) as caught:
        select_logits(output, field)
    assert message in str(caught.value)
