"""What tests beside other libraries share."""

import torch
from scipy.stats import spearmanr
from torch import nn

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.testing.blobs import Arrays, Blobs


def ours(blobs: Blobs, name: str, **options) -> torch.Tensor:
    """Fit on the fit rows, and score the ID and the far rows."""
    fitted = fit(detector(name, **options), blobs.train.latents())
    return torch.cat([fitted.score(rows.latents()) for rows in (blobs.id, blobs.far)])


def both(blobs: Blobs, array: str) -> torch.Tensor:
    return torch.cat([getattr(blobs.id, array), getattr(blobs.far, array)])


def head_of(arrays: Arrays) -> nn.Linear:
    weight, bias = arrays.head
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    return head


def assert_same(scores: torch.Tensor, theirs: torch.Tensor) -> None:
    """Values to 1e-5 of the largest, and the same order but for ties in float32."""
    theirs = theirs.detach().double()
    assert (scores - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert spearmanr(scores, theirs).statistic > 1 - 1e-6


class Replay(nn.Module):
    """Gives one pass after the other, whatever it is asked."""

    def __init__(self, passes: torch.Tensor) -> None:
        super().__init__()
        self.passes = iter(passes.unbind(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return next(self.passes)
