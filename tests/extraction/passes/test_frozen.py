"""Batch normalisation as an affine map is what torch computes in eval mode, and only there."""

import pytest
import torch
from torch import nn

from latentood.extraction.passes.norms import FrozenNorms


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [(nn.BatchNorm1d, (7, 3)), (nn.BatchNorm1d, (7, 3, 5)), (nn.BatchNorm2d, (7, 3, 4, 5))],
)
def test_it_equals_the_layer_with_and_without_vmap(layer, shape, affine):
    torch.manual_seed(0)
    norm = layer(3, affine=affine)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 4)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    norm.eval()
    x = torch.randn(4, *shape)
    truth = torch.stack([norm(part) for part in x])
    with FrozenNorms():
        torch.testing.assert_close(torch.stack([norm(part) for part in x]), truth)
        torch.testing.assert_close(torch.func.vmap(norm)(x), truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixed", [True, False])
def test_half_precision_is_rounded_once(dtype, mixed):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean.normal_()
    norm.running_var.uniform_(1e-4, 4)
    norm = norm if mixed else norm.to(dtype)
    x = torch.randn(4, 7, 3, 4, 5).to(dtype)
    truth = torch.stack([norm(part) for part in x])
    with FrozenNorms():
        ours = torch.func.vmap(norm)(x)
    assert ours.dtype == truth.dtype == dtype
    torch.testing.assert_close(ours, truth, rtol=torch.finfo(dtype).eps, atol=1e-3)


def test_batch_statistics_are_left_to_torch():
    for norm in (nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False).eval()):
        x = 5 + torch.randn(7, 3, 4, 4)
        with FrozenNorms():
            assert norm(x).mean().abs() < 1e-5


def test_under_vmap_nothing_is_normalised_by_torch(monkeypatch):
    norm = nn.BatchNorm2d(3).eval()
    monkeypatch.setattr(torch, "batch_norm", None)  # what F.batch_norm calls
    with pytest.raises(TypeError):
        norm(torch.randn(2, 3, 4, 4))
    with FrozenNorms():
        assert torch.func.vmap(norm)(torch.randn(5, 2, 3, 4, 4)).shape == (5, 2, 3, 4, 4)
