"""Weights are data, never code."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from latentood import sealed
from latentood.errors import ConfigError, ModelError
from latentood.extraction.model.weights import load_model, load_weights
from latentood.models.ensemble import Ensemble
from latentood.models.heads import HEADS, describe, tensors_of
from latentood.pipeline.schema import ModelConfig
from tests.extraction.nets import Conv

NET = "tests.extraction.nets.Conv"


def model(weights=None, **args):
    return load_model(ModelConfig(target=NET, args=args, weights=weights), seed=0)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_load_from_safetensors_and_from_state_dicts(tmp_path, suffix):
    state = Conv().state_dict()
    file = tmp_path / f"net.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save({"state_dict": state}, file)
    loaded = model(file)
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_missing_weights_are_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"none.safetensors: no such file; check model.weights"):
        model(tmp_path / "none.safetensors")


def test_weights_of_another_architecture_name_the_keys(tmp_path):
    file = tmp_path / "other.safetensors"
    state = Conv(classes=7).state_dict()
    state["extra.weight"] = state.pop("conv2.weight")
    save_file(state, file)
    with pytest.raises(ModelError) as caught:
        model(file)
    for part in (
        "1 missing (conv2.weight)",
        "1 unexpected (extra.weight)",
        "2 of another shape (fc.bias (7,) instead of (4,), fc.weight",
    ):
        assert part in str(caught.value)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (open, ("bomb-went-off", "w"))


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.safetensors", "net.bin"])
def test_a_planted_pickle_is_refused_and_does_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps({"conv1.weight": Bomb()}))
    with pytest.raises(ConfigError, match=r"must hold tensors alone|must be safetensors"):
        model(tmp_path / name)
    torch.save({"conv1.weight": Bomb()}, tmp_path / name)
    with pytest.raises(ConfigError, match=r"must hold tensors alone|must be safetensors"):
        model(tmp_path / name)
    assert not (tmp_path / "bomb-went-off").exists()


def test_a_target_that_gives_no_module_is_an_error():
    with pytest.raises(ModelError, match=r"must give a torch.nn.Module, got dict"):
        load_model(ModelConfig(target="builtins.dict"), seed=0)


def test_a_model_without_weights_is_the_same_every_time_and_leaves_the_global_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b = model(), model()
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("wrap", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_usual_wrappings_of_a_state_dict_are_recognised_and_said(tmp_path, caplog, wrap, prefix):
    net = torch.nn.Linear(2, 3)
    state = {f"{prefix}{name}": value for name, value in net.state_dict().items()}
    torch.save(state if wrap is None else {wrap: state, "epoch": 3}, tmp_path / "w.pt")
    other = torch.nn.Linear(2, 3)
    with caplog.at_level("INFO", "latentood"):
        load_weights(other, tmp_path / "w.pt")
    assert torch.equal(net.weight, other.weight)
    assert (f"using {wrap!r}" in caplog.text) == (wrap is not None)
    assert ("without the prefix 'module.'" in caplog.text) == bool(prefix)


def save(folder, *networks):
    files = [folder / f"{number}.safetensors" for number in range(len(networks))]
    for file, network in zip(files, networks, strict=True):
        save_file(network.state_dict(), file)
    return files


def test_several_files_are_an_ensemble_of_what_each_is_alone(tmp_path):
    files = save(tmp_path, Conv(), Conv())
    ensemble = model(files)
    assert isinstance(ensemble, Ensemble)
    assert not any(part.training for part in ensemble.modules())
    assert not any(p.requires_grad for p in ensemble.parameters())
    for file, member in zip(files, ensemble.members, strict=True):
        alone = model(file).state_dict()
        assert all(torch.equal(value, alone[key]) for key, value in member.state_dict().items())


def test_a_file_that_does_not_fit_is_named_among_several(tmp_path):
    files = save(tmp_path, Conv(), Conv(classes=7))
    with pytest.raises(ModelError, match=r"1.safetensors: keys do not fit Conv: 2 of another sh"):
        model(files)


def test_files_of_members_for_a_target_that_is_an_ensemble_are_refused(tmp_path):
    pair = Ensemble([Conv(), Conv()])
    config = ModelConfig(
        target="latentood.models.ensemble_of",
        args={"member": {"target": NET}, "size": 2},
        weights=save(tmp_path, pair, pair),
    )
    with pytest.raises(ModelError, match=r"got Ensemble at 'members.0'.*one file of weights, not"):
        load_model(config, seed=0)
    one = config.model_copy(update={"weights": config.weights[1]})
    assert torch.equal(load_model(one, seed=0).members[1].fc.weight, pair.members[1].fc.weight)


@pytest.mark.parametrize("built", [False, True], ids=["files", "target"])
def test_an_ensemble_of_networks_with_heads_is_refused(tmp_path, built):
    file, target = tmp_path / "w.safetensors", {"target": NET}
    network = Ensemble([Conv(), Conv()]) if built else Conv()
    head = HEADS["evidential"](4, 4)
    sealed.write(file, {"head": describe(head)}, tensors_of(network, head))
    if built:
        target = {"target": "latentood.models.ensemble_of", "args": {"member": target, "size": 2}}
    config = ModelConfig(**target, weights=file if built else [file, file])
    where = "uncertainty_head" if built else r"members.0.uncertainty_head"
    with pytest.raises(ModelError, match=f"EvidentialHead at '{where}'; for members with a head"):
        load_model(config, seed=0)


def test_what_is_no_state_dict_is_named(tmp_path):
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"a state dict of tensors, got 'epoch', 'loss'"):
        load_weights(torch.nn.Linear(2, 3), tmp_path / "w.pt")
