"""What is learnt beside a network travels with its weights to the cache and its detectors."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import latentood as lo
from latentood import sealed
from latentood.errors import ConfigError, FingerprintMismatch, ModelError
from latentood.training.train import prepare, train
from tests.training.test_loop import NETS, pipeline

OUTLIERS = {"target": f"{NETS}.Points", "args": {"labelled": False, "seed": 5}}
CASES = {
    "cross_entropy": {},
    "evidential": {"evidence": "exp", "reconcile": "learnt"},
    "prior": {},
    "posterior": {},
    "natural_posterior": {},
    "prototypes": {"prototypes": 2},
    "outlier_exposure": {},
    "logit_norm": {},
    "vos": {"start": 0.2, "queue": 20},
}
FIELDS = {
    "dirichlet": "log_alpha",
    "density": "log_density",
    "distance": "distance",
    "weighted_logits": "weighted_logits",
}


def described(name):
    reads = name in ("prior", "outlier_exposure")
    return pipeline(
        objective={"name": name, **CASES[name]},
        splits={"far": {"role": "far", **OUTLIERS}},
        epochs=2,
        outliers="far" if reads else None,
    )


def with_weights(given, weights, **changes):
    raw = given.model_dump(mode="json")
    raw["model"]["weights"] = str(weights)
    return lo.parse_pipeline(raw | changes)


@pytest.mark.parametrize("passes", [False, True], ids=["plain", "passes"])
@pytest.mark.parametrize("name", CASES)
def test_the_cache_holds_what_the_trained_network_predicts(tmp_path, name, passes):
    given = described(name)
    job = prepare(given)
    done = train(job, tmp_path / "run")
    noise = {"monte_carlo": {"passes": 3, "activate": True}} if passes else {}
    trained = with_weights(given, done.out / "last.safetensors", **noise)
    lo.extract(trained, tmp_path / "c.zarr", splits=["val"])
    rows = lo.open_cache(tmp_path / "c.zarr")["val"]
    network = job.network.eval()
    inputs = torch.stack([job.val[row][0] for row in range(len(job.val))])
    with torch.no_grad():
        prediction = network(inputs)
    torch.testing.assert_close(rows["logits"], prediction.logits.float(), rtol=1e-4, atol=1e-5)
    held = {key.kind for key in map(lo.Key.parse, rows.keys()) if key.layer == "network"}
    assert held == {kind for kind, field in FIELDS.items() if field in network.head.gives}
    for kind in held:
        values = getattr(prediction, FIELDS[kind]).float()
        torch.testing.assert_close(rows[f"{kind}/network"], values, rtol=1e-4, atol=1e-4)


def test_a_cache_of_another_evidence_function_is_not_resumed(tmp_path):
    given = described("evidential")
    done = lo.train(given, tmp_path / "run")
    trained = with_weights(given, done.weights)
    lo.extract(trained, tmp_path / "c.zarr", splits=["val"])
    document, arrays, _ = sealed.read(done.weights, lambda what: AssertionError(what))
    document["head"]["settings"]["evidence"] = "relu"
    sealed.write(done.weights, document, arrays)
    with pytest.raises(FingerprintMismatch, match="uncertainty_head is"):
        lo.extract(trained, tmp_path / "c.zarr", splits=["train"])


def test_changed_weights_are_refused(tmp_path):
    given = described("evidential")
    weights = lo.train(given, tmp_path / "run").weights
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ConfigError, match="must have the bytes that latentood train wrote"):
        lo.extract(with_weights(given, weights), tmp_path / "c.zarr")


def test_a_head_that_does_not_exist_is_named(tmp_path):
    given = described("evidential")
    weights = lo.train(given, tmp_path / "run").weights
    document, arrays, _ = sealed.read(weights, lambda what: AssertionError(what))
    document["head"]["name"] = "evidental"
    sealed.write(weights, document, arrays)
    with pytest.raises(ModelError, match="no head named 'evidental'; did you mean 'evidential'"):
        lo.extract(with_weights(given, weights), tmp_path / "c.zarr")


def test_weights_without_a_description_are_those_of_a_plain_network(tmp_path):
    given = described("cross_entropy")
    weights = lo.train(given, tmp_path / "run").weights
    save_file(load_file(weights), tmp_path / "plain.safetensors")
    for name, path in (("one", weights), ("other", tmp_path / "plain.safetensors")):
        lo.extract(with_weights(given, path), tmp_path / name, splits=["val"])
    one, other = (lo.open_cache(tmp_path / name)["val"]["logits"] for name in ("one", "other"))
    assert torch.equal(one, other)


def test_an_objective_that_needs_ood_inputs_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"for the objective prior, got none; .*splits\.outliers"):
        lo.train(pipeline(objective="prior"), tmp_path / "run")


def test_the_uncertainty_of_a_trained_network_separates_far_inputs(tmp_path):
    given = pipeline(
        objective={"name": "evidential", "evidence": "exp", "risk": "ml"},
        rows=300,
        epochs=20,
        splits={
            "id": {"role": "id", "target": f"{NETS}.Points", "args": {"seed": 2}},
            "far": {
                "role": "far",
                **OUTLIERS,
            },
        },
    )
    done = lo.train(given, tmp_path / "run")
    lo.extract(with_weights(given, done.weights), tmp_path / "c.zarr")
    comparison = lo.score(tmp_path / "c.zarr", detectors="vacuity,msp")
    vacuity = next(r for r in comparison.results if r.request.detector == "vacuity")
    assert vacuity.request.layer == "dirichlet/network"
    assert vacuity.rows[0].auroc > 0.6
