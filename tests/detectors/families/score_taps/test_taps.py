"""Score taps: each is its paper's formula, of one row at a time, and leaves the model as it was."""

import copy
import re
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn

from latentood import plugins
from latentood.cli.demo import pipeline_file
from latentood.data import Digits, GaussianNoise, Rademacher
from latentood.detectors.families.score_taps.base import SCORE_TAPS, Column, ScoreTap
from latentood.detectors.families.score_taps.rankfeat import without_largest
from latentood.detectors.fitted import fit as fit_detector
from latentood.detectors.registry import DETECTORS, detector, registry
from latentood.errors import ConfigError, DataError, DetectorError, ModelError, UnknownName
from latentood.extraction.passes.plan import make_plan
from latentood.extraction.scores.network import TappedModel
from latentood.latents import Latents
from latentood.pipeline.schema import load_pipeline, parse_pipeline
from latentood.plugins import plugin
from latentood.stats.activations import concentration_by_row
from latentood.testing.blobs import auroc
from latentood.training import train as training
from tests.extraction.nets import Conv, NoHead, ReluTail, inputs
from tests.references.score_taps import REFERENCES, body

NAMES = list(SCORE_TAPS.built_in)
LAYER = {"rankfeat": {"layer": "conv2"}}
"""Hyperparameters without which a tap says nothing about the small network."""


def network_of(model, rows, layers=("penultimate",), head=None) -> TappedModel:
    """A model as taps see it, without a cache."""
    model = model.eval().requires_grad_(False)
    raw = {"name": "x", "model": {"target": "x"}, "splits": {"t": {"role": "fit", "target": "x"}}}
    pipeline = parse_pipeline(raw | {"layers": list(layers), "head": head})
    return TappedModel(make_plan(model, pipeline, rows[:2]), rows[:2])


def relu_tail() -> ReluTail:
    """A small network in float64 whose BatchNorm has seen something."""
    torch.manual_seed(3)
    model = ReluTail(channels=9).double()
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.5, 2)
    return model


def prepared(tap: ScoreTap, network: TappedModel, rows, labels):
    """The state of a tap, from fit rows."""
    if not tap.needs_fit:
        return None
    with torch.no_grad():
        features, logits = network.features("penultimate", rows), network.logits(rows)
    columns = {}
    if (companion := tap.companion()) is not None:
        columns[companion.name] = companion.score(network, rows, None)
    fit = Latents(
        features={"penultimate": features}, logits=logits, labels=labels, scores=columns,
        name="train",
    )  # fmt: skip
    fit.require(tap.reads(), who=tap.who)
    return tap.prepare(network, fit)


@pytest.fixture(scope="module")
def small():
    """Network, rows to score and fit rows, all float64."""
    model = relu_tail()
    rows, fit_rows = inputs(7, seed=1).double(), inputs(40, seed=2).double()
    network = network_of(model, rows)
    with torch.no_grad():
        labels = model(fit_rows).argmax(dim=1)
    labels[::7] = (labels[::7] + 1) % 4  # a few rows are misclassified, as always
    labels[:4] = torch.arange(4)
    return network, rows, fit_rows, labels


@pytest.fixture(scope="module")
def score(small):
    network, rows, fit_rows, labels = small

    def run(name, rows=rows, **hyperparameters):
        tap = SCORE_TAPS.build(name, **(LAYER.get(name, {}) | hyperparameters)).settle(network)
        return tap.score(network, rows, prepared(tap, network, fit_rows, labels))

    return run


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [
        ("odin", {}),
        ("odin", {"temperature": 2.0, "epsilon": 0.05, "std": [0.5, 0.25, 2.0]}),
        ("iodin", {"temperature": 1.0, "epsilon": 0.5}),
        ("iodin", {"epsilon": 0.5, "values": 20, "std": [0.5, 0.25, 2.0]}),
        ("mahalanobis_perturbed", {}),
        ("mahalanobis_perturbed", {"epsilon": 0.05, "ridge": 0.01}),
        ("rankfeat", {}),
        ("adascale", {"weight": 1.0, "shift_share": 0.2, "correction_share": 0.4}),
        ("adascale", {"scaled": "logits", "low": 20, "high": 80, "moved_share": 0.5}),
        ("grood", {}),
        ("grood", {"k": 3, "samples": 60, "seed": 4, "share": 0.5}),
    ],
    ids=str,
)
def test_a_tap_is_its_formula_row_by_row(small, score, name, hyperparameters):
    network, rows, fit_rows, labels = small
    tap = SCORE_TAPS.build(name, **(LAYER.get(name, {}) | hyperparameters))
    net = copy.deepcopy(network.model)
    with torch.no_grad():
        features = net(fit_rows), network.features("penultimate", fit_rows)
    fit = {"inputs": fit_rows, "labels": labels, "logits": features[0], "features": features[1]}
    expected = [REFERENCES[name](tap, net, row[None], fit) for row in rows]
    scored = score(name, **hyperparameters)
    assert scored.dtype == torch.float64
    assert len(set(expected)) == len(rows)
    torch.testing.assert_close(
        scored, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


def test_every_tap_has_a_slow_formula_and_a_detector_that_reads_its_column():
    assert set(NAMES) == set(REFERENCES)
    columns = {n: cls for n, cls in registry().items() if issubclass(cls, Column)}
    assert set(columns) == set(NAMES)
    for cls in SCORE_TAPS.built_in.values():
        assert columns[cls.name]().needs().score == (cls().column,)
        assert columns[cls.name].paper == cls.paper


@pytest.mark.parametrize("name", NAMES)
def test_a_row_scores_alone_as_it_does_in_a_batch(small, score, name):
    rows = small[1]
    alone = torch.cat([score(name, rows[i : i + 1]) for i in range(len(rows))])
    torch.testing.assert_close(score(name), alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_model_and_inputs_are_left_as_they_were(small, score, name):
    network, rows, *_ = small
    before, kept = copy.deepcopy(network.model.state_dict()), rows.clone()
    score(name)
    assert torch.equal(rows, kept)
    assert not rows.requires_grad
    assert not network.model.training
    for parameter in network.model.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
    after = network.model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any(module._forward_hooks for module in network.model.modules())


@pytest.mark.parametrize("name", NAMES)
def test_hooks_are_gone_after_an_error(small, name, monkeypatch):
    network, rows, fit_rows, labels = small
    tap = SCORE_TAPS.build(name, **LAYER.get(name, {})).settle(network)
    state = prepared(tap, network, fit_rows, labels)

    def fail(x):
        raise RuntimeError("no memory")

    monkeypatch.setattr(network.model.fc, "forward", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        tap.score(network, rows, state)
    assert not any(module._forward_hooks for module in network.model.modules())


def test_odin_without_a_step_is_the_detector_that_reads_the_logits(small, score):
    network, rows, *_ = small
    with torch.no_grad():
        latents = Latents(logits=network.logits(rows))
    expected = fit_detector(detector("odin_eps0"), latents).score(latents)
    assert torch.equal(score("odin", epsilon=0), expected)
    assert not torch.equal(score("odin"), expected)


def test_mahalanobis_without_a_step_is_the_detector_that_reads_the_features(small, score):
    network, rows, fit_rows, labels = small
    with torch.no_grad():
        train = Latents(
            features={"penultimate": network.features("penultimate", fit_rows)}, labels=labels
        )
        latents = Latents(features={"penultimate": network.features("penultimate", rows)})
    expected = fit_detector(detector("mahalanobis"), train).score(latents)
    scored = score("mahalanobis_perturbed", epsilon=0)
    torch.testing.assert_close(scored, expected, rtol=1e-9, atol=0)


def test_iodin_that_moves_every_value_is_odin(score):
    every = score("iodin", values=3 * 8 * 8, epsilon=0.1)
    assert torch.equal(every, score("odin", epsilon=0.1))


def test_a_step_makes_the_predicted_class_surer_and_nearer(score):
    assert bool((score("odin", epsilon=0.01) < score("odin", epsilon=0)).all())
    name = "mahalanobis_perturbed"
    assert bool((score(name, epsilon=0.001) < score(name, epsilon=0)).all())


def test_what_loses_its_largest_part_has_one_singular_value_less():
    maps = torch.randn(3, 5, 4, 4, dtype=torch.float64)
    before = torch.linalg.svdvals(maps.flatten(2))
    after = torch.linalg.svdvals(without_largest(maps).flatten(2))
    torch.testing.assert_close(after[:, :-1], before[:, 1:], rtol=1e-9, atol=1e-9)
    assert float(after[:, -1].max()) < 1e-9
    wide, tall = torch.randn(2, 3, 20).double(), torch.randn(2, 20, 3).double()
    torch.testing.assert_close(without_largest(wide.mT), without_largest(wide).mT)
    assert without_largest(tall.float()).dtype == torch.float32
    assert not without_largest(torch.zeros(1, 3, 4)).any()
    last = without_largest(maps.permute(0, 2, 3, 1), positions_first=True)
    torch.testing.assert_close(last, without_largest(maps).permute(0, 2, 3, 1))


def test_rankfeat_takes_the_last_map_unless_it_is_told(small):
    network, rows, *_ = small
    assert network.maps == ["conv1", "bn", "conv2"]
    assert SCORE_TAPS.build("rankfeat").settle(network).layer == "conv2"
    named = SCORE_TAPS.build("rankfeat", layer="bn").settle(network)
    net = network.model
    with torch.no_grad():
        changed = without_largest(net.bn(net.conv1(rows)))
        logits = net.fc(torch.relu(net.conv2(torch.relu(changed))).mean(dim=(2, 3)))
        assert not torch.equal(body(net, rows), torch.relu(changed))
    expected = -torch.logsumexp(logits, dim=1)
    torch.testing.assert_close(named.score(network, rows, None), expected)


def test_activations_that_are_never_positive_are_not_scaled():
    activations = torch.tensor([[-1.0, -2.0, 0.0], [3.0, 1.0, 0.0]])
    concentration = concentration_by_row(activations.relu(), torch.tensor([50.0, 60.0]))
    torch.testing.assert_close(concentration, torch.tensor([[1.0], [4 / 3]]))


class ChannelsLast(ReluTail):
    """Turns its maps round, as Swin does, and gives them as the first of two."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.split = Pair()

    def forward(self, x):
        maps, _ = self.split(self.norm(self.conv2(self.bn(self.conv1(x))).permute(0, 2, 3, 1)))
        return self.fc(maps.relu().mean(dim=(1, 2)))


class Pair(nn.Module):
    def forward(self, x):
        return x, None


def test_maps_with_channels_last_are_matrices_of_the_same_parts():
    rows = inputs(3).double()
    network = network_of(ChannelsLast().double(), rows)
    net, tap = network.model, SCORE_TAPS.build("rankfeat").settle(network)
    assert tap.layer == "split"
    with torch.no_grad():
        maps = net.norm(net.conv2(net.bn(net.conv1(rows))).permute(0, 2, 3, 1))
        changed = without_largest(maps.permute(0, 3, 1, 2))
        logits = net.fc(changed.relu().mean(dim=(2, 3)))
    expected = -torch.logsumexp(logits, dim=1)
    torch.testing.assert_close(tap.score(network, rows, None), expected)


class InPlace(Conv):
    """Normalises its input in place."""

    def forward(self, x):
        x -= 0.5
        return super().forward(x)


def test_a_model_that_changes_its_input_in_place_is_given_a_copy():
    rows = inputs(3)
    network, kept = network_of(InPlace(), rows.clone()), rows.clone()
    tap = SCORE_TAPS.build("odin").settle(replace(network, probe=rows[:2].clone()))
    with torch.no_grad():
        expected = SCORE_TAPS.build("odin", epsilon=0).score(network, rows.clone(), None)
    scored = tap.score(network, rows, None)
    torch.testing.assert_close(scored, expected, rtol=1e-3, atol=0)
    assert torch.equal(rows, kept)


# on a trained network


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A ResNet trained on seven digits for a few seconds, with ID and OOD rows."""
    classes = [0, 1, 2, 4, 6, 7, 9]
    train, test = (Digits(classes, part, 16) for part in ("train", "test"))
    changed = ["training.epochs=12", "splits.train.args.size=16", "splits.val.role=far"]
    job = training.prepare(load_pipeline(pipeline_file(), changed), device="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same weights, and no slower for a network this small
    training.train(job, tmp_path_factory.mktemp("digits"))
    torch.set_num_threads(threads)
    model = job.network.classifier.eval()

    def images(data, count=150):
        rows = [data[i] for i in range(0, len(data), max(1, len(data) // count))]
        return torch.stack([row[0] if isinstance(row, tuple) else row for row in rows])

    ood = {
        "digits": images(Digits((3, 5, 8), "all", 16, labelled=False)),
        "gaussian": images(GaussianNoise(length=150, shape=[1, 16, 16])),
        "rademacher": images(Rademacher(length=150, shape=[1, 16, 16])),
    }
    fit_rows = torch.stack([train[i][0] for i in range(len(train))])
    labels = torch.tensor([train[i][1] for i in range(len(train))])
    return network_of(model, fit_rows), fit_rows, labels, images(test), ood


@pytest.mark.parametrize(
    ("name", "hyperparameters", "far", "least"),
    [
        ("odin", {}, "digits", 0.9),
        ("iodin", {}, "digits", 0.9),
        ("mahalanobis_perturbed", {}, "digits", 0.9),
        ("mahalanobis_perturbed", {}, "gaussian", 0.99),
        ("rankfeat", {"layer": "layer2"}, "gaussian", 0.7),
        ("rankfeat", {"layer": "layer2"}, "digits", 0.75),
        ("adascale", {}, "gaussian", 0.9),
        ("grood", {}, "digits", 0.8),
        ("grood", {}, "rademacher", 0.95),
    ],
)
def test_higher_is_more_ood_on_a_trained_network(digits, name, hyperparameters, far, least):
    network, fit_rows, labels, known, ood = digits
    tap = SCORE_TAPS.build(name, **hyperparameters).settle(network)
    state = prepared(tap, network, fit_rows, labels)
    id_scores, ood_scores = (tap.score(network, rows, state) for rows in (known, ood[far]))
    assert auroc(id_scores, ood_scores) > least


# what cannot be


def test_unknown_taps_and_hyperparameters_name_the_nearest():
    with pytest.raises(UnknownName, match="no score tap named 'odn'; did you mean 'odin'"):
        SCORE_TAPS.build("odn")
    with pytest.raises(UnknownName, match="hyperparameter of score tap odin named 'epsilom'; did"):
        SCORE_TAPS.build("odin", epsilom=1)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("odin", {"epsilon": -1}, "epsilon must be ≥ 0, got -1"),
        ("odin", {"epsilon": float("nan")}, "epsilon must be finite, got nan"),
        ("odin", {"temperature": 0}, "temperature must be > 0, got 0"),
        ("odin", {"std": [0.5, 0]}, r"std: each must be > 0, got \(0.5, 0\)"),
        ("iodin", {"values": 0}, "values must be ≥ 1, got 0"),
        ("rankfeat", {"layer": 3}, "layer must be of type str, got 3"),
        (
            "adascale",
            {"scaled": "both"},
            r"scaled must be one of \[\'activations\', \'logits\'\], got \'both\'",
        ),
        ("adascale", {"low": 90}, "low must be ≤ high, got low=90.0 and high=85.0"),
        ("grood", {"share": 2}, "share must be ≤ 1, got 2"),
    ],
)
def test_a_value_outside_its_range_is_named(name, hyperparameters, message):
    ending = ".*; change it under scores: in the pipeline$"
    with pytest.raises(ConfigError, match=f"^score tap {name}: .*{message}{ending}"):
        SCORE_TAPS.build(name, **hyperparameters)


def test_numbers_may_be_written_as_yaml_reads_them():
    assert SCORE_TAPS.build("odin", epsilon="2e-3", std=[1, 2]).epsilon == 0.002


class NoGradient(Conv):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


@pytest.mark.parametrize("name", ["odin", "iodin", "mahalanobis_perturbed", "adascale"])
def test_a_model_without_gradients_is_refused_before_anything_is_written(name):
    network = network_of(NoGradient(), inputs(2))
    with pytest.raises(ModelError, match=f"^score tap {name}: the logits must depend on the inp"):
        SCORE_TAPS.build(name).settle(network)


@pytest.mark.parametrize("name", ["odin", "grood"])
def test_inputs_that_are_no_floats_are_refused(name):
    network = network_of(nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3)),
                         torch.arange(6).view(2, 3))  # fmt: skip
    with pytest.raises(ModelError, match=rf"^score tap {name}: inputs must be floats.*torch.int64"):
        SCORE_TAPS.build(name).settle(network)


@pytest.mark.parametrize(
    ("name", "hyperparameters", "layers", "message"),
    [
        ("odin", {"std": [1.0]}, ["conv1"], "std must have one value for each of the 3 channels"),
        ("mahalanobis_perturbed", {}, ["conv1"], "layer 'penultimate' must be among layers:, got"),
        ("mahalanobis_perturbed", {"layer": "conv1"}, [{"conv1": "map"}], "layer 'conv1' must be "),
        ("grood", {}, ["conv1"], "layer 'penultimate' must be among layers:, got conv1; add it"),
        ("rankfeat", {"layer": "conv3"}, ["conv1"], "got 'conv3'; did you mean 'conv"),
        ("rankfeat", {"layer": "fc"}, ["conv1"], "layer must be a module that gives maps"),
    ],
)
def test_a_tap_that_does_not_fit_the_model_is_refused(name, hyperparameters, layers, message):
    network = network_of(ReluTail(), inputs(2), layers)
    with pytest.raises(ModelError, match=f"^score tap {name}: .*{message}"):
        SCORE_TAPS.build(name, **hyperparameters).settle(network)


def test_models_without_a_head_or_without_maps_are_refused():
    with pytest.raises(ModelError, match=r"^score tap adascale: must know the head, .*; name the"):
        SCORE_TAPS.build("adascale").settle(network_of(NoHead(), inputs(2), ["conv"]))
    flat = network_of(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), inputs(2), ["1"])
    with pytest.raises(ModelError, match=r"^score tap rankfeat: the model must have a module that"):
        SCORE_TAPS.build("rankfeat").settle(flat)


def test_fit_rows_that_cannot_do_are_named(small):
    network, _, fit_rows, labels = small
    few = SCORE_TAPS.build("grood", k=50)
    with pytest.raises(DataError, match=r'k must be ≤ the \d+ correctly .* of "train", got 50; lo'):
        prepared(few, network, fit_rows, labels)
    same = fit_rows[:1].expand(20, -1, -1, -1)
    with pytest.raises(
        DetectorError, match=r"^score tap mahal.* must vary between .*, got 20 rows of"
    ):
        prepared(SCORE_TAPS.build("mahalanobis_perturbed"), network, same, labels[:20])


# other packages


@plugin
class Brightness(ScoreTap):
    """Mean of the input."""

    name = "brightness"
    paper = works = fails = cost = "textbook"

    def score(self, network, inputs, state):
        """Average."""
        return inputs.double().flatten(1).mean(dim=1)


def test_another_package_can_bring_a_tap_and_its_detector(monkeypatch):
    def install(*points):
        listed = [EntryPoint(name, f"{__name__}:Brightness", SCORE_TAPS.group) for name in points]
        monkeypatch.setattr(
            plugins, "entry_points", lambda group: listed if group == SCORE_TAPS.group else []
        )
        for each in (SCORE_TAPS, DETECTORS):
            monkeypatch.setattr(each, "_known", None)

    install("brightness")
    assert SCORE_TAPS.build("brightness") == Brightness()
    assert detector("brightness").needs().score == ("scores/brightness",)
    assert registry()["brightness"].paper == "textbook"
    install("odin")
    with pytest.raises(ConfigError, match=r"^plug-in 'odin': must have a name that is not in use"):
        SCORE_TAPS.known()


def test_the_docs_show_every_tap_with_its_hyperparameters_and_defaults(repository):
    page = (repository / "docs" / "score-taps.md").read_text(encoding="utf-8")
    for cls in SCORE_TAPS.built_in.values():
        section = page.partition(f"\n### {cls.name}\n")[2].partition("\n##")[0]
        shown = dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) ?\| ", section, re.MULTILINE))
        given = cls().hyperparameters()
        assert shown == {name: str(value) for name, value in given.items()}
