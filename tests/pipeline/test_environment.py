"""Variables of the environment in a pipeline: used when a target is built, never recorded."""

import pytest

from latentood.errors import ConfigError
from latentood.pipeline.schema import Target, load_pipeline
from latentood.pipeline.targets import build, filled

TARGET = "builtins.dict"


def test_a_variable_is_filled_in_when_the_target_is_built(monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    target = Target(target=TARGET, args={"a": "x/${TOKEN}", "b": {"c": ["${TOKEN}", 1]}})
    assert build(target) == {"a": "x/secret", "b": {"c": ["secret", 1]}}
    assert "secret" not in target.model_dump_json()


def test_a_variable_that_is_not_set_is_named_with_its_place(monkeypatch):
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"^b\.c: the environment must have the variable TOKEN"):
        build(Target(target=TARGET, args={"b": {"c": "${TOKEN}"}}))


def test_an_error_of_the_target_does_not_show_the_value(monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    with pytest.raises(ConfigError) as caught:
        build(Target(target="builtins.int", args={"x": "${TOKEN}"}))
    assert "secret" not in str(caught.value)


def test_a_path_with_a_variable_is_left_as_it_is_written(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(
        "name: x\nmodel: {target: a.b, weights: '${ROOT}/w.pt'}\n"
        "splits: {train: {role: fit, target: a.b, args: {root: '${ROOT}/data'}}}\n"
    )
    pipeline = load_pipeline(file)
    assert str(pipeline.model.weights) == "${ROOT}/w.pt"
    assert pipeline.splits["train"].args == {"root": "${ROOT}/data"}
    assert filled("no variable: $HOME", "x") == "no variable: $HOME"


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("name: x\nmodel:\n  target: a.b\nname: y\n")
    with pytest.raises(ConfigError, match=r"key 'name' stands in line 1 and again in line 4"):
        load_pipeline(file)


def test_a_wrong_argument_suggests_the_right_one():
    with pytest.raises(ConfigError, match=r"for 'paths' did you mean 'path'\?"):
        build(Target(target="latentood.data.Arrays", args={"paths": "x.npz"}))


@pytest.mark.parametrize("target", ["math.pi", "sys.path"])
def test_a_target_that_cannot_be_called_is_refused(target):
    with pytest.raises(ConfigError, match="must be a function or a class"):
        build(Target(target=target))


def test_a_target_that_exits_is_one_line():
    with pytest.raises(ConfigError, match=r"sys\.exit\(\): SystemExit"):
        build(Target(target="sys.exit", args={}))
