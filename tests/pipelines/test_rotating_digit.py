"""The script of the rotating digit gives the numbers of the networks, and names mistakes."""

import csv
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from pipelines.rotating_digit import run
from tests.benchmarks.objectives import PIPELINE

NAMES = ("evidential", "prototypes", "cross_entropy")
ROW = 3


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    """The picture, and the lines of the CSV by network."""
    out = tmp_path_factory.mktemp("picture") / "turned.png"
    files = [trained(name)[0] / "run" / "weights.safetensors" for name in NAMES]
    call(PIPELINE, *files, "--out", out, "--row", ROW, "--step", 45)
    panels = defaultdict(list)
    with out.with_suffix(".csv").open(newline="") as file:
        for line in csv.DictReader(file):
            panels[line.pop("network")].append({key: float(value) for key, value in line.items()})
    return out, list(panels.values())


def call(*arguments):
    with pytest.raises(SystemExit) as stop:
        run([str(argument) for argument in arguments])
    return stop.value.code


def test_there_is_a_line_for_each_network_and_angle(made):
    _, panels = made
    assert len(panels) == len(NAMES)
    for lines in panels:
        assert [line["degrees"] for line in lines] == [0, 45, 90, 135, 180]
        for line in lines:
            probability = [line[f"p{number}"] for number in range(8)]
            assert sum(probability) == pytest.approx(1, abs=1e-6)
            assert line["prediction"] == np.argmax(probability)


@pytest.mark.parametrize("place", range(len(NAMES)), ids=NAMES)
def test_the_image_as_it_is_has_the_score_that_the_cache_gives(made, trained, place):
    own = trained(NAMES[place])[1].own
    score = own.scores["id_test"][ROW]
    uncertainty = made[1][place][0]["uncertainty"]
    if NAMES[place] == "cross_entropy":  # msp is −max p, the network's uncertainty 1 − max p
        uncertainty -= 1
    assert uncertainty == pytest.approx(score, rel=1e-5, abs=1e-5)


def test_turning_changes_the_prediction(made):
    for lines in made[1]:
        assert len({line["uncertainty"] for line in lines}) == len(lines)


def test_the_picture_has_a_panel_for_each_network(made):
    with Image.open(made[0]) as picture:
        assert picture.format == "PNG"
        width, height = picture.size
    assert width > 3 * 300
    assert height > 200


def test_help_has_an_example(capsys):
    assert call("--help") == 0
    assert "mnist_evidential.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--row", 9999), "--row must be from 0 to 360, the rows of 'id_test', got 9999"),
        (("--split", "id_tset"), "no split named 'id_tset'; did you mean 'id_test'?"),
        (("--split", "photos"), "no row of 'photos' has label 1; set --row"),
    ],
)
def test_mistakes_are_one_line(capsys, trained, tmp_path, arguments, message):
    weights = trained("evidential")[0] / "run" / "weights.safetensors"
    assert call(PIPELINE, weights, "--out", tmp_path / "x.png", *arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.png").exists()
