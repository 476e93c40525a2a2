"""Compiled parts give what the model gives, and say so where they cannot."""

import shutil

import pytest
import torch

from latentood.errors import FingerprintMismatch, ModelError
from latentood.extraction.run.job import prepare
from latentood.store.cache import open_cache
from latentood.workflows import extract
from tests.extraction.run.test_runner import NETS, pipeline

KEYS = ("logits", "mc.logits", "features/stages.1", "mc.entropy/stages.1", "labels")


def staged(**changes):
    settings = {"model__target": f"{NETS}.Staged", "layers": ["stem", "stages.1", "penultimate"]}
    return pipeline(**settings | {"extract__compile": True} | changes)


@pytest.fixture
def compiled(monkeypatch):
    """Trace as the compiler does, generate nothing; lists what was compiled."""
    compiled, real = [], torch.compile

    def traced(function):
        compiled.append(function.__self__)
        return real(function, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    return compiled


def test_a_compiled_model_fills_the_same_cache(compiled, tmp_path):
    extract(staged(), tmp_path / "compiled")
    extract(staged(extract__compile=False), tmp_path / "plain")
    for split in ("train", "far"):
        ours, plain = (open_cache(tmp_path / name)[split] for name in ("compiled", "plain"))
        for key in KEYS if split == "train" else KEYS[:-1]:
            torch.testing.assert_close(ours[key], plain[key], rtol=1e-5, atol=1e-5)


def test_the_largest_parts_without_hooks_inside_are_compiled(compiled):
    model = prepare(staged()).plan.engine.model
    assert compiled == [model.stem, *model.stages]
    compiled.clear()
    inner = prepare(staged(layers=["stages.1.0", "penultimate"])).plan.engine.model
    assert compiled == [inner.stem, inner.stages[0], inner.stages[2]]


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_the_real_compiler_is_used(tmp_path):
    engine = prepare(staged(layers=["stages.2"], monte_carlo=None)).plan.engine
    assert hasattr(engine.model.stages[2].forward, "_torchdynamo_orig_callable")
    batch = torch.randn(5, 3, 8, 8)
    plain = prepare(staged(layers=["stages.2"], monte_carlo=None, extract__compile=False))
    with torch.no_grad():
        ours = engine.run(batch, torch.arange(5)).features["stages.2"]
        truth = plain.plan.engine.run(batch, torch.arange(5)).features["stages.2"]
    torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-5)


def test_a_cache_is_not_resumed_with_and_without(compiled, tmp_path):
    extract(staged(), tmp_path / "s", splits=["train"])
    extract(staged(), tmp_path / "s")
    with pytest.raises(FingerprintMismatch, match="compile is true there but absent here"):
        extract(staged(extract__compile=False), tmp_path / "s")


def test_functional_dropout_cannot_be_compiled(compiled):
    functional = staged(
        model__target=f"{NETS}.FunctionalDropout",
        layers=["penultimate"],
        monte_carlo__activate="functional",
    )
    with pytest.raises(ModelError, match="compile: cannot be used with functional dropout"):
        prepare(functional)


def test_a_model_without_parts_cannot_be_compiled(compiled):
    flat = staged(model__target=f"{NETS}.OwnDropout", layers=["penultimate"])
    with pytest.raises(ModelError, match="compile: the model has no part without"):
        prepare(flat)


def test_a_compiler_that_fails_is_named(monkeypatch):
    def failing(x):
        raise RuntimeError("no C++ compiler\nfound")

    monkeypatch.setattr(torch, "compile", lambda function: failing)
    with pytest.raises(ModelError, match=r"compile: RuntimeError: no C\+\+ compiler found; remove"):
        prepare(staged())


def test_a_compiled_model_that_gives_something_else_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: lambda x: function(x) + 0.01)
    with pytest.raises(ModelError, match="does not give what the model gives"):
        prepare(staged())
