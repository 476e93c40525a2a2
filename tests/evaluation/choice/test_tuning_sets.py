"""Tuning sets: made of val rows, consistent for what reads them, refused for what cannot."""

import pytest
import torch

from latentood.detectors.fitted import fit
from latentood.detectors.registry import detector
from latentood.errors import ConfigError, DataError, DetectorError, MissingInput
from latentood.evaluation import metrics
from latentood.evaluation.choice.choosing import choose
from latentood.evaluation.choice.guard import ChoiceSplits
from latentood.evaluation.choice.held_out import held_out
from latentood.evaluation.choice.synthetic import require_consistent, synthetic_rows
from latentood.evaluation.choice.tuning_sets import scenarios
from latentood.evaluation.choice.wish import Wish
from latentood.latents import Budget, Latents
from latentood.latents.splits import SplitsInMemory
from tests.evaluation.choice.examples import of_passes, tunable


def headed(rows=90, *, seed=0, name="val", relu=True, classes=4):
    """Rows of a linear head over features that are never negative."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    features = torch.eye(classes, 6)[labels] * 5 + torch.randn(rows, 6, generator=generator)
    features = features.relu() if relu else features
    weight = torch.eye(classes, 6) + 0.1
    bias = torch.arange(classes) / 10
    return Latents(
        features={"penultimate": features, "layer1": features[:, :2] - 3},
        logits=features @ weight.T + bias,
        labels=labels,
        head=(weight, bias),
        mc_logits=torch.randn(rows, 3, classes, generator=generator),
        name=name,
    )


def cache(**options):
    return SplitsInMemory.of(
        train=("fit", headed(120, seed=1, name="train", **options)), val=("val", headed(**options))
    )


@pytest.mark.parametrize("how", ["gaussian", "uniform", "mixup"])
def test_logits_of_a_synthetic_set_are_those_of_the_head(how):
    val = headed()
    made = synthetic_rows(how, val, 0)
    weight, bias = made.head
    expected = made.double("features/penultimate") @ weight.T + bias
    torch.testing.assert_close(made.double("logits"), expected, rtol=1e-6, atol=1e-6)
    assert len(made) == len(val)
    assert set(made.keys()) == {"features/penultimate", "features/layer1", "logits", "head"}


@pytest.mark.parametrize("how", ["gaussian", "uniform", "mixup"])
def test_a_synthetic_set_depends_on_the_seed_alone(how):
    first, again, other = (synthetic_rows(how, headed(), seed) for seed in (0, 0, 1))
    key = "features/penultimate"
    assert torch.equal(first[key], again[key])
    assert not torch.equal(first[key], other[key])


@pytest.mark.parametrize("how", ["gaussian", "uniform"])
def test_features_that_are_never_negative_stay_so(how):
    assert float(synthetic_rows(how, headed(), 0)["features/penultimate"].min()) >= 0
    assert float(synthetic_rows(how, headed(), 0)["features/layer1"].min()) < 0


def test_gaussian_and_uniform_have_the_moments_and_the_range_of_the_val_rows():
    val = headed(20_000, relu=False)
    key = "features/penultimate"
    gaussian, uniform = (synthetic_rows(how, val, 0)[key] for how in ("gaussian", "uniform"))
    torch.testing.assert_close(gaussian.mean(dim=0), val[key].mean(dim=0), rtol=0, atol=0.1)
    torch.testing.assert_close(gaussian.std(dim=0), val[key].std(dim=0), rtol=0.05, atol=0)
    low, high = torch.aminmax(val[key], dim=0)
    assert bool(((uniform >= low) & (uniform <= high)).all())
    assert float(torch.corrcoef(gaussian.T).fill_diagonal_(0).abs().max()) < 0.05


def test_mixup_is_the_mean_of_rows_of_two_classes():
    val = headed(40)
    mixed = synthetic_rows("mixup", val, 3)["features/penultimate"]
    features, labels = val["features/penultimate"], val["labels"]
    every = (features[:, None] + features[None]) / 2  # (N, N, D)
    for row in mixed:
        same = (every - row).abs().amax(dim=2) < 1e-6
        pairs = same.nonzero()
        assert len(pairs)
        assert all(labels[a] != labels[b] for a, b in pairs.tolist())


def test_mixup_of_one_class_is_refused():
    one = Latents(features={"penultimate": torch.randn(9, 2)}, labels=torch.zeros(9).long())
    with pytest.raises(DataError, match="must have rows of ≥ 2 classes"):
        synthetic_rows("mixup", one, 0)
    with pytest.raises(DataError, match="must have labels or logits"):
        synthetic_rows("mixup", Latents(features={"penultimate": torch.randn(9, 2)}), 0)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lared", {}),
        ("mcd_msp", {}),
        ("gram", {}),
        ("nnguide", {"layer": "layer1"}),
        ("mahalanobis_layers", {"layers": ("layer1", "penultimate")}),
    ],
)
def test_a_detector_that_reads_more_than_follows_from_features_is_refused(name, settings):
    with pytest.raises(DetectorError, match=rf"{name}: must read features of one layer, or logits"):
        require_consistent(detector(name, **settings), "synthetic mixup")


@pytest.mark.parametrize(
    ("name", "settings"),
    [("knn", {"layer": "layer1"}), ("vim", {}), ("msp", {}), ("react", {}), ("nnguide", {})],
)
def test_a_detector_of_one_layer_or_of_features_and_logits_is_scored(name, settings):
    require_consistent(detector(name, **settings), "synthetic mixup")


def test_a_synthetic_set_is_chosen_on_and_what_cannot_read_it_is_said():
    wish = Wish(detectors=("all",), synthetic=("mixup", "uniform"))
    document = choose(cache(), wish)
    assert [one["name"] for one in document["sets"]] == ["synthetic mixup", "synthetic uniform"]
    reasons = {one["detector"]: one["reason"] for one in document["skipped"]}
    assert {"knn", "react", "gen"} <= document["detectors"].keys()
    assert "mcd_msp" not in document["detectors"]
    assert "must read features of one layer" in reasons["mcd_msp"]
    with pytest.raises(DetectorError, match="mcd_msp: must read features of one layer"):
        choose(cache(), Wish(detectors=("mcd_msp",), synthetic=("mixup",), passes=(2, 3)))


def test_held_out_classes_are_gone_from_the_fit_and_become_ood():
    fit_rows, val = headed(120, seed=1), headed()
    parts = held_out(fit_rows, val, (1, 3), 0)
    kept = torch.isin(val["labels"], torch.tensor([0, 2]))
    for key in ("features/penultimate", "features/layer1"):
        assert torch.equal(parts.val[key], val[key][kept])
        assert torch.equal(parts.ood[key], val[key][~kept])
    assert torch.equal(parts.val["logits"], val["logits"][kept][:, [0, 2]])
    assert torch.equal(parts.ood["logits"], val["logits"][~kept][:, [0, 2]])
    assert torch.equal(parts.val["mc.logits"], val["mc.logits"][kept][:, :, [0, 2]])
    assert torch.equal(parts.val["labels"], val["labels"][kept] // 2)
    assert "labels" not in parts.ood.keys()  # noqa: SIM118
    assert torch.equal(parts.fit.head[0], val.head[0][[0, 2]])
    assert torch.equal(parts.fit.head[1], val.head[1][[0, 2]])
    assert len(parts.fit) == 60


def test_a_choice_on_held_out_classes_is_that_of_a_fit_without_them_and_says_it_is_weak():
    splits = cache()
    settings = ("mahalanobis.ridge=1e-6,1e-2",)
    wish = Wish(detectors=("mahalanobis",), hold_out_classes=(1,), settings=settings)
    document = choose(splits, wish)
    (about,) = document["sets"]
    assert (about["kind"], about["rows"]) == ("held-out classes", 23)
    assert about["about"].startswith("classes 1 of val; weak proxy: the network was trained on")
    parts = held_out(splits["train"], splits["val"], (1,), 0)
    for trial in document["trials"]:
        fitted = fit(detector("mahalanobis", **trial["settings"]), parts.fit)
        ids, oods = fitted.score(parts.val).numpy(), fitted.score(parts.ood).numpy()
        assert trial["value"] == metrics.auroc(ids, oods)


def test_a_number_of_classes_is_drawn_by_the_seed():
    drawn = {held_out(headed(), headed(), 2, seed).classes for seed in range(8)}
    assert len(drawn) > 1
    assert all(len(classes) == 2 for classes in drawn)
    assert held_out(headed(), headed(), 2, 5).classes == held_out(headed(), headed(), 2, 5).classes


@pytest.mark.parametrize("classes", [3, (0, 1, 2), (9,)])
def test_classes_that_are_not_there_or_leave_too_few_are_refused(classes):
    with pytest.raises(ConfigError, match=r"must name classes of the fit and val rows, 0, 1, 2, 3"):
        held_out(headed(), headed(), classes, 0)


def test_held_out_classes_need_labels():
    rows = Latents(features={"penultimate": torch.randn(30, 3)}, name="val")
    with pytest.raises(MissingInput, match="hold-out-classes: needs 'labels'"):
        held_out(rows, rows, 1, 0)


def test_all_kinds_of_sets_can_be_chosen_on_together():
    splits = tunable()
    wish = Wish(detectors=("knn",), synthetic=("mixup",), hold_out_classes=(2,))
    made = scenarios(ChoiceSplits(splits), wish, Budget(0))
    assert [[one.name for one in scenario.sets] for scenario in made] == [
        ["odd", "other", "synthetic mixup"],
        ["held-out classes"],
    ]
    document = choose(splits, wish)
    assert all(len(trial["values"]) == 4 for trial in document["trials"] if not trial["reason"])
    assert document["detectors"]["knn"]["gain"]["low"] is not None


def test_passes_are_tried_and_all_of_them_are_the_default():
    document = choose(of_passes(), Wish(detectors=("mcd_msp", "lared"), passes=(2, 4, 6)))
    tried = [one["settings"].get("passes") for one in document["trials"]]
    assert set(tried) == {None, 2, 4}
    kept_entropies = SplitsInMemory(
        {
            name: Latents(mc_entropy={"penultimate": rows["mc.entropy/penultimate"]}, name=name)
            for name, rows in of_passes().latents.items()
        },
        of_passes().splits,
    )
    with pytest.raises(MissingInput, match=r"numbers of passes need 'mc.features/penultimate'"):
        choose(kept_entropies, Wish(detectors=("lared",), passes=(2,)))
