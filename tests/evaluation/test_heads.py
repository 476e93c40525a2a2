"""Detectors that read what heads predict are scored once for each head of a cache."""

import pytest
import torch

from latentood.evaluation.inputs.request import select
from latentood.latents import Latents
from latentood.latents.splits import SplitsInMemory


def splits(heads=()):
    def rows(name, seed):
        values = torch.randn(30, 3, generator=torch.Generator().manual_seed(seed)).exp()
        given = dict.fromkeys(heads, values) or None
        return Latents(logits=values, labels=torch.arange(30) % 3, dirichlet=given, name=name)

    return SplitsInMemory.of(
        train=("fit", rows("train", 0)), id=("id", rows("id", 1)), far=("far", rows("far", 2))
    )


@pytest.mark.parametrize(
    ("heads", "settings", "expected"),
    [
        ((), [], [""]),
        (("network",), [], ["network"]),
        (("network", "edl"), [], ["network", "edl"]),
        (("network", "edl"), ["vacuity.head=edl"], ["edl"]),
        (("network",), ["vacuity.evidence=exp"], [""]),
    ],
)
def test_every_head_is_read_unless_one_is_named(heads, settings, expected):
    chosen = select("vacuity", settings=settings, splits=splits(heads)).detectors
    assert [one.head for one in chosen] == expected


def test_without_a_head_what_only_heads_give_is_skipped_with_the_advice_to_train():
    skipped = {one.request.detector: one.reason for one in select("all", splits=splits()).skipped}
    assert "train the network with the objective posterior" in skipped["posterior_density"]
    assert "train the network with the objective prototypes" in skipped["prototype_distance"]
