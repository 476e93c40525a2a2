"""Pipeline files: what is accepted, how paths resolve, and what a mistake is answered with."""

from pathlib import Path

import pytest

from latentood.errors import ConfigError, LatentOODError
from latentood.pipeline.schema import load_pipeline, parse_pipeline

GOOD = """
name: small
model: {target: some.model, args: {num_classes: 3}, weights: weights/net.safetensors}
layers: [layer1, {layer2: max}, penultimate]
monte_carlo: {passes: 8, insert: {after: layer2, kind: dropblock, p: 0.4, block_size: 5}}
transform: {target: some.transform}
splits:
  train: {role: fit, target: some.data, args: {root: data, train: true}}
  noise: {role: far, target: some.noise, transform: null}
seed: 7
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.yaml"
    path.write_text(GOOD)
    return path


def test_a_good_file_is_read_with_paths_relative_to_itself(file):
    pipeline = load_pipeline(file)
    assert pipeline.model.weights == file.parent / "weights/net.safetensors"
    assert pipeline.splits["train"].args == {"root": str(file.parent / "data"), "train": True}
    assert [(layer.name, layer.reduction) for layer in pipeline.layers] == [
        ("layer1", "mean"),
        ("layer2", "max"),
        ("penultimate", "mean"),
    ]
    assert "transform" in pipeline.splits["noise"].model_fields_set
    assert pipeline.transform is not None
    assert [step.target for step in pipeline.transform] == ["some.transform"]


def test_overrides_replace_values_and_their_paths_are_relative_to_the_current_folder(
    file, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    overrides = ["seed=3", "splits.train.args.root=mine", "monte_carlo=null", "extract.workers=2"]
    pipeline = load_pipeline(file, overrides)
    assert pipeline.seed == 3
    assert pipeline.splits["train"].args["root"] == str(elsewhere / "mine")
    assert pipeline.monte_carlo is None
    assert pipeline.extract.workers == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("extract.batchsize=3", "unknown key 'extract.batchsize'; did you mean 'batch_size'?"),
        ("splits.train.roles=fit", "unknown key 'splits.train.roles'; did you mean 'role'?"),
        (
            "monte_carlo.insert.aftr=x",
            "unknown key 'monte_carlo.insert.aftr'; did you mean 'after'?",
        ),
        ("layrs=[a]", "unknown key 'layrs'; did you mean 'layers'?"),
        ("transform=[{targe: x}]", "unknown key 'transform.0.targe'; did you mean 'target'"),
        (
            "splits.train.role=ood",
            "splits.train.role: input should be 'fit', 'val', 'tune', 'id', 'near', 'far' or "
            "'mixed'",
        ),
        ("splits.new={target: a}", "key 'splits.new.role' is missing"),
        (
            "extract.batch_size=0",
            "pipeline.yaml: extract.batch_size: input should be greater than or equal to 1, got 0",
        ),
        ("layers=[3]", "layers.0: input should be a valid dictionary, got 3"),
        ("monte_carlo.insert=null", "give insert: {after: LAYER, …}"),
        (
            "monte_carlo.activate=member",
            "or a list of globs (did you mean 'members'?), got 'member'",
        ),
        ("monte_carlo.activate=members", "must stand without insert, since no noise is run"),
        ("model.weights=[a.pt]", "model.weights: a list must name the files of ≥ 2 members, got 1"),
        ("splits={}", "splits: dictionary should have at least 1 item"),
        ("seed", "--set seed: must be KEY=VALUE"),
        ("seed.x=2", "--set seed.x=2: 'seed' has no keys of its own to set"),
        ("seed=[1", "--set seed=[1: the value is not valid YAML"),
    ],
)
def test_a_mistake_names_the_place_and_the_nearest_right_key(file, override, message):
    with pytest.raises(ConfigError) as caught:
        load_pipeline(file, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_yaml_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml: cannot be read \(No such file"):
        load_pipeline(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1, 2")
    with pytest.raises(ConfigError, match=r"bad.yaml: not valid YAML"):
        load_pipeline(bad)
    bad.write_text("- a")
    with pytest.raises(ConfigError, match="must be a mapping of keys, got list"):
        load_pipeline(bad)


def test_yaml_cannot_build_python_objects(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: !!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_pipeline(bad)


def test_a_dumped_pipeline_reads_back_the_same(file):
    pipeline = load_pipeline(file)
    assert parse_pipeline(pipeline.model_dump(mode="json")) == pipeline


def test_the_weights_of_members_are_a_list_of_files(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["model.weights=[a/w.pt, b/w.pt]", "monte_carlo={activate: members}"]
    pipeline = load_pipeline(file, overrides)
    assert pipeline.model.weights == [tmp_path / "a/w.pt", tmp_path / "b/w.pt"]
    again = parse_pipeline(pipeline.model_dump(mode="json"))
    assert again == pipeline
    assert "passes" not in again.monte_carlo.model_fields_set, (
        "or it would have to be the number of members"
    )


def test_errors_are_also_the_builtin_they_resemble():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, LatentOODError)
