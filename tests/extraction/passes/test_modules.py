"""Noise that stands in for a module has that module's distribution; other noise is run as it is.

Both are drawn thousands of times. The frequency with which each pair of positions is dropped must
agree: pairs of a position with itself are the shares, the others the correlation.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth
from torchvision.ops.drop_block import DropBlock2d, DropBlock3d

from latentood.errors import FingerprintMismatch, ModelError
from latentood.extraction.passes.modules import Unknown, noise_of, stochastic_modules
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.passes.plan import Plan, make_plan
from latentood.extraction.passes.sites import Pass, find_sites, noisy
from latentood.models import DropBlock
from latentood.pipeline.schema import MonteCarlo, parse_pipeline
from latentood.workflows import extract
from tests.extraction.nets import Conv, inputs
from tests.extraction.run.test_runner import pipeline
from tests.references import dropblock as package

ROWS = 6000
FLAT, MAP, WIDE, VOLUME = (12,), (2, 6, 6), (2, 3, 7), (2, 4, 4, 4)
ACTIVATE = MonteCarlo(passes=2, activate=True)


def timm(name, **args):
    return getattr(
        pytest.importorskip("timm.layers", reason="the extra [timm] is not installed"), name
    )(**args)


def installed(name, **args):
    return getattr(
        pytest.importorskip("dropblock", reason="the package dropblock is not installed"), name
    )(**args)


CASES = {
    "dropout": (lambda: nn.Dropout(0.3), MAP),
    "dropout1d": (lambda: nn.Dropout1d(0.3), (4, 3)),
    "dropout1d of features": (lambda: nn.Dropout1d(0.3), FLAT),
    "dropout2d": (lambda: nn.Dropout2d(0.3), MAP),
    "dropout2d of sequences": (lambda: nn.Dropout2d(0.3), (4, 3)),
    "dropout3d": (lambda: nn.Dropout3d(0.3), VOLUME),
    "dropout3d of maps": (lambda: nn.Dropout3d(0.3), MAP),
    "stochastic depth": (lambda: StochasticDepth(0.3, "row"), MAP),
    "drop path": (lambda: timm("DropPath", drop_prob=0.3), MAP),
    "drop path, unscaled": (lambda: timm("DropPath", drop_prob=0.3, scale_by_keep=False), MAP),
    "ours": (lambda: DropBlock(0.4, 3), MAP),
    "ours, per channel": (lambda: DropBlock(0.4, 4, shared=False), MAP),
    "ours, clipped": (lambda: DropBlock(0.4, 5), WIDE),
    "torchvision": (lambda: DropBlock2d(0.4, 3), MAP),
    "torchvision, clipped": (lambda: DropBlock2d(0.4, 5), WIDE),
    "torchvision 3D": (lambda: DropBlock3d(0.4, 3), VOLUME),
    "timm": (lambda: timm("DropBlock2d", drop_prob=0.4, block_size=3), MAP),
    "timm, even": (lambda: timm("DropBlock2d", drop_prob=0.4, block_size=4), MAP),
    "timm, clipped": (lambda: timm("DropBlock2d", drop_prob=0.4, block_size=5), WIDE),
    "timm, per channel": (
        lambda: timm(
            "DropBlock2d", drop_prob=0.4, block_size=3, gamma_scale=0.5,
            couple_channels=False, scale_by_keep=False,
        ),
        MAP,
    ),
    "dropblock": (lambda: package.DropBlock2D(0.4, 3), MAP),
    "dropblock, even": (lambda: package.DropBlock2D(0.4, 4), MAP),
    "dropblock, larger than the map": (lambda: package.DropBlock2D(0.9, 5), WIDE),
    "dropblock 3D": (lambda: package.DropBlock3D(0.4, 3), VOLUME),
    "dropblock as installed": (lambda: installed("DropBlock2D", drop_prob=0.4, block_size=4), MAP),
    "dropblock 3D as installed": (
        lambda: installed("DropBlock3D", drop_prob=0.4, block_size=3), VOLUME,
    ),
}  # fmt: skip


def pairs(out):
    """How often each pair of positions is dropped: (rows, …) → (positions, positions)."""
    dropped = (out == 0).flatten(1).float()
    return dropped.T @ dropped / len(out)


def levels(out):
    """The largest value of a row by how many of its positions are kept."""
    return {int((row != 0).sum()): float(row.max()) for row in out.flatten(1) if row.any()}


def assert_same_distribution(ours, theirs):
    a, b = pairs(ours), pairs(theirs)
    pooled = (a + b) / 2
    error = (pooled * (1 - pooled) * 2 / len(ours)).sqrt()  # binomial, of a difference
    # Beyond 5 of them lies one of 1.7 million; there are at most 8,256 pairs.
    assert ((a - b).abs() <= 5 * error).all(), ((a - b).abs() / error).nan_to_num().max()


def drawn(module, shape, rows=ROWS):
    torch.manual_seed(0)
    return module.train()(torch.ones(rows, *shape))


def stand_in(module, shape):
    noise = noise_of(module)
    return noise.apply(
        torch.ones(ROWS, *shape), row_keys(1, torch.arange(ROWS)), torch.tensor(0), 0
    )


@pytest.mark.filterwarnings("ignore:dropout2d. Received a 3D input:UserWarning")
@pytest.mark.parametrize("case", CASES)
def test_a_stand_in_has_the_distribution_of_the_module(case):
    make, shape = CASES[case]
    module = make()
    ours = stand_in(module, shape)
    assert_same_distribution(ours, drawn(module, shape))
    here, there = levels(ours), levels(torch.cat([module(x) for x in torch.ones(300, 1, *shape)]))
    common = sorted(here.keys() & there.keys())
    assert len(common) > len(there) / 2
    assert [here[n] for n in common] == pytest.approx([there[n] for n in common], rel=1e-5)


@pytest.mark.parametrize("shape", [MAP, FLAT])
@pytest.mark.parametrize("kind", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_dropout_has_the_two_values_and_the_shares_of_torch(kind, shape):
    module = kind(0.3)
    ours, theirs = stand_in(module, shape), drawn(module, shape)
    torch.testing.assert_close(ours.unique().aminmax(), theirs.unique().aminmax())
    assert_same_distribution((ours > 0).float(), (theirs > 0).float())


@pytest.mark.parametrize("kind", [nn.Dropout, nn.Dropout2d, nn.AlphaDropout])
def test_dropping_everything_gives_zeros(kind):
    assert torch.equal(stand_in(kind(1.0), MAP), drawn(kind(1.0), MAP))


@pytest.mark.filterwarnings("ignore:dropout2d. Received a 3D input:UserWarning")
@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (F.dropout, MAP), (F.dropout1d, (4, 3)), (F.dropout1d, FLAT), (F.dropout2d, MAP),
        (F.dropout3d, VOLUME), (F.dropout3d, MAP),
    ],
)  # fmt: skip
def test_functional_dropout_has_the_distribution_of_the_function(function, shape):
    class Calls(nn.Module):
        def forward(self, x):
            return function(x, 0.3, self.training)

    config = MonteCarlo(passes=2, activate="functional")
    sites = find_sites(model := Calls().eval(), config, torch.ones(2, *shape))
    with noisy(model, sites, Pass(row_keys(1, torch.arange(ROWS)), torch.tensor(0))):
        ours = model(torch.ones(ROWS, *shape))
    assert_same_distribution(ours, drawn(model, shape))


def test_stochastic_depth_of_a_batch_is_drawn_for_each_row_with_the_same_share():
    noise = noise_of(StochasticDepth(0.3, "batch"))
    assert noise == noise_of(StochasticDepth(0.3, "row"))


def test_a_map_that_loses_everything_is_zeros_where_the_package_divides_by_zero():
    module = package.DropBlock2D(0.9999, 1).train()
    assert module(torch.ones(1, 1, 1, 1)).isnan().all()
    assert not stand_in(module, (1, 1, 1))[:100].any()


class DropBlock2D(nn.Module):
    """A user's own, which has the name of a library's and drops columns."""

    def __init__(self, drop_prob=0.4, block_size=3):
        super().__init__()
        self.drop_prob, self.block_size = drop_prob, block_size

    def forward(self, x, factor=1.0):
        if not self.training:
            return x
        return x * (torch.rand(len(x), 1, 1, x.shape[3]) >= self.drop_prob) * factor


class Halved(nn.Dropout):
    """A subclass with a forward of its own."""

    def forward(self, x):
        return super().forward(x) / 2 if self.training else x


class Renamed(nn.Dropout2d):
    """A subclass with the forward of its base."""


class DropPath(nn.Module):
    """A container of noise that is known."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return self.drop(x)


class Net(Conv):
    """Noise between the two convolutions."""

    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        return self.fc(self.conv2(self.noise(F.relu(self.bn(self.conv1(x))))).mean(dim=(2, 3)))


def own_noise():
    return Net(DropBlock2D())


def plan(noise, activate=True):
    raw = {
        "name": "test", "model": {"target": "unused"}, "layers": ["noise", "penultimate"],
        "monte_carlo": {"passes": 4, "activate": activate},
        "splits": {"train": {"role": "fit", "target": "unused"}},
    }  # fmt: skip
    torch.manual_seed(0)
    return make_plan(Net(noise).eval().requires_grad_(False), parse_pipeline(raw), inputs(2))


def test_a_class_is_known_by_its_path_and_by_the_forward_it_uses():
    assert noise_of(DropBlock2D()) == Unknown(f"{__name__}.DropBlock2D")
    assert noise_of(Halved(0.3)) == Unknown(f"{__name__}.Halved")
    assert noise_of(Renamed(0.3)) == noise_of(nn.Dropout2d(0.3))
    assert noise_of(DropBlock2D(drop_prob=0.0)) is None
    assert noise_of(nn.Linear(2, 2)) is None


def test_of_a_container_of_noise_the_noise_alone_counts():
    assert stochastic_modules(nn.Sequential(DropPath())) == {"0.drop": noise_of(nn.Dropout(0.2))}


def test_noise_of_a_class_that_is_not_known_is_run_as_it_is():
    (site,) = find_sites(model := Net(DropBlock2D()).eval(), ACTIVATE, inputs(2))
    with noisy(model, [site], Pass(row_keys(1, torch.arange(500)), torch.tensor(0))):
        ours = model.noise(torch.ones(500, *MAP), factor=2.0)
    assert ours.max() == 2
    assert_same_distribution(ours, drawn(model.noise, MAP, rows=500))


@pytest.mark.parametrize("noise", [DropBlock2D, lambda: Halved(0.3)])
def test_noise_that_is_run_as_it_is_depends_on_row_and_pass_alone(noise):
    engine = plan(noise()).engine
    x, keys = inputs(6), row_keys(1, torch.arange(6))
    whole = engine.run(x, keys)
    torch.manual_seed(3)
    parts = [engine.run(x[i : i + 2], keys[i : i + 2]).mc_features["noise"] for i in (0, 2, 4)]
    torch.testing.assert_close(whole.mc_features["noise"], torch.cat(parts))
    assert not torch.equal(whole.mc_logits[:, 0], whole.mc_logits[:, 1])
    torch.manual_seed(3)
    before = torch.get_rng_state()
    engine.run(x, keys)
    assert torch.equal(torch.get_rng_state(), before), "the user's generator goes on as it was"
    assert not any(module.training for module in engine.model.modules())


def test_a_transformers_drop_path_is_reached():
    swin = pytest.importorskip(
        "transformers.models.swin.modeling_swin", reason="the extra [hf] is not installed"
    )
    module = swin.SwinDropPath(0.3)
    assert isinstance(noise_of(module), Unknown)
    assert noise_of(swin.SwinDropPath(0.0)) is None


def test_noise_without_a_tensor_is_an_error_that_names_the_class():
    class Dropout(nn.Module):
        def forward(self, x=None):
            return x

    class Keyword(Net):
        def forward(self, x):
            return self.fc(self.noise(x=self.conv1(x)).mean(dim=(2, 3)))

    model = Keyword(Dropout()).eval()
    (site,) = find_sites(model, ACTIVATE, inputs(2))
    with (
        pytest.raises(ModelError, match=r"'noise': the first argument of a .*Dropout must be a te"),
        noisy(model, [site], Pass(row_keys(1, torch.arange(2)), torch.tensor(0))),
    ):
        model(inputs(2))


def test_noise_that_cannot_be_repeated_is_an_error():
    class CountingDropout(DropBlock2D):
        calls = 0

        def forward(self, x):
            self.calls += self.training
            return x * self.calls if self.training else x

    class AlwaysOn(nn.Dropout):
        def forward(self, x):
            return F.dropout(x, self.p, training=True)

    for noise in (CountingDropout(), AlwaysOn(0.3)):
        with pytest.raises(ModelError, match="the same rows give other outputs when they are run"):
            plan(noise)


def test_masks_that_the_first_caches_do_not_have_are_named_in_the_fingerprint():
    for first in (DropBlock2d(0.4, 3), DropBlock(0.4, 3), nn.Dropout(0.3)):
        assert plan(first).facts == {}
    marks = "monte_carlo.noise"
    assert plan(DropBlock2D()).facts == {marks: [f"noise: {__name__}.DropBlock2D"]}
    (mark,) = plan(package.DropBlock2D(0.4, 3)).facts[marks]
    assert mark == (
        "noise: DropBlock(p=0.4, block_size=3, shared=True, variant='dropblock', scale=True)"
    )


def test_a_cache_with_other_masks_is_not_resumed(monkeypatch, tmp_path):
    run = pipeline(model__target=f"{__name__}.own_noise")
    monkeypatch.setattr(Plan, "facts", {})  # as caches were before
    extract(run, tmp_path / "s", splits=["train"])
    monkeypatch.undo()
    with pytest.raises(
        FingerprintMismatch, match=r"monte_carlo.noise is absent there but \[\"noise"
    ):
        extract(run, tmp_path / "s")
