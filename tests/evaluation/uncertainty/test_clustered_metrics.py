"""Intervals of all metrics of members, differences and means: definitions and repeated experiments.

Experiments draw a score from an effect of its image, shared by ID and OOD or not, and noise. The
true value is that of the distributions, on the same grid of scores.
"""

import os
from functools import partial

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import norm

from latentood.errors import DataError
from latentood.evaluation.metrics.counts import METRICS, metrics_at
from latentood.evaluation.uncertainty import clustered_metrics
from latentood.evaluation.uncertainty.clustered import ImageCounts, auroc_interval
from latentood.evaluation.uncertainty.clustered_metrics import difference, estimates, mean_auroc

LARGE = os.environ.get("LATENTOOD_SOAK") == "1"
STEP, BINS = 0.1, 160
LOWEST = -6.0


def counted(scores, image, images):
    """Counts (images, BINS) of scores on the grid."""
    place = np.clip(((scores - LOWEST) / STEP).astype(int), 0, BINS - 1)
    return csr_array(np.bincount(image * BINS + place, minlength=images * BINS).reshape(images, -1))


def sizes(rng, images, mean, wild):
    """Members of each image; wild ones differ by a factor of 10 and more."""
    if not wild:
        return np.full(images, mean)
    return np.maximum(1, np.round(mean * np.exp(rng.normal(-0.5, 1, images)))).astype(int)


def experiment(rng, scene, shift, detectors=1):
    """Images with ID members, of which the first have OOD members, or images of OOD ones after."""
    kind, n_id, n_ood, id_size, ood_size, alike, wild = scene
    images = n_id + (n_ood if kind == "apart" else 0)
    ids, oods = (sizes(rng, images, mean, wild) for mean in (id_size, ood_size))
    if kind == "apart":
        ids[n_id:], oods[:n_id] = 0, 0
    else:
        oods[n_ood:] = 0
    owners = [np.repeat(np.arange(images), one) for one in (ids, oods)]
    common = [rng.normal(0, 1, (3, images)), [rng.normal(0, 1, len(one)) for one in owners]]
    results = []
    for _ in range(detectors):
        own = [rng.normal(0, 1, (3, images)), [rng.normal(0, 1, len(one)) for one in owners]]
        mix = 0.6**0.5 if detectors > 1 else 0.0
        effects = mix * common[0] + (1 - mix**2) ** 0.5 * own[0]
        sides = []
        for side, owner in enumerate(owners):
            noise = mix * common[1][side] + (1 - mix**2) ** 0.5 * own[1][side]
            effect = (0.6 * alike) ** 0.5 * effects[2] + (0.4 * alike) ** 0.5 * effects[side]
            scores = effect[owner] + (1 - alike) ** 0.5 * noise + side * shift
            sides.append(counted(scores, owner, images))
        results.append(ImageCounts(*sides))
    return results[0] if detectors == 1 else results


def truth(scene, shift):
    """All metrics of the distributions that experiments draw from."""
    _, n_id, n_ood, id_size, ood_size, _, wild = scene
    rng = np.random.default_rng(0)
    means = [sizes(rng, 200_000, mean, wild).mean() for mean in (id_size, ood_size)]
    edges = LOWEST + STEP * np.arange(1, BINS)
    shares = [np.diff(norm.cdf(edges, loc=loc), prepend=0, append=1) for loc in (0, shift)]
    weights = n_id * means[0] * 1e6, n_ood * means[1] * 1e6
    counts = [share * weight for share, weight in zip(shares, weights, strict=True)]
    return {name: float(metric(*counts)) for name, metric in METRICS.items()}


def members(images, seed, ids=12, oods=5, shift=1.5):
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), ids + oods)
    ood = (np.arange(len(image)) % (ids + oods) >= ids).astype(np.uint8)
    scores = rng.normal(0, 0.7, images)[image] + rng.normal(0, 0.7, len(image)) + shift * ood
    return np.round(scores, 1), ood, image


def test_values_are_those_of_all_members_together():
    images = ImageCounts.of_members(*members(9, 0))
    found = estimates(images, metrics=metrics_at(0.2))
    for name, metric in metrics_at(0.2).items():
        assert found[name].value == pytest.approx(float(metric(*images.totals)), abs=1e-12)
        assert 0 <= found[name].low <= found[name].value <= found[name].high <= 1
    assert (found["auroc"].low, found["auroc"].high) == auroc_interval(images)


def test_the_jackknife_leaves_out_one_image_after_the_other():
    scores, ood, image = members(7, 1)
    one = estimates(ImageCounts.of_members(scores, ood, image))["aupr_out"]
    edge = 0.5 / len(scores) ** 2
    left = []
    for number in range(7):
        kept = ImageCounts.of_members(*(part[image != number] for part in (scores, ood, image)))
        value = edge + float(METRICS["aupr_out"](*kept.totals)) * (1 - 2 * edge)
        left.append(np.log(value / (1 - value)))
    assert one.shares == pytest.approx(np.mean(left) - left, abs=1e-9)
    deviation = np.sqrt(np.sum((left - np.mean(left)) ** 2))
    centre = np.log(one.value / (1 - one.value))
    for bound, sign in ((one.low, -1), (one.high, 1)):
        alone = 1 / (1 + np.exp(-centre - sign * 2.45 * deviation))  # t, 6 degrees of freedom
        assert sign * (bound - alone) > -0.01


def test_the_model_has_the_auroc_that_it_is_given():
    for area in (0.3, 0.5, 0.9, 0.999):
        model = partial(clustered_metrics._modelled, area=area, ids=30, oods=10)
        assert model(METRICS["auroc"]) == pytest.approx(area, abs=1e-4)  # on a grid
        alarms = norm.sf(norm.ppf(0.05) + 2**0.5 * norm.ppf(area))
        assert model(METRICS["fpr95_ood"]) == pytest.approx(alarms, abs=0.01)  # a step of the grid


@pytest.mark.parametrize(("oods", "known"), [(70, False), (90, True)])
def test_few_ood_members_do_not_bound_their_false_alarms(oods, known):
    """0.95^72 is 2.5%: fewer may all lie above the threshold."""
    ood = np.repeat([0, 1], [300, oods]).astype(np.uint8)
    scores = np.random.default_rng(2).normal(0, 1, 300 + oods) + 4 * ood
    one = estimates(ImageCounts.of_members(scores, ood, np.arange(300 + oods)))["fpr95_ood"]
    assert (one.high < 1) is known
    assert one.low < 0.01


def test_the_threshold_is_that_of_recalls_that_are_not_refused():
    rng = np.random.default_rng(3)
    ood = np.repeat([0, 1], [4000, 400]).astype(np.uint8)
    scores = rng.normal(0, 1, 4400) + 2 * ood
    one = estimates(ImageCounts.of_members(scores, ood, np.arange(4400)))["fpr95_ood"]
    half = 1.9659 * (0.05 * 0.95 / 400) ** 0.5  # t, 399 degrees of freedom
    cuts = np.quantile(scores[ood == 1], (0.05 - half, 0.05 + half), method="inverted_cdf")
    least, most = ((scores[ood == 0] >= cut).mean() for cut in cuts[::-1])
    own = 1.9605 * (one.value * (1 - one.value) / 4000) ** 0.5
    assert one.value - one.low == pytest.approx(np.hypot(one.value - least, own), rel=0.03)
    assert one.high - one.value == pytest.approx(np.hypot(most - one.value, own), rel=0.03)


def test_swapping_id_and_ood_mirrors_and_a_monotone_transform_changes_nothing():
    scores, ood, image = members(12, 4)
    here = estimates(ImageCounts.of_members(scores, ood, image))
    turned = estimates(ImageCounts.of_members(-scores, 1 - ood, image))
    moved = estimates(ImageCounts.of_members(np.exp(scores), ood, image))
    names = {"auroc": "auroc", "aupr_out": "aupr_in", "fpr95_ood": "fpr95_id"}
    for name, mirror in names.items():
        one, other = here[name], turned[mirror]
        assert (other.low, other.value, other.high) == pytest.approx(
            (one.low, one.value, one.high), abs=1e-6
        )
    for name, one in here.items():
        assert (moved[name].low, moved[name].high) == (one.low, one.high)


def test_many_images_are_left_out_in_groups_that_hold_both_classes(monkeypatch):
    scores, ood, image = members(90, 5)
    ood[(image >= 3) & (ood == 1)] = 255  # 3 images with OOD members
    images = ImageCounts.of_members(scores, ood, image)
    alone = estimates(images)["aupr_out"]
    monkeypatch.setattr(clustered_metrics, "_GROUPS", 30)
    groups = clustered_metrics._grouped(images)
    assert groups.ids.shape[0] == 30
    assert (groups.oods.sum(axis=1) > 0).sum() == 3
    assert all(np.array_equal(a, b) for a, b in zip(groups.totals, images.totals, strict=True))
    joined = estimates(images)["aupr_out"]
    assert joined.high - joined.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_one_image_with_ood_members_says_nothing():
    scores, ood, image = members(5, 6)
    ood[(image > 0) & (ood == 1)] = 255
    for one in estimates(ImageCounts.of_members(scores, ood, image)).values():
        assert (one.low, one.high) == (0, 1)
    perfect = estimates(ImageCounts.of_members(ood * 1.0, members(9, 0)[1][: len(ood)], image))
    assert all(np.isfinite([one.low, one.high]).all() for one in perfect.values())


def test_a_detector_does_not_differ_from_itself_and_differences_turn_around():
    scores, ood, image = members(20, 7)
    one = estimates(ImageCounts.of_members(scores, ood, image))
    noisy = scores + np.random.default_rng(7).normal(0, 1, len(scores))
    other = estimates(ImageCounts.of_members(noisy, ood, image))
    for name in one:
        same = difference(one[name], one[name])
        assert (same.value, same.p) == (0, 1)
        there, back = difference(one[name], other[name]), difference(other[name], one[name])
        assert (there.value, there.low, there.high) == pytest.approx(
            (-back.value, -back.high, -back.low), abs=1e-12
        )
        assert there.p == pytest.approx(back.p, abs=1e-12)
        assert (there.p < 0.05) is not (there.low <= 0 <= there.high)
    assert difference(one["auroc"], other["auroc"]).p < 0.05


def test_means_over_sets_join_their_intervals():
    def one_set(shift, seed, extra=0):
        rng = np.random.default_rng(seed)
        ids = np.random.default_rng(99).normal(0, 1, 150 + extra)
        scores = np.concatenate([ids, rng.normal(shift, 1, 90)])
        ood = np.repeat([0, 1], [len(ids), 90]).astype(np.uint8)
        return ImageCounts.of_members(scores, ood, np.arange(len(scores)) // 3)

    first, second = one_set(1.0, 1), one_set(2.0, 2)
    alone = auroc_interval(first)
    mean, low, high = mean_auroc([first], shared=True)
    assert (low, high) == pytest.approx(alone, abs=1e-12)
    assert mean_auroc([first, first], shared=False)[2] - mean == pytest.approx(
        (high - mean) / 2**0.5
    )
    apart, shared = (mean_auroc([first, second], shared=which) for which in (False, True))
    widths = [one[2] - one[1] for one in (apart, shared)]
    assert (
        widths[0] < widths[1] < np.mean([np.diff(auroc_interval(one)) for one in (first, second)])
    )
    with pytest.raises(DataError, match="at least one OOD set"):
        mean_auroc([], shared=True)
    with pytest.raises(DataError, match="must share their ID images"):
        mean_auroc([first, one_set(1.0, 1, extra=3)], shared=True)


def test_estimates_of_other_images_are_refused():
    one, other = (estimates(ImageCounts.of_members(*members(n, 8)))["auroc"] for n in (6, 7))
    with pytest.raises(DataError, match=r"same images and level, got 6 images at 0\.95 and 7"):
        difference(one, other)


SCENES = {  # kind, images with ID, with OOD, mean sizes, correlation, unequal sizes
    "30 ID images, 8 OOD images": ("apart", 30, 8, 10, 10, 0.3, True),
    "10 images with both, strongly correlated": ("mixed", 10, 10, 20, 8, 0.8, True),
    "50 images, 10 with OOD": ("mixed", 50, 10, 10, 6, 0.3, False),
    "150 images, 50 with OOD": ("mixed", 150, 50, 6, 4, 0.3, True),
    "200 and 200 images": ("apart", 200, 200, 4, 4, 0.8, False),
}


@pytest.mark.parametrize("area", [0.5, 0.8, 0.95, 0.99] if LARGE else [0.8, 0.99])
@pytest.mark.parametrize("scene", SCENES)
def test_intervals_hold_the_true_value_as_often_as_they_say(scene, area):
    rng = np.random.default_rng(11)
    shift = 2**0.5 * norm.ppf(area)
    expected, number = truth(SCENES[scene], shift), 2000 if LARGE else 250
    held = dict.fromkeys(METRICS, 0)
    for _ in range(number):
        for name, one in estimates(experiment(rng, SCENES[scene], shift)).items():
            held[name] += one.low <= expected[name] <= one.high
    for name, times in held.items():  # standard error of 95%: 1.4 points of 250, 0.5 of 2,000
        assert times / number >= 0.93 - 2 * (0.05 * 0.95 / number) ** 0.5, name
    if "150" in scene or "200" in scene:  # many images: not too wide either
        assert held["auroc"] / number <= 0.97 + 2 * (0.05 * 0.95 / number) ** 0.5


def test_the_detection_error_of_scores_that_tell_nothing_may_be_one_half():
    rng = np.random.default_rng(14)
    only = {"detection_error": METRICS["detection_error"]}
    held = 0
    for _ in range(150):
        images = experiment(rng, SCENES["50 images, 10 with OOD"], 0.0)
        one = estimates(images, metrics=only)["detection_error"]
        held += one.high >= 0.5
    assert held >= 0.94 * 150


@pytest.mark.parametrize("scene", ["50 images, 10 with OOD", "150 images, 50 with OOD"])
def test_equal_detectors_differ_no_more_often_than_the_test_says(scene):
    rng = np.random.default_rng(12)
    number = 2000 if LARGE else 250
    refused = dict.fromkeys(METRICS, 0)
    for _ in range(number):
        one, other = map(estimates, experiment(rng, SCENES[scene], 1.5, detectors=2))
        for name in METRICS:
            refused[name] += difference(one[name], other[name]).p < 0.05
    for name, times in refused.items():
        assert times / number <= 0.05 + 2.5 * (0.05 * 0.95 / number) ** 0.5, name
    assert refused["auroc"] / number >= 0.01


def test_a_better_detector_is_seen_to_be_better_although_its_interval_overlaps():
    rng = np.random.default_rng(13)
    seen = overlap = 0
    for _ in range(60):
        images = experiment(rng, SCENES["150 images, 50 with OOD"], 1.5)
        lower = csr_array(np.roll(images.oods.toarray(), -4, axis=1))  # by 0.4
        one = estimates(images)["auroc"]
        other = estimates(ImageCounts(images.ids, lower))["auroc"]
        assert one.value > other.value
        seen += difference(one, other).p < 0.05
        overlap += one.low < other.high
    assert seen == 60
    assert overlap > 30


def test_the_error_at_thresholds_of_other_images_is_counted_image_by_image():
    scores, ood, image = members(6, 9, shift=0.3)
    images = ImageCounts.of_members(scores, ood, image)
    wrong = np.zeros(2)
    for one in range(6):
        ids, oods = (scores[(ood == side) & (image != one)] for side in (0, 1))
        cuts = np.unique(scores)
        errors = [(oods <= cut).mean() - (ids <= cut).mean() for cut in cuts]
        cut = cuts[np.argmin(np.round(errors, 12))]
        wrong[0] += (scores[(ood == 0) & (image == one)] > cut).sum()
        wrong[1] += (scores[(ood == 1) & (image == one)] <= cut).sum()
    expected = (wrong[0] / 72 + wrong[1] / 30) / 2
    assert clustered_metrics._crossed_error(images) == pytest.approx(expected, abs=1e-12)
    assert expected > float(METRICS["detection_error"](*images.totals))
