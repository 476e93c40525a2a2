import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError
from latentood.latents import Latents
from tests.parity.agreement import assert_agrees

BOTH = ("radial", "mahalanobis_radial")


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("betas", [(0.4,), (1.0,), (-0.7,), (1.5,), (-1.0, 0.3), (0.9, 1.0, 0.2)])
def test_every_power_agrees_with_the_slow_formula(blobs, name, betas):
    assert_agrees(blobs, name, betas=betas)


def test_power_0_is_mahalanobis_and_1_is_that_of_rows_of_length_1(blobs):
    train, rows = blobs.train.latents(), blobs.far.latents()
    plain = fit(detector("mahalanobis"), train).score(rows)
    scaled = fit(detector("mahalanobis_radial", betas=(0.0,)), train).score(rows)
    torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-9)

    def unit(arrays):
        h = torch.nn.functional.normalize(arrays.features, dim=1)
        return Latents(features={"penultimate": h}, labels=arrays.labels)

    of_unit = fit(detector("mahalanobis"), unit(blobs.train)).score(unit(blobs.far))
    scaled = fit(detector("mahalanobis_radial", betas=(1.0,)), train).score(rows)
    torch.testing.assert_close(
        scaled, of_unit, rtol=1e-6, atol=1e-9
    )  # the whitener is near singular


def test_power_0_before_the_head_is_energy(blobs):
    train, rows = blobs.train.latents(), blobs.far.latents()
    scaled = fit(detector("radial", betas=(0.0,)), train).score(rows)
    energy = fit(detector("energy"), train).score(rows)
    torch.testing.assert_close(scaled, energy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("beta", [-0.5, 0.0, 0.25, 0.5, 0.75])
def test_the_power_is_found_that_makes_rows_gaussian(name, beta):
    draw = torch.Generator().manual_seed(2)
    labels = torch.arange(2000) % 4
    gaussian = 3 * torch.eye(8)[labels] + 0.5 * torch.randn(2000, 8, generator=draw)
    # h/‖h‖^β = g has ‖h‖ = ‖g‖^(1/(1−β))
    h = gaussian * gaussian.norm(dim=1, keepdim=True) ** (1 / (1 - beta) - 1)
    head = (torch.randn(4, 8, generator=draw), torch.zeros(4))
    fitted = fit(detector(name), Latents(features={"penultimate": h}, labels=labels, head=head))
    assert fitted.provenance["diagnostics"]["beta"] == beta


def test_the_power_is_the_same_at_every_scale_of_the_features(blobs):
    chosen = []
    for scale in (1.0, 1e3):
        h = {"penultimate": blobs.train.features * scale}
        train = Latents(features=h, labels=blobs.train.labels)
        chosen.append(float(fit(detector("mahalanobis_radial"), train).state["beta"]))
    assert chosen[0] == chosen[1]


def test_a_row_of_zeros_stays_one(blobs):
    rows = Latents(features={"penultimate": torch.zeros(1, 16)})
    bias = blobs.train.head[1]
    for beta in (0.5, 1.0, -0.5):
        fitted = fit(detector("radial", betas=(beta,)), blobs.train.latents())
        assert fitted.score(rows).item() == pytest.approx(-float(bias.logsumexp(0)), rel=1e-12)


@pytest.mark.parametrize("name", BOTH)
def test_a_choice_of_nothing_is_refused(name):
    with pytest.raises(DetectorError) as caught:
        detector(name, betas=())
    assert str(caught.value) == (
        f"{name}: betas must name a power or several, got none; 0 leaves features as they are"
    )
