"""Targets are imported from what the user names, and called with what stands beside them."""

import sys

import pytest

from latentood.errors import ConfigError
from latentood.pipeline.sections import Target
from latentood.pipeline.targets import build, find, import_beside


def test_targets_are_built_from_the_inside_out():
    chain = build(
        Target(
            target="torch.nn.Sequential",
            args={},
        )
    )
    assert len(chain) == 0
    nested = Target(
        target="torchvision.transforms.Compose",
        args={"transforms": [{"target": "torchvision.transforms.Resize", "args": {"size": 8}}]},
    )
    assert build(nested).transforms[0].size == 8


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.Thing", "no module 'nowhere'; install it or put it beside the pipeline file"),
        ("torch.nn.Linea", "no 'Linea' in torch.nn; did you mean 'Linear'"),
        ("torch.nn.Linear", "missing 2 required positional arguments"),
    ],
)
def test_a_target_that_cannot_be_built_says_why(target, message):
    with pytest.raises(ConfigError) as caught:
        build(Target(target=target))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plain_name_is_not_a_target():
    with pytest.raises(ConfigError, match="no module 'torch'"):
        find("torch")


def test_only_arguments_may_stand_beside_a_nested_target():
    nested = {"step": {"target": "torch.nn.ReLU", "size": 8}}
    with pytest.raises(ConfigError, match=r"'torch.nn.ReLU': only args may stand .*got \['size'\]"):
        build(Target(target="builtins.dict", args=nested))


def test_modules_beside_the_pipeline_file_can_be_named(tmp_path, monkeypatch):
    (tmp_path / "beside_this_pipeline.py").write_text("def make(size): return [0] * size")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    with pytest.raises(ConfigError, match="no module 'beside_this_pipeline'"):
        find("beside_this_pipeline.make")
    for _ in range(2):
        import_beside(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    assert build(Target(target="beside_this_pipeline.make", args={"size": 3})) == [0, 0, 0]
