"""The map in CONTRIBUTING.md is that of the code: its places exist, its paths are walked."""

import ast
import itertools
import re
import sys
import threading
import types
from pathlib import Path

import pytest

import latentood
from latentood.cli import main
from tests.docs.pages import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGE = str(Path(latentood.__file__).parent) + "/"
DEMO = str(ROOT / "pipelines" / "demo.yaml")


def paths(text: str) -> dict[str, list[tuple[str, str]]]:
    """Read the paths of the map: title → (file, name) in the order in which they are walked."""
    parts = re.split(r"^\*\*(.+)\*\*$", text, flags=re.MULTILINE)
    step = re.compile(r"^\| `(latentood/\S+\.py)`: `(\w+)` \|", re.MULTILINE)
    return {
        title: step.findall(after)
        for title, after in zip(parts[1::2], parts[2::2], strict=True)
        if step.search(after)
    }


def questions(text: str) -> list[tuple[str, str, str]]:
    """Read the questions of the map: (question, file, name)."""
    return re.findall(r"^\| (.+\?) \| `(\S+)` \| `(\w+)` \|$", text, re.MULTILINE)


def defined(file: Path) -> set[str]:
    """List what a module defines: classes, functions, methods, and names at the top."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.ClassDef, ast.FunctionDef)
    names = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def missing(places: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """List the places of the map that are not in the code."""
    return [
        (file, name)
        for file, name in places
        if not (ROOT / file).is_file() or name not in defined(ROOT / file)
    ]


def test_every_place_of_the_map_exists() -> None:
    steps = [step for walked in paths(TEXT).values() for step in walked]
    assert len(steps) > 30
    assert missing([*steps, *((file, name) for _, file, name in questions(TEXT))]) == []


def test_a_place_that_is_not_there_is_noticed() -> None:
    wrong = [("latentood/store/nowhere.py", "x"), ("latentood/store/writer.py", "no_such")]
    assert missing([*wrong, ("latentood/store/writer.py", "open_writer")]) == wrong


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"`((?:latentood|tests|docs)/[\w./-]*)`", TEXT)
    assert len(named) > 60
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_map_answers_twenty_questions_and_walks_four_paths() -> None:
    asked = questions(TEXT)
    assert len({question for question, _, _ in asked}) == len(asked) >= 20
    assert len(paths(TEXT)) == 4


@pytest.mark.parametrize("steps", paths(TEXT).values(), ids=list(paths(TEXT)))
def test_a_path_visits_each_file_once(steps: list[tuple[str, str]]) -> None:
    files = [file for file, _ in steps]
    assert len(set(files)) == len(files)


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> list[list[tuple[str, str]]]:
    """What ``extract`` and then ``score`` call, in order."""
    folder = tmp_path_factory.mktemp("map")
    store = str(folder / "map.zarr")
    extract = ["extract", DEMO, "--store", store, "--set", "model.weights=null", "--limit", "60"]
    splits = ["--split", "train", "--split", "id_test", "--split", "photos"]
    score = ["score", store, "--detectors", "mahalanobis", "--out", str(folder / "results")]
    return [trace([*extract, *splits]), trace([*score, "--tracking", "none"])]


def trace(arguments: list[str]) -> list[tuple[str, str]]:
    """Run a command, and list (file, function) of our package call by call."""
    calls = []

    def note(frame: types.FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            file = "latentood/" + code.co_filename.removeprefix(PACKAGE)
            calls.append((file, code.co_name))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert ended.value.code == 0
    return calls


@pytest.mark.parametrize(
    ("title", "command"),
    [
        ("An image, from the pipeline file to a shard", 0),
        ("A row, from a shard to a line of `results.csv`", 1),
        ("A statistic, from the detector that asks for it to the read that answers it", 1),
    ],
    ids=["image", "row", "statistic"],
)
def test_a_path_is_walked_in_the_order_of_the_map(
    called: list[list[tuple[str, str]]], title: str, command: int
) -> None:
    functions = [(file, name) for file, name in paths(TEXT)[title] if name[0].islower()]
    assert walked(functions, called[command]) == functions


def walked(steps: list[tuple[str, str]], calls: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give the steps that are called one after the other, up to the first that is not."""
    later = iter(calls)
    return list(itertools.takewhile(lambda step: step in later, steps))


def test_a_path_in_another_order_is_noticed() -> None:
    calls = [("a.py", "f"), ("b.py", "g"), ("c.py", "h")]
    assert walked(calls[::2], calls) == calls[::2]
    assert walked([calls[0], calls[2], calls[1]], calls) == [calls[0], calls[2]]
