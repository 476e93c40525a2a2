"""Views read what indexing of whole arrays gives, and nothing before it is asked for."""

import pytest
import torch

from latentood.latents import Latents
from latentood.latents.views import some_rows, with_classes_cut, without_classes


def rows(count=50):
    generator = torch.Generator().manual_seed(0)
    return Latents(
        logits=torch.randn(count, 4, generator=generator),
        labels=torch.arange(count) % 4,
        hashes=torch.arange(count),
        features={"a": torch.randn(count, 3, generator=generator)},
        mc_logits=torch.randn(count, 2, 4, generator=generator),
        dirichlet={"one": torch.randn(count, 4, generator=generator)},
        head=(torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator)),
        name="given",
    )


@pytest.mark.parametrize("index", [[0], [3, 4, 9, 10, 49], list(range(1, 50, 2))])
def test_some_rows_are_those_of_an_index(index):
    whole, part = rows(), some_rows(rows(), torch.tensor(index))
    assert len(part) == len(index)
    for key in whole.keys():  # noqa: SIM118
        if key != "head":
            assert torch.equal(part[key], whole[key][index])
            assert torch.equal(part.read(key, 1, 4), whole[key][index][1:4])
    assert torch.equal(part.head[0], whole.head[0])


def test_a_view_has_an_origin_and_statistics_of_its_own():
    whole = rows()
    part = some_rows(whole, torch.arange(5))
    assert part.origin != whole.origin
    assert part.name == "given"


def test_classes_are_taken_out_of_rows_labels_and_columns():
    whole, kept = rows(), torch.tensor([0, 3])
    part = without_classes(whole, kept)
    there = torch.isin(whole["labels"], kept)
    assert torch.equal(part["labels"], (whole["labels"][there] == 3).long())
    for key in ("logits", "dirichlet/one"):
        assert torch.equal(part[key], whole[key][there][:, kept])
    assert torch.equal(part["mc.logits"], whole["mc.logits"][there][..., kept])
    assert torch.equal(part["features/a"], whole["features/a"][there])
    assert torch.equal(part.head[1], whole.head[1][kept])
    cut = with_classes_cut(whole, kept)
    assert len(cut) == len(whole)
    assert "labels" not in cut
    assert torch.equal(cut["logits"], whole["logits"][:, kept])


def test_rows_without_a_label_are_left_out_with_those_of_other_classes():
    given = Latents(features={"a": torch.arange(4.0)[:, None]}, labels=torch.tensor([1, -1, 0, 1]))
    assert without_classes(given, torch.tensor([0, 1]))["features/a"].flatten().tolist() == [
        0,
        2,
        3,
    ]
