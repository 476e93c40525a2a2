"""Fits that would take more memory than there is are refused before they begin."""

import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from latentood.detectors import checks
from latentood.detectors.fitted import fit
from latentood.detectors.registry import DETECTORS, detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from latentood.plugins import hyperparameters_of

FREE = 4 << 30
WIDTH = 100_000
SMALL = {"k": 5, "components": 2}
"""Settings that few rows suffice for."""

BY_WIDTH = [
    name
    for name, cls in DETECTORS.built_in.items()
    if any("/" in key and not key.startswith("scores/") for key in cls().needs().fit)
    and name != "neglabel"
]
"""Detectors that fit to features or entropies; neglabel asks rows for their width alone."""

REFUSED = {
    "mahalanobis", "mahalanobis_layers", "mahalanobis_radial", "rmd", "ssd", "dknn", "ddu", "vim",
    "residual", "neco", "pnml", "pca_reconstruction", "wdiscood", "larem", "larem_classwise",
    "fusion_mean", "fusion_max", "fusion_fisher", "fusion_brown",
}  # fmt: skip
"""Those that need a matrix of D × D, 75 GiB here."""


class Largest(TorchDispatchMode):
    """Remembers the bytes of the largest storage that a computation makes."""

    size = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, list | tuple) else [made]:
            if isinstance(one, torch.Tensor):
                self.size = max(self.size, one.untyped_storage().nbytes())
        return made


def wide(seed):
    """Rows of many dimensions that take little memory: the dimensions are all alike."""
    draw = torch.Generator().manual_seed(seed)
    noise = (1 + seed) * torch.rand(24, 3, 1, generator=draw)
    labels = torch.arange(24) % 4
    return Latents(
        features=dict.fromkeys(("penultimate", "gram"), noise[:, 0].expand(-1, WIDTH)),
        mc_features={"penultimate": noise.expand(-1, -1, WIDTH)},
        mc_entropy={"penultimate": noise[:, 0].expand(-1, WIDTH)},
        logits=4 * torch.eye(4)[labels] + torch.rand(24, 4, generator=draw),
        labels=labels,
        head=(torch.rand(4, WIDTH, generator=draw), torch.zeros(4)),
        name="wide",
    )


@pytest.fixture(scope="module")
def splits():
    return wide(0), wide(1)


@pytest.mark.parametrize("name", BY_WIDTH)
def test_a_wide_layer_is_fitted_in_bounded_memory_or_refused_by_name(name, splits, monkeypatch):
    monkeypatch.setattr(checks, "free_memory", lambda device: FREE)
    known = {one.name for one in hyperparameters_of(DETECTORS.built_in[name])}
    one = detector(name, **{key: value for key, value in SMALL.items() if key in known})
    with Largest() as largest:
        if name in REFUSED:
            with pytest.raises(DetectorError) as caught:
                fit(one, *splits)
        else:
            fit(one, *splits)
    assert largest.size < 1 << 30
    if name in REFUSED:
        what = rf"^{name}: what a fit takes must be ≤ the 4\.0 GiB that are free on cpu, got about "
        assert re.match(what + r"[\d.]+ [GT]iB for .*\(24, 100000\)", str(caught.value))
        assert str(caught.value).endswith(
            "; choose a narrower layer, a reduction that pools more, or a lower --memory"
        )


def test_a_matrix_for_each_component_is_counted(splits, monkeypatch):
    monkeypatch.setattr(checks, "free_memory", lambda device: FREE)
    with pytest.raises(DetectorError, match=r"^gmm: what a fit takes .* got about 2\.2 TiB for "):
        fit(detector("gmm", covariance="full"), *splits)


def test_what_is_free_now_is_what_counts(splits):
    one = detector("mahalanobis")
    assert one.memory(splits[0]) > 1 << 38
    narrow = Latents(features={"penultimate": torch.rand(60, 2048)}, labels=torch.arange(60) % 4)
    assert one.memory(narrow) == 8 * (6 * 2048**2 + 2 * 4 * 2048)
