"""The members of an ensemble as passes: each is what it is alone, in order, and runs once."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import latentood as lo
from latentood.errors import FingerprintMismatch, ModelError
from latentood.extraction.passes.members import Members
from latentood.extraction.passes.noise import row_keys
from latentood.extraction.run import runner
from latentood.extraction.run.job import prepare
from latentood.models.ensemble import Ensemble
from latentood.pipeline.schema import Extract
from latentood.stats.entropy import kl_entropy
from latentood.store.cache import open_cache
from latentood.workflows import estimate, extract, layers
from tests.extraction.nets import Conv, DictOutput, OwnDropout, inputs
from tests.extraction.run.test_runner import pipeline, tree

SIZE = 3
KEEP = {"activate": "members", "keep": ["entropy", "logits", "features"]}
LAYERS = ("conv1", "conv2", "penultimate")


def network(seed, kind=OwnDropout, **args):
    torch.manual_seed(seed)
    return kind(**args)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    paths = [folder / f"{seed}.safetensors" for seed in range(SIZE)]
    for seed, path in enumerate(paths):
        save_file(network(seed).state_dict(), path)
    return [str(path) for path in paths]


def described(files, **changes):
    return pipeline(**{"model__weights": files, "monte_carlo": KEEP} | changes)


@pytest.fixture(scope="module")
def store(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "ensemble.zarr"
    assert extract(described(files), path).computed == {"train": 50, "id": 23, "far": 17}
    return path


def test_pass_m_has_the_bits_of_a_cache_of_member_m(files, store, tmp_path):
    rows = open_cache(store)["id"]
    assert rows["mc.logits"].shape == (23, SIZE, 4)
    assert rows["mc.features/conv2"].shape == (23, SIZE, 6)
    for number, file in enumerate(files):
        path = tmp_path / str(number)
        extract(pipeline(model__weights=file, monte_carlo=None), path, splits=["id"])
        alone = open_cache(path)["id"]
        assert torch.equal(rows["mc.logits"][:, number], alone["logits"])
        for layer in LAYERS:
            passes = rows[f"mc.features/{layer}"]
            assert torch.equal(passes[:, number], alone[f"features/{layer}"])
            if number == 0:
                assert torch.equal(rows[f"features/{layer}"], alone[f"features/{layer}"])
                assert torch.equal(rows.head[0], alone.head[0])


def test_logits_and_entropies_follow_from_the_members(store):
    rows = open_cache(store)["id"]
    mean = rows["mc.logits"].double().softmax(dim=2).mean(dim=1)
    torch.testing.assert_close(rows["logits"].double().softmax(dim=1), mean, rtol=1e-5, atol=1e-6)
    expected = kl_entropy(rows["mc.features/conv2"]).float()
    torch.testing.assert_close(rows["mc.entropy/conv2"], expected, rtol=1e-6, atol=1e-6)


def test_detectors_of_passes_score_it(store):
    names = ["predictive_entropy", "mutual_information", "lared", "msp"]
    result = lo.score(store, detectors=names)
    assert {one.request.detector for one in result.results} == set(names)
    assert not result.failed
    rows = open_cache(store)["id"]
    p = rows["mc.logits"].double().softmax(dim=2)
    mean, each = (-(q * q.log()).sum(dim=-1) for q in (p.mean(dim=1), p))
    fitted = lo.fit(lo.detector("mutual_information"), store)
    torch.testing.assert_close(fitted.score(rows), mean - each.mean(dim=1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "kept", [None, "mc.logits", "logits"], ids=["everything", "logits of passes", "no passes"]
)
def test_every_member_runs_once_for_a_batch(files, tmp_path, kept):
    monte_carlo = None if kept == "logits" else KEEP | ({"keep": ["logits"]} if kept else {})
    job = prepare(described(files, monte_carlo=monte_carlo), splits=["id"])
    calls = []
    for number, member in enumerate(job.plan.engine.model.members):
        member.register_forward_hook(lambda m, a, out, number=number: calls.append(number))
    runner.run(job, tmp_path / "s")
    batches = 5  # 23 rows in blocks of 16 and batches of 5: 5 5 5 1, 5 2
    assert calls == [*range(SIZE)] * (batches + 1)


def test_a_part_of_a_batch_gives_the_same(files):
    engine = prepare(described(files)).plan.engine
    assert isinstance(engine, Members)
    x, keys = inputs(6), row_keys(0, torch.arange(6))
    whole, part = engine.run(x, keys), engine.run(x[2:4], row_keys(5, torch.arange(2)))
    torch.testing.assert_close(whole.mc_logits[2:4], part.mc_logits, rtol=1e-5, atol=1e-6)


def test_an_interrupted_extraction_resumes_bit_identical(files, store, tmp_path, monkeypatch):
    real, blocks = runner.compute_block, []

    def interrupted(*args):
        blocks.append(args)
        if len(blocks) % 3 == 0:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(runner, "compute_block", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            extract(described(files), tmp_path / "s")
    monkeypatch.setattr(runner, "compute_block", real)
    computed = extract(described(files), tmp_path / "s").computed
    assert 0 < sum(computed.values()) < 90
    assert tree(tmp_path / "s") == tree(store)


def test_an_added_layer_has_the_bits_of_one_run(files, store, tmp_path):
    extract(described(files, layers=["penultimate"]), tmp_path / "s", splits=["id"])
    extract(described(files), tmp_path / "s", splits=["id"])
    grown, once = open_cache(tmp_path / "s")["id"], open_cache(store)["id"]
    keys = set(once.keys()) - {"head"}
    assert set(grown.keys()) - {"head"} == keys
    assert all(torch.equal(grown[key], once[key]) for key in keys)


@pytest.mark.parametrize("change", ["order", "fewer", "noise"])
def test_the_fingerprint_holds_the_members_and_their_order(files, store, change):
    others = {
        "order": described(files[::-1]),
        "fewer": described(files[:2]),
        "noise": described(files, monte_carlo={"passes": SIZE, "activate": True}),
    }
    before = tree(store)
    field = "monte_carlo.activate" if change == "noise" else "weights"
    with pytest.raises(FingerprintMismatch, match=field):
        estimate(others[change], store)
    assert tree(store) == before
    assert open_cache(store).header.fingerprint["monte_carlo.passes"] == SIZE


def test_a_number_of_passes_that_is_the_number_of_members_is_the_same_run(files, store):
    given = described(files, monte_carlo=KEEP | {"passes": SIZE})
    assert sum(extract(given, store).computed.values()) == 0


def test_an_estimate_counts_the_members_and_layers_are_those_of_one(files, tmp_path):
    cost = estimate(described(files), tmp_path / "s")
    assert cost.array_bytes["id"]["mc.logits"] == 23 * SIZE * 4 * 4
    assert not (tmp_path / "s").exists()
    one = layers(pipeline(model__weights=files[0]))
    assert layers(described(files)) == one
    assert any(facts.head for facts in one)


def test_noise_in_an_ensemble_disturbs_every_member(files):
    engine = prepare(described(files, monte_carlo={"passes": 4, "activate": True})).plan.engine
    assert not isinstance(engine, Members)
    assert {site.module.split(".")[1] for site in engine.sites} == {"0", "1", "2"}


class Wide(Conv):
    """More channels."""

    def __init__(self) -> None:
        super().__init__(channels=8)


class FiveClasses(Conv):
    """Another number of classes."""

    def __init__(self) -> None:
        super().__init__(classes=5)


class Renamed(Conv):
    """A layer under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.second = self._modules.pop("conv2")

    def forward(self, x):
        return self.fc(self.second(self.conv1(x)).mean(dim=(2, 3)))


class Broken(Conv):
    """Weights that are not finite."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.fc.bias, torch.nan)


class Doubled(Ensemble):
    """Computes more than its members."""

    def forward(self, inputs):
        return super().forward(2 * inputs)


KINDS = {
    kind.__name__: kind for kind in (Conv, DictOutput, Wide, FiveClasses, Renamed, Broken)
}  # by the names that the pipelines below have


def ensemble(kinds, doubled=False, seeds=None):
    """Build an ensemble of networks as the target of a user does."""
    seeds = seeds or range(len(kinds))
    members = [network(s, KINDS[kind]) for s, kind in zip(seeds, kinds, strict=True)]
    return (Doubled if doubled else Ensemble)(members)


def built(*kinds, monte_carlo=KEEP, model=None, **args):
    target = {"target": f"{__name__}.ensemble", "args": {"kinds": kinds, **args}}
    return pipeline(model=target | (model or {}), monte_carlo=monte_carlo)


def test_an_ensemble_that_a_target_builds_is_extracted(tmp_path):
    extract(built("Conv", "Conv"), tmp_path / "s", splits=["id"])
    rows, model = open_cache(tmp_path / "s")["id"], ensemble(["Conv", "Conv"]).eval()
    images = torch.stack([prepare(built("Conv", "Conv")).inputs["id"][n][0] for n in range(23)])
    with torch.no_grad():
        torch.testing.assert_close(
            rows["mc.logits"], model.member_logits(images), rtol=1e-4, atol=1e-5
        )


def test_the_output_of_members_may_hold_more_than_logits():
    plain = prepare(built("Conv", "Conv")).plan.engine
    engine = prepare(built("DictOutput", "DictOutput", model={"output": "logits"})).plan.engine
    x, keys = inputs(4), row_keys(0, torch.arange(4))
    assert torch.equal(engine.run(x, keys).mc_logits, plain.run(x, keys).mc_logits)
    assert torch.equal(engine.forward(x)[0], plain.forward(x)[0])


def test_without_passes_members_may_have_other_layers_than_the_first():
    plan = prepare(built("Conv", "Wide", "Renamed", monte_carlo=None)).plan
    assert plan.shapes["conv2"] == (6,)


def test_only_named_layers_are_followed(files):
    plan = prepare(described(files, monte_carlo=KEEP | {"layers": ["conv2"]})).plan
    assert plan.varying == ("conv2",)


def test_a_score_tap_that_changes_a_layer_changes_it_in_every_member(files, tmp_path):
    def column(name, weights):
        taps = {"model__weights": weights, "monte_carlo": None, "scores": ["rankfeat"]}
        extract(pipeline(**taps), tmp_path / name, splits=["id"])
        return open_cache(tmp_path / name)["id"]["scores/rankfeat"].double()

    alone = [column(str(number), file) for number, file in enumerate(files)]
    whole = column("whole", files)  # an energy, and that of an ensemble is the mean
    torch.testing.assert_close(whole, sum(alone) / SIZE, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pipeline(monte_carlo=KEEP), r"must be an ensemble of ≥ 2 members, got OwnDropout; list"),
        (built("Conv"), r"must be an ensemble of ≥ 2 members, got an Ensemble of one; list"),
        (
            built("Conv", "Conv", monte_carlo=KEEP | {"passes": 3}),
            r"monte_carlo.passes: must be the number of members, 2, got 3; leave it out",
        ),
        (built("Conv", "Wide"), r"got member 1, where 'conv1' is \(8,\) instead of \(6,\) per row"),
        (built("Conv", "Conv", "Renamed"), r"got member 2, where .*conv2"),
        (built("Conv", "FiveClasses"), r"Ensemble: all members must give logits of the same shape"),
        (built("Conv", "Broken"), r"must be finite, got NaN .*\(members.1.fc.bias of its weights"),
        (
            built("Conv", "Conv", "Conv", seeds=[0, 1, 0]),
            r"all members must differ, but 0 and 2 give the same logits; give each the weights",
        ),
        (built("Conv", "Conv", doubled=True), r"and Doubled gives others; leave forward"),
        (
            built("Conv", "Conv", monte_carlo=KEEP | {"layers": ["conv9"]}),
            r"monte_carlo.layers 'conv9': is not among layers:",
        ),
        (
            built("Conv", "Conv").model_copy(update={"extract": Extract(compile=True)}),
            r"compile: cannot be used with activate: members",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_named_before_anything_is_written(tmp_path, given, message):
    with pytest.raises(ModelError, match=message) as caught:
        extract(given, tmp_path / "s", device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "s").exists()
