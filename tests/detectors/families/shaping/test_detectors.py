import math

import pytest
import torch

from latentood.detectors.families.shaping.base import LOGIT_SCORES
from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import DetectorError, MissingInput
from latentood.latents import Latents
from latentood.testing.blobs import auroc, make_blobs
from tests.parity.agreement import assert_agrees

LEARNED = ("react", "vra", "dice", "dice_react")
ROWWISE = ("ash_p", "ash_b", "ash_s", "scale", "lts")


@pytest.fixture(scope="module")
def rectified():
    return make_blobs().rectified()


def relu_net(classes: int = 4, width: int = 64, rows: int = 200) -> tuple[Latents, Latents]:
    """ID and OOD rows of a wide ReLU layer: a class drives 16 units, an OOD input all a little."""
    weight = torch.eye(classes).repeat_interleave(width // classes, dim=1)
    labels = torch.arange(rows) % classes
    noise = torch.rand(2, rows, width)
    known = (weight[labels] * 2 + noise[0] - 0.7).relu()
    other = (0.4 + noise[1] - 0.7).relu()
    head = (weight - 0.25, torch.zeros(classes))
    return tuple(
        Latents(features={"penultimate": h}, logits=h @ head[0].T, labels=labels, head=head)
        for h in (known, other)
    )


@pytest.mark.parametrize("logit_score", LOGIT_SCORES)
@pytest.mark.parametrize("name", [*LEARNED, *ROWWISE])
def test_every_shaping_goes_with_every_logit_score(rectified, name, logit_score):
    assert_agrees(rectified, name, logit_score=logit_score)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("react", {"percentile": 55.5}),
        ("vra", {"low": 10.0, "high": 99.0}),
        ("vra", {"per_unit": True}),
        ("dice", {"sparsity": 0.0}),
        ("dice_react", {"sparsity": 40.0, "percentile": 70.0}),
        ("ash_p", {"percentile": 0.0}),
        ("ash_p", {"percentile": 100.0}),
        ("ash_b", {"percentile": 90.0}),
        ("ash_s", {"percentile": 99.0}),
        ("scale", {"percentile": 10.0}),
        ("lts", {"top": 50.0}),
    ],
)
def test_options_agree_with_the_slow_formula(rectified, name, options):
    assert_agrees(rectified, name, **options)


@pytest.mark.parametrize("name", [*LEARNED, *ROWWISE])
def test_wide_relu_features_tell_ood_rows(name):
    known, other = relu_net()
    fitted = fit(detector(name), known, known)
    assert auroc(fitted.score(known), fitted.score(other)) > 0.9


def test_unpruned_ash_p_is_energy_of_the_head(blobs):
    energy = fit(detector("energy"), blobs.train.latents()).score(blobs.far.latents())
    plain = fit(detector("ash_p", percentile=0.0), blobs.train.latents())
    torch.testing.assert_close(plain.score(blobs.far.latents()), energy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["ash_s", "scale"])
def test_unpruned_scaling_multiplies_by_e(rectified, name):
    weight, bias = rectified.far.head
    logits = rectified.far.features @ weight.T * math.e + bias
    fitted = fit(detector(name, percentile=0.0), rectified.train.latents())
    expected = -torch.logsumexp(logits, dim=1)
    torch.testing.assert_close(
        fitted.score(rectified.far.latents()), expected, rtol=1e-12, atol=1e-12
    )


def test_a_chain_does_what_its_links_do_one_after_the_other(blobs):
    train, val, rows = blobs.train.latents(), blobs.id.latents("val"), blobs.far.latents()
    react, dice, both = (fit(detector(n), train, val) for n in ("react", "dice", "dice_react"))
    assert torch.equal(both.state["clip"], react.state["clip"])
    assert torch.equal(both.state["weight"], dice.state["weight"])
    clipped = rows["features/penultimate"].clamp(max=float(react.state["clip"]))
    expected = dice.score(Latents(features={"penultimate": clipped}))
    torch.testing.assert_close(both.score(rows), expected, rtol=1e-13, atol=0)


def test_thresholds_come_from_val_rows_and_are_told(blobs):
    val = blobs.id.latents("val")
    diagnostics = fit(detector("react"), blobs.train.latents(), val).provenance["diagnostics"]
    assert diagnostics["clip"] == pytest.approx(float(blobs.id.features.quantile(0.9)), rel=1e-12)
    diagnostics = fit(detector("dice"), blobs.train.latents()).provenance["diagnostics"]
    assert diagnostics["weights_kept"] == 4 / 64  # of each class the unit of its own alone
    with pytest.raises(MissingInput, match="vra: needs 'features/penultimate' of an ID validation"):
        fit(detector("vra"), blobs.train.latents())


@pytest.mark.parametrize("name", ["ash_b", "ash_s", "scale"])
def test_negative_activations_are_refused_with_what_to_use_instead(blobs, name):
    fitted = fit(detector(name), blobs.train.latents())
    features = blobs.far.features.relu()
    features[11, 3] = -0.25
    with pytest.raises(DetectorError) as caught:
        fitted.score(Latents(features={"penultimate": features}, name="far"))
    assert str(caught.value) == (
        f"{name}: features/penultimate must be ≥ 0, as after a ReLU, got -0.25 in row 11 of "
        '"far"; use react, vra, ash_p or lts, which do without sums of activations of one sign'
    )


@pytest.mark.parametrize("name", ROWWISE)
def test_rows_without_any_activation_have_the_score_of_the_bias(rectified, name):
    bias = rectified.train.head[1]
    rows = Latents(features={"penultimate": torch.zeros(2, 16)}, logits=bias.repeat(2, 1))
    scores = fit(detector(name), rectified.train.latents()).score(rows)
    assert scores.tolist() == pytest.approx([-float(bias.logsumexp(0))] * 2, rel=1e-14)


def test_a_threshold_that_would_flatten_every_row_is_refused():
    sparse = torch.zeros(50, 8)
    sparse[:, 0] = torch.arange(50) + 1.0  # 7 of 8 activations are 0
    head = (torch.randn(3, 8), torch.zeros(3))
    val = Latents(features={"penultimate": sparse}, head=head, name="val")
    with pytest.raises(DetectorError) as caught:
        fit(detector("react", percentile=50.0), val, val)
    assert str(caught.value) == (
        "react: percentile 50.0 of features/penultimate must be above the smallest, got 0 for "
        'both over 50 ID val rows of "val"; raise the upper percentile, or use energy'
    )
    with pytest.raises(DetectorError, match=r"^vra: percentile 60\.0 .* above percentile 10\.0, "):
        fit(detector("vra", low=10.0, high=60.0), val, val)


def test_a_head_without_weights_left_is_refused(blobs):
    with pytest.raises(DetectorError) as caught:
        fit(detector("dice", sparsity=100.0), blobs.train.latents())
    assert str(caught.value) == (
        "dice: some contributions of weights must be above their percentile 100.0, got none over "
        '240 rows of "train"; lower it'
    )


def test_thresholds_in_the_wrong_order_are_refused():
    with pytest.raises(DetectorError) as caught:
        detector("vra", low=95.0, high=60.0)
    assert str(caught.value) == (
        "vra: low must be < high, got low=95.0 and high=60.0; the paper has 60 and 95"
    )


def test_a_head_of_another_layer_is_refused(blobs):
    train = Latents(
        features={"penultimate": blobs.train.features}, head=(torch.zeros(4, 7), torch.zeros(4))
    )
    with pytest.raises(DetectorError, match=r"^ash_p: the head must read the 16 features"):
        fit(detector("ash_p"), train)


@pytest.mark.parametrize("name", ["ash_s", "scale"])
def test_pruning_beyond_what_exp_can_hold_is_refused(name):
    with pytest.raises(DetectorError, match=rf"^{name}: percentile must be ≤ 99, got 99\.5"):
        detector(name, percentile=99.5)
