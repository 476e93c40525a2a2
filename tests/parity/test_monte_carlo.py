"""Monte Carlo scores beside pytorch-ood 0.4.0, whose model is replaced by one that replays ours."""

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.testing.blobs import make_blobs
from latentood.testing.detector_contract import assert_close
from tests.parity.peers import Replay

peer = pytest.importorskip("pytorch_ood.detector", reason="pytorch-ood is not installed")


def test_mcd_msp_is_its_mean_mode():
    """It adds passes up in float32, so values agree to 1e-6."""
    blobs = make_blobs()
    passes = torch.cat([blobs.id.mc_logits, blobs.far.mc_logits])
    theirs = peer.MCD(Replay(passes), samples=16, mode="mean").predict(passes[:, 0])
    fitted = fit(detector("mcd_msp"), blobs.train.latents())
    scores = torch.cat([fitted.score(rows.latents()) for rows in (blobs.id, blobs.far)])
    assert_close(scores, theirs.double().numpy(), 1e-6)
