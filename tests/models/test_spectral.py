"""Spectral normalisation with a soft bound."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from latentood.errors import ModelError
from latentood.extraction.model.weights import load_weights
from latentood.models import digits_resnet, spectral_normalised
from latentood.pipeline.sections import Target
from latentood.pipeline.targets import build


class Mixed(nn.Module):
    """A layer of every kind."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.line = nn.Conv1d(4, 5, 3)
        self.fc = nn.Linear(5, 3)
        with torch.no_grad():
            for layer in (self.conv, self.up, self.line, self.fc):
                layer.weight.mul_(8)  # beyond all bounds below

    def forward(self, images):
        maps = self.norm(self.up(self.conv(images).relu())).relu()
        return self.fc(self.line(maps.flatten(2)).relu().mean(dim=2))


def network(**options):
    torch.manual_seed(0)
    return spectral_normalised(Mixed(), **options)


def matrices(net):
    """The weights that act, each as a matrix with one row per output channel."""
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    axes = [int(m.transposed) if hasattr(m, "transposed") else 0 for m in layers]
    return [
        m.weight.detach().movedim(axis, 0).flatten(1) for m, axis in zip(layers, axes, strict=True)
    ]


def norms(net):
    return [float(torch.linalg.matrix_norm(matrix, ord=2)) for matrix in matrices(net)]


def train(net, steps=20, rate=0.3):
    optimiser = torch.optim.SGD(net.train().parameters(), lr=rate)
    torch.manual_seed(1)
    labels = torch.arange(8) % 3
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(torch.randn(8, 2, 6, 6)), labels).backward()
        optimiser.step()
    return net.eval()


@pytest.mark.parametrize("coefficient", [0.5, 1.0, 3.0])
def test_no_largest_singular_value_exceeds_the_bound_after_training(coefficient):
    net = network(coefficient=coefficient)
    before = torch.cat([one.flatten() for one in matrices(net)])
    assert norms(train(net)) == pytest.approx([coefficient] * 4, rel=0.01)
    assert not torch.allclose(before, torch.cat([one.flatten() for one in matrices(net)]))


def test_every_kind_of_layer_is_bounded_by_output_channels():
    assert norms(network(coefficient=0.05).eval()) == pytest.approx([0.05] * 4, rel=1e-3)


def test_training_steps_go_on_from_the_vectors_of_the_step_before():
    net = network(coefficient=0.05)
    for one in net.modules():
        if isinstance(one, nn.Linear | nn.modules.conv._ConvNd):
            one.weight = torch.randn_like(one.weight)
    early = norms(net)
    for _ in range(200):
        late = norms(net)
    assert late == pytest.approx([0.05] * 4, rel=1e-3)
    assert max(early) > 0.0505


def test_the_bound_holds_again_after_more_training():
    net = train(network(coefficient=0.5))
    norms(net)  # by now σ has been computed for eval mode
    for one in net.parameters():
        one.data.mul_(torch.rand_like(one) * 10)
    assert norms(train(net, steps=3)) == pytest.approx([0.5] * 4, rel=0.01)


def test_a_weight_below_the_bound_is_the_one_that_was_there():
    torch.manual_seed(0)
    plain = Mixed()
    bounded = spectral_normalised(copy.deepcopy(plain), coefficient=1000.0)
    images = torch.randn(4, 2, 6, 6)
    assert torch.equal(plain.eval()(images), bounded.eval()(images))


def test_gradients_are_those_of_the_weight_divided_by_its_norm():
    weight = torch.randn(4, 3, dtype=torch.float64)
    layer = nn.Linear(3, 4, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
    spectral_normalised(layer, coefficient=0.5, iterations=200)
    layer.train()
    layer.weight.square().sum().backward()
    original = weight.clone().requires_grad_()
    (0.5 * original / torch.linalg.matrix_norm(original, ord=2)).square().sum().backward()
    torch.testing.assert_close(layer.parametrizations.weight.original.grad, original.grad)


def test_two_forwards_before_a_backward_are_allowed():
    net = network(coefficient=0.5)
    images = torch.randn(4, 2, 6, 6)
    (net(images).sum() + net(images).sum()).backward()


def test_a_convolution_stretches_by_at_most_the_root_of_its_taps_times_the_bound():
    net = network(coefficient=0.5).eval()
    convolution = nn.Conv2d(2, 4, 3, padding=1, bias=False)
    spectral_normalised(convolution, coefficient=0.5).eval()
    identity = torch.eye(2 * 36).reshape(72, 2, 6, 6)
    operator = convolution(identity).flatten(1).detach()
    norm = float(torch.linalg.matrix_norm(operator, ord=2))
    assert 0.5 < norm <= 0.5 * 3
    assert len(norms(net)) == 4


def test_a_network_of_zero_weights_stays_finite():
    net = Mixed()
    for one in net.parameters():
        nn.init.zeros_(one)
    spectral_normalised(net)
    net(torch.randn(4, 2, 6, 6)).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_the_weights_of_a_trained_network_are_loaded_into_one_that_a_pipeline_builds(tmp_path):
    torch.manual_seed(0)
    net = spectral_normalised(digits_resnet(), coefficient=0.7)
    torch.nn.functional.cross_entropy(net(torch.randn(8, 1, 8, 8)), torch.arange(8)).backward()
    torch.optim.SGD(net.parameters(), lr=0.5).step()
    net(torch.randn(8, 1, 8, 8))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    target = Target(
        target="latentood.models.spectral_normalised",
        args={"model": {"target": "latentood.models.digits_resnet"}, "coefficient": 0.7},
    )
    again = build(target)
    load_weights(again, tmp_path / "net.safetensors")
    images = torch.randn(3, 1, 8, 8)
    wanted = net.eval()(images)
    assert torch.equal(again.eval()(images), wanted)
    assert torch.equal(again(images), wanted), "eval mode moves nothing"


def test_predictions_change_nothing_that_is_saved():
    net = train(network(coefficient=0.5))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net(torch.randn(4, 2, 6, 6))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(name.endswith("_settled") for name in before)


def test_weights_that_are_loaded_in_eval_mode_are_bounded_too():
    images, net = torch.randn(4, 2, 6, 6), network(coefficient=0.5).eval()
    net(images)
    other = spectral_normalised(Mixed(), coefficient=0.5).eval()
    net.load_state_dict(other.state_dict())
    assert torch.equal(net(images), other(images))


def test_mixed_precision_does_not_blur_the_bound():
    net = train(network(coefficient=0.5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight = net.conv.weight
    assert torch.equal(weight, net.conv.weight)


def test_passes_side_by_side_see_one_weight():
    net, images = train(network(coefficient=0.5)), torch.randn(3, 4, 2, 6, 6)
    passes = torch.func.vmap(net)(images)
    torch.testing.assert_close(passes, torch.stack([net(one) for one in images]))


def test_layers_to_skip_stay_as_they_are():
    net = network(coefficient=0.1, skip=["fc"])
    assert "fc.weight" in net.state_dict()
    assert "conv.parametrizations.weight.original" in net.state_dict()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network(coefficient=0.0), "coefficient must be > 0 and iterations ≥ 1, got 0.0"),
        (lambda: network(iterations=0), "iterations ≥ 1, got 3.0 and 0"),
        (lambda: network(skip=["lines"]), "got 'lines'; did you mean 'line'"),
        (lambda: spectral_normalised(nn.ReLU()), "without a parametrisation, got none; normalise"),
        (lambda: spectral_normalised(network()), "got none without; normalise a plain model, once"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ModelError, match=f"spectral_normalised: .*{message}"):
        make()
