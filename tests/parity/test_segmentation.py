"""Our scores of cells at stride 1 beside the segmentation scores of pytorch-ood 0.4.0."""

import pytest
import torch

import latentood as lo
from latentood.extraction.run.job import prepare
from latentood.extraction.run.runner import run
from latentood.pipeline.schema import parse_pipeline
from latentood.store.cache import open_cache
from tests.extraction.members.scenes import Masked

peer = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")
SCENES = "tests.extraction.members.scenes"


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    """Rows of the ID split, and the logits of the network for its images."""
    masked = f"{SCENES}.Masked"
    pipeline = parse_pipeline(
        {
            "name": "pixels",
            "model": {"target": f"{SCENES}.Segmenter"},
            "layers": ["penultimate"],
            "unit": "cell",
            "cells": {"stride": 1, "sample": {"fit": 40}},
            "splits": {
                "train": {"role": "fit", "target": masked},
                "id": {"role": "id", "target": masked, "args": {"rows": 4}},
            },
            "extract": {"device": "cpu"},
        }
    )
    job, store = prepare(pipeline), tmp_path_factory.mktemp("pixels") / "c.zarr"
    run(job, store)
    with torch.no_grad():
        logits = job.plan.engine.model(Masked(4).images)
    return open_cache(store), logits


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("msp", {}, lambda: peer.MaxSoftmax(None)),
        ("msp", {"temperature": 2.0}, lambda: peer.MaxSoftmax(None, t=2.0)),
        ("max_logit", {}, lambda: peer.MaxLogit(None)),
        ("energy", {}, lambda: peer.EnergyBased(None)),
        ("energy", {"temperature": 3.0}, lambda: peer.EnergyBased(None, t=3.0)),
        ("entropy", {}, lambda: peer.Entropy(None)),
    ],
)
def test_scores_of_pixels_are_theirs(pixels, name, options, theirs):
    cache, logits = pixels
    fitted = lo.fit(lo.detector(name, **options), cache["train"].members("cell"))
    ours = fitted.score(cache["id"].members("cell")).reshape(4, 24, 24)
    expected = theirs().predict_logits(logits).double()
    assert (ours - expected).abs().max() < 1e-6
