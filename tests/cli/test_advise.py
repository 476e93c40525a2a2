"""The command ``advise`` on a cache on disk."""

import json

import pytest
import yaml

from latentood.cli import main
from tests.cli.test_commands import run
from tests.extraction.run.test_runner import NETS, pipeline


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("advised")
    raw = pipeline().model_dump(mode="json")
    raw["splits"]["train"]["args"]["rows"] = 60
    val = {"role": "val", "target": f"{NETS}.Images", "args": {"rows": 40, "seed": 5}}
    raw["splits"] |= {"val": val}
    (folder / "small.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(SystemExit) as stop:
        main(["extract", str(folder / "small.yaml"), "--store", str(folder / "small.zarr")])
    assert not stop.value.code
    return folder / "small.zarr"


def test_measures_families_and_the_next_commands_are_printed(capsys, store):
    status, out, err = run(capsys, "advise", store)
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("a heuristic, from ID rows alone")
    assert "rows: 60 fit, 40 val" in lines
    assert "predictions" in lines
    assert "penultimate" in lines
    headers = [line for line in lines if line.startswith("family ")]
    assert headers
    assert all("heuristic" in header for header in headers)
    assert any(line.startswith("nc1 ") and "NC1: spread within" in line for line in lines)
    commands = [line.split() for line in lines[lines.index("next:") + 1 :]]
    assert [words[1] for words in commands] == ["score", "tune"]
    folder = store.parent / "scored"
    status, _, err = run(capsys, *commands[0][1:], "--out", folder, "--tracking", "none")
    assert status == 0, err


def test_the_advice_as_json_on_chosen_layers(capsys, store):
    status, out, _ = run(capsys, "advise", store, "--layer", "penult*", "--json")
    assert status == 0
    document = json.loads(out)
    assert document["heuristic"] is True
    assert [place["name"] for place in document["places"]] == ["predictions", "penultimate"]
    assert document["commands"][0].startswith(f"latentood score {store}")


def test_a_layer_that_is_not_there_is_one_line_on_stderr(capsys, store):
    status, out, err = run(capsys, "advise", store, "--layer", "layer9")
    assert (status, out) == (1, "")
    assert err.startswith("error: no cached layer named 'layer9'")
    assert err.count("\n") == 1
