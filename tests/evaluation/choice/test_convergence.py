"""Fewer passes than were kept, and how the AUROC grows with their number."""

import pytest
import torch

from latentood.detectors.registry import detector
from latentood.errors import DataError, DetectorError, MissingInput
from latentood.evaluation.choice.convergence import convergence
from latentood.evaluation.choice.passes import FirstPasses
from latentood.evaluation.scoring import score_all
from latentood.latents import Latents
from latentood.latents.splits import SplitsInMemory
from latentood.stats.entropy import kl_entropy
from tests.evaluation.choice.examples import of_passes, with_passes

DETECTORS = [detector("lared", layer="penultimate"), detector("mcd_msp")]


def cut(passes):
    """Give the splits as if only so many passes had been run."""
    full = of_passes()
    return SplitsInMemory(
        {
            name: Latents(
                logits=rows["logits"],
                labels=rows["labels"],
                features={"penultimate": rows["features/penultimate"]},
                mc_features={"penultimate": rows["mc.features/penultimate"][:, :passes]},
                mc_logits=rows["mc.logits"][:, :passes],
                name=name,
            )
            for name, rows in full.latents.items()
        },
        full.splits,
    )


def test_the_first_passes_are_those_of_a_cache_with_fewer():
    for passes in (2, 3, 5):
        view, alone = FirstPasses(of_passes(), passes), cut(passes)
        for name in ("train", "noise"):
            for key in ("mc.features/penultimate", "mc.logits", "mc.entropy/penultimate"):
                assert torch.equal(view[name][key], alone[name][key])
    entropy = kl_entropy(of_passes()["train"]["mc.features/penultimate"][:, :3])
    assert torch.equal(
        FirstPasses(of_passes(), 3)["train"]["mc.entropy/penultimate"], entropy.float()
    )


def test_entropies_without_their_features_are_left_out():
    rows = with_passes(30, 0.0, 0, "train")
    kept = Latents(
        mc_logits=rows["mc.logits"], mc_entropy={"layer1": rows["mc.entropy/penultimate"]}
    )
    given = SplitsInMemory.of(train=("fit", kept))
    assert "mc.entropy/layer1" not in FirstPasses(given, 3)["train"]
    assert "mc.entropy/layer1" in FirstPasses(given, 6)["train"]


def test_with_all_passes_the_points_are_those_of_an_ordinary_comparison():
    points = convergence(of_passes(), DETECTORS, passes=[6])
    ordinary = score_all(of_passes(), DETECTORS)
    expected = [
        (row.detector, row.split, row.auroc, row.auroc_low, row.auroc_high) for row in ordinary.rows
    ]
    assert [
        (one.detector, one.split, one.auroc, one.auroc_low, one.auroc_high)
        for one in points
        if one.split
    ] == expected
    averages = [one for one in points if not one.split]
    assert [one.auroc for one in averages] == [r.averages["far"].auroc for r in ordinary.results]


def test_each_point_is_a_comparison_on_a_cache_with_that_many_passes():
    points = convergence(of_passes(), DETECTORS)
    assert sorted({one.passes for one in points}) == [2, 3, 4, 5, 6]
    for passes in (2, 4):
        alone = score_all(cut(passes), DETECTORS)
        got = [one.auroc for one in points if one.passes == passes and one.split]
        assert got == [row.auroc for row in alone.rows]
    assert all(one.auroc_low <= one.auroc <= one.auroc_high for one in points)


def test_what_cannot_converge_is_refused():
    with pytest.raises(DetectorError, match="knn: must read stochastic passes"):
        convergence(of_passes(), [detector("knn")])
    for passes in (1, 7):
        with pytest.raises(DataError, match=r"passes must be from 2 to the 6 that are kept"):
            convergence(of_passes(), DETECTORS, passes=[passes])
    rows = with_passes(30, 0.0, 0, "train")
    only = Latents(mc_entropy={"penultimate": rows["mc.entropy/penultimate"]}, name="train")
    bare = SplitsInMemory.of(train=("fit", only), id=("id", only), far=("far", only))
    with pytest.raises(MissingInput, match=r"'mc.features/penultimate'.*keep: .features"):
        convergence(bare, [detector("lared")])
