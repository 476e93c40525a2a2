"""The docs are held to the code: what exists is documented, what is documented exists and runs."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

import latentood
from latentood.cli import typer_app
from latentood.detectors.registry import detector_table
from latentood.extraction.model.reductions import reductions
from latentood.pipeline.schema import Pipeline, load_pipeline, parse_pipeline
from latentood.workflows import extract
from tests.docs.pages import (
    DOCS,
    PAGES,
    ROOT,
    Block,
    all_blocks,
    blocks,
    commands,
    hook,
    links,
    prose,
    rendered,
)

PROGRAM = typer_app()
COMMANDS = sorted(PROGRAM.commands)
RUN = [page for page in PAGES if blocks(page, "python")]
SHOWN = list(commands())


def parse(line: str) -> None:
    """Let the program read a command line without doing anything."""
    program, name, *words = shlex.split(line)
    top = PROGRAM.make_context(program, [], resilient_parsing=True)
    PROGRAM.commands[name].make_context(name, words, parent=top)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_the_program_takes(name: str) -> None:
    example = re.search(r"^Example: `(.+)`$", PROGRAM.commands[name].help, re.MULTILINE)
    assert example is not None
    assert example[1].split()[:2] == ["latentood", name]
    parse(example[1])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    page = rendered("cli.md")
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert section
    for option in (flag for parameter in PROGRAM.commands[name].params for flag in parameter.opts):
        assert option.lower() in section.lower()


@pytest.mark.parametrize(("where", "line"), SHOWN, ids=[where for where, _ in SHOWN])
def test_every_command_line_shown_is_one_that_the_program_takes(where: str, line: str) -> None:
    parse(line)


def test_a_command_line_that_the_program_does_not_take_is_noticed() -> None:
    for wrong in ("latentood score x.zarr --detector knn", "latentood scores x.zarr"):
        with pytest.raises(Exception, match=r"detector|scores"):
            parse(wrong)


@pytest.mark.parametrize("one", detector_table(), ids=lambda one: one["name"])
def test_every_detector_has_a_line_and_a_card(one: dict[str, Any]) -> None:
    page = rendered("detectors.md")
    assert f"| [`{one['name']}`](#{one['name']}) |" in page
    card = page.partition(f"\n### {one['name']} {{ #{one['name']} }}\n")[2]
    card = re.split(r"^##", card, maxsplit=1, flags=re.MULTILINE)[0]
    for fact in ("works", "fails", "cost", "reads", "layers", "paper"):
        assert re.search(rf"^- \*\*{fact}\*\*: \S", card, re.MULTILINE), fact
    for hyperparameter in one["hyperparameters"]:
        assert f"| `{hyperparameter['name']}` |" in card


def keys_of(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """List the keys of a pipeline file from its classes, not from the schema."""
    for name, field in model.model_fields.items():
        yield path + name
        for place, inner in models_in(field.annotation):
            yield from keys_of(inner, f"{path}{name}{place}.")


def models_in(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
        return
    place = {list: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        yield from ((place + deeper, model) for deeper, model in models_in(argument))


@pytest.mark.parametrize("key", dict.fromkeys(keys_of(Pipeline)))
def test_every_pipeline_key_is_documented_with_its_meaning(key: str) -> None:
    line = re.search(rf"^\| `{re.escape(key)}` \|(.+)\|$", rendered("pipeline.md"), re.MULTILINE)
    assert line is not None
    kind, _default, meaning = line[1].split(" | ")
    assert kind.strip()
    assert meaning.strip()


def test_every_reduction_is_documented() -> None:
    page = rendered("pipeline.md")
    assert all(f"| `{name}` |" in page for name in reductions())


@pytest.mark.parametrize("name", [n for n in latentood.__all__ if not n.startswith("_")])
def test_every_public_name_is_documented(name: str) -> None:
    section = rendered("python.md").partition(f"\n## {name} {{ #{name} }}\n")[2]
    assert len(section.partition("\n## ")[0].strip()) > 20


def test_every_fragment_is_used_and_every_marker_has_one() -> None:
    asked = {
        name for page in PAGES for name in hook().MARKER.findall(page.read_text(encoding="utf-8"))
    }
    assert asked == set(hook().FRAGMENTS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in links(page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.is_file(), target
        text = rendered(found.name) if found.parent == DOCS else found.read_text(encoding="utf-8")
        assert not anchor or anchor in anchors(text), target


def anchors(text: str) -> set[str]:
    """List the anchors of the headings of a page, as MkDocs names them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        given = re.search(r"\{ #(\S+) \}$", heading)
        found.add(given[1] if given else re.sub(r"[^\w]+", "-", heading.lower()).strip("-"))
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo has run: the pipelines, and a small cache without training."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    pipeline = load_pipeline(ROOT / "pipelines" / "demo.yaml", ["model.weights=null"])
    store, splits = folder / "latentood-demo" / "cache.zarr", ["train", "id_test", "photos"]
    extract(pipeline, store, splits=splits, limit=60, device="cpu")
    (folder / "cifar10.zarr").symlink_to(store)
    return folder


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_python_code_of_a_page_runs_from_top_to_bottom(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
    for block in blocks(page, "python"):
        source = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's line
        exec(compile(source, page, "exec"), vars(module))


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_every_pipeline_shown_is_valid(block: Block) -> None:
    assert parse_pipeline(yaml.safe_load(block.text)).splits


@pytest.mark.parametrize("block", all_blocks("toml"), ids=str)
def test_every_entry_point_shown_is_in_our_group(block: Block) -> None:
    assert tomllib.loads(block.text)["project"]["entry-points"]["latentood.detectors"]


def test_the_site_builds_strictly_and_loads_nothing_from_other_hosts(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra [docs] is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "true"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    loaded = re.compile(r"<(?:script|img|link|iframe)[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//")
    for page in tmp_path.glob("*.html"):
        assert not loaded.search(page.read_text(encoding="utf-8")), page.name
    assert not list(tmp_path.rglob("*.py*"))
