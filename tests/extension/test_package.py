"""A package of its own adds a detector, a reduction and a score tap, and passes the contracts."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TINY = Path(__file__).with_name("tiny")

PIPELINE = """
name: tiny
model: {target: latentood.models.digits_resnet, args: {num_classes: 7}}
layers: [{layer1: quantile}, penultimate]
scores: [{gradient_length: {scale: 3.0}}]
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
    run("-m", "build", "--wheel", *isolation, "--outdir", folder, TINY)
    (wheel,) = folder.glob("*.whl")
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    run(*pip, folder / "site", wheel)
    return folder / "site"


def run(*arguments, site=None, cwd=None):
    """Run Python, with the packages of a folder; gives what it prints."""
    path = os.pathsep.join(filter(None, [str(site or ""), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_plugins_keep_the_contracts_that_ship(installed):
    printed = run("-m", "pytest", "test_tiny_plugins.py", site=installed, cwd=TINY)
    assert " passed" in printed


def test_the_contracts_catch_a_plugin_that_breaks_them(installed, tmp_path):
    source = (TINY / "tiny_plugins.py").read_text(encoding="utf-8")
    tests = (TINY / "test_tiny_plugins.py").read_text(encoding="utf-8")
    faults = {
        "test_higher_is_more_ood": ("return scaled.norm(", "return -scaled.norm("),
        "test_each_row_is_reduced_by_itself": (
            "return x.flatten(2)",
            "x = x - x.mean(dim=0)\n        return x.flatten(2)",
        ),
        "test_a_score_does_not_depend_on_the_other_rows": (
            "return -self.scale * ",
            "return -self.scale * len(inputs) * ",
        ),
    }
    for number, (name, fault) in enumerate(faults.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "tiny_plugins.py").write_text(source.replace(*fault), encoding="utf-8")
        (folder / "test_it.py").write_text(tests, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
        path = os.pathsep.join(map(str, (folder, installed)))
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stdout
        assert name in done.stdout, done.stdout


def test_the_command_line_extracts_and_scores_with_them(installed, tmp_path):
    (tmp_path / "tiny.yaml").write_text(PIPELINE, encoding="utf-8")
    cli = ["-m", "latentood.cli"]
    store = tmp_path / "tiny.zarr"
    run(*cli, "extract", "tiny.yaml", "--store", store, "--limit", "60", site=installed,
        cwd=tmp_path)  # fmt: skip
    printed = run(*cli, "score", store, "--detectors", "centroid,gradient_length",
                  "--set", "centroid.order=1,2", "--tracking", "none", "--json", site=installed,
                  cwd=tmp_path)  # fmt: skip
    rows = json.loads(printed)["rows"]
    assert {(row["detector"], row["layer"]) for row in rows} == {
        ("centroid", "penultimate"),
        ("gradient_length", "scores/gradient_length"),
    }
    orders = {row["hyperparameters"].get("order") for row in rows}
    assert orders == {None, 1.0, 2.0}
    names = json.loads(run(*cli, "detectors", "--json", site=installed))
    assert {"centroid", "gradient_length"} <= {one["name"] for one in names}
