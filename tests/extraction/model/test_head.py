"""Heads are found or named; logits are taken from any output."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from latentood.errors import ModelError
from latentood.extraction.model.head import linear_layer, select_logits
from latentood.extraction.model.readout import RowLogits, find_head
from tests.extraction.nets import CalledTwice, Conv, DictOutput, NoHead, inputs


def test_the_head_is_the_linear_layer_that_gives_the_logits():
    assert find_head(Conv().eval(), inputs(2), RowLogits(None)) == "fc"
    assert find_head(CalledTwice().eval(), inputs(2), RowLogits(None)) == "fc"
    assert find_head(DictOutput().eval(), inputs(2), RowLogits("logits")) == "fc"
    assert find_head(NoHead().eval(), inputs(2), RowLogits(None)) is None


def test_a_linear_layer_followed_by_anything_is_not_the_head():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4), nn.Softmax(dim=1)).eval()
    assert find_head(model, inputs(2), RowLogits(None)) is None


def test_a_head_named_wrongly_is_answered_with_the_linear_layers():
    with pytest.raises(ModelError, match="head 'fcc': must name a linear layer; did you mean 'fc'"):
        find_head(Conv(), inputs(2), RowLogits(None), named="fcc")


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


def test_a_head_is_given_with_its_bias_or_zeros():
    model = nn.ModuleDict({"with": nn.Linear(3, 2), "without": nn.Linear(3, 2, bias=False)})
    weight, bias = linear_layer(model, "with")
    assert weight is model["with"].weight
    assert bias is model["with"].bias
    weight, bias = linear_layer(model, "without")
    assert torch.equal(bias, torch.zeros(2))
    with pytest.raises(ModelError, match="head 'a': must be a linear layer, got ReLU"):
        linear_layer(nn.ModuleDict({"a": nn.ReLU()}), "a")
