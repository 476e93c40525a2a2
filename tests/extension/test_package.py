"""A package of its own adds a detector, a reduction and a score tap, and passes the contracts."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TINY = Path(__file__).with_name("tiny")
PYTEST = ["-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "test_tiny_plugins.py"]

PIPELINE = """
name: tiny
model: {target: latentood.models.digits_resnet, args: {num_classes: 7}}
layers: [{layer1: quantile}, penultimate]
scores: [{gradient_length: {temperature: 3.0}}]
splits:
  train: {role: fit, target: latentood.data.Digits,
          args: {classes: [0, 1, 2, 4, 6, 7, 9], size: 16}}
  id_test: {role: id, target: latentood.data.Digits,
            args: {classes: [0, 1, 2, 4, 6, 7, 9], part: test, size: 16}}
  noise: {role: far, target: latentood.data.GaussianNoise, args: {length: 60, shape: [1, 16, 16]}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder in which the package is installed, with its entry points."""
    folder = tmp_path_factory.mktemp("tiny")
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    output("-m", "build", "--wheel", *isolation, "--outdir", folder, TINY)
    (wheel,) = folder.glob("*.whl")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    output(*pip, folder / "site", wheel)
    return folder / "site"


def python(*arguments, path=(), cwd=None):
    """Run Python with some folders on its path."""
    before = filter(None, [os.environ.get("PYTHONPATH")])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), *before])}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def output(*arguments, path=(), cwd=None):
    """Run Python, which must succeed; gives what it prints."""
    done = python(*arguments, path=path, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_plugins_keep_the_contracts_that_ship(installed):
    printed = output(*PYTEST, path=[installed], cwd=TINY)
    assert " passed" in printed


@pytest.mark.parametrize(
    ("file", "right", "wrong", "test"),
    [
        (
            "detector.py",
            "return scaled.norm(",
            "return -scaled.norm(",
            "test_higher_is_more_ood",
        ),
        (
            "reduction.py",
            "return x.flatten(2)",
            "x = x - x.mean(dim=0)\n        return x.flatten(2)",
            "test_each_row_is_reduced_by_itself",
        ),
        (
            "score_tap.py",
            "return network.gradient(",
            "return len(inputs) * network.gradient(",
            "test_a_score_does_not_depend_on_the_other_rows",
        ),
    ],
    ids=["detector", "reduction", "score tap"],
)
def test_the_contracts_catch_a_plugin_that_breaks_them(
    installed, tmp_path, file, right, wrong, test
):
    shutil.copytree(TINY, tmp_path, dirs_exist_ok=True)
    source = (tmp_path / "tiny_plugins" / file).read_text(encoding="utf-8")
    assert source.count(right) == 1
    broken = source.replace(right, wrong)
    (tmp_path / "tiny_plugins" / file).write_text(broken, encoding="utf-8")
    done = python(*PYTEST, path=[tmp_path, installed], cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert test in done.stdout


def test_the_command_line_extracts_and_scores_with_them(installed, tmp_path):
    (tmp_path / "tiny.yaml").write_text(PIPELINE, encoding="utf-8")
    cli = ["-m", "latentood.cli"]
    store = tmp_path / "tiny.zarr"
    extract = ["extract", "tiny.yaml", "--store", store, "--limit", "60"]
    output(*cli, *extract, path=[installed], cwd=tmp_path)
    score = ["score", store, "--detectors", "centroid,gradient_length", "--json"]
    options = ["--set", "centroid.order=1,2", "--tracking", "none"]
    printed = output(*cli, *score, *options, path=[installed], cwd=tmp_path)
    rows = json.loads(printed)["rows"]
    assert {(row["detector"], row["layer"]) for row in rows} == {
        ("centroid", "penultimate"),
        ("gradient_length", "scores/gradient_length"),
    }
    orders = {row["hyperparameters"].get("order") for row in rows}
    assert orders == {None, 1.0, 2.0}
    names = json.loads(output(*cli, "detectors", "--json", path=[installed]))
    assert {"centroid", "gradient_length"} <= {one["name"] for one in names}
