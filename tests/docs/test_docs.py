"""The docs are held to the code: what exists is documented, what is documented exists and runs."""

import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

import latentood
from latentood import data
from latentood.cli import typer_app
from latentood.detectors.families.score_taps.base import SCORE_TAPS
from latentood.detectors.registry import DETECTORS, detector_table
from latentood.extraction.model.reductions import REDUCTIONS
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
    directives,
    hook,
    links,
    prose,
    rendered,
    sections,
    visible,
)

PROGRAM = typer_app()
COMMANDS = sorted(PROGRAM.commands)
RUN = [page for page in PAGES if blocks(page, "python")]
SHOWN = list(commands())
GROUPS = {registry.group: registry for registry in (DETECTORS, SCORE_TAPS, REDUCTIONS)}
NOT_DESCRIBED = {"__version__", "build_cache"}
"""Public names that a sentence of their own explains: a text, an older name."""


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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages."""
    for module in ("material", "mkdocstrings_handlers.python", "mkdocs_click"):
        pytest.importorskip(module, reason="the extra [docs] is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "true"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_on_the_built_page_with_example_arguments_and_options(
    name: str, site: Path
) -> None:
    section = sections(site / "cli.html")[f"latentood-{name}"]
    assert f"Example: latentood {name}" in section
    assert f"latentood {name} [OPTIONS]" in section
    for parameter in PROGRAM.commands[name].params:
        shown = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]
        for word in shown:
            assert re.search(rf"^ +(-\w, )?{word}\b.* \S", section, re.MULTILINE), word


def test_every_option_of_the_program_itself_is_on_the_built_page(site: Path) -> None:
    section = sections(site / "cli.html")["latentood"]
    for flag in ("--version", "--verbose", "--help"):
        assert re.search(rf"^ +(-\w, )?{flag}  +\S", section, re.MULTILINE), flag


@pytest.mark.parametrize(("where", "line"), SHOWN, ids=[where for where, _ in SHOWN])
def test_every_command_line_shown_is_one_that_the_program_takes(where: str, line: str) -> None:
    parse(line)


def test_a_command_line_that_the_program_does_not_take_is_noticed() -> None:
    for wrong in ("latentood score x.zarr --detector knn", "latentood scores x.zarr"):
        with pytest.raises(Exception, match=r"detector|scores"):
            parse(wrong)


def unknown_flags(text: str) -> set[str]:
    """Find the options in the prose of a page that no command has."""
    parameters = [
        one for command in (PROGRAM, *PROGRAM.commands.values()) for one in command.params
    ]
    known = {"--help", *(flag for one in parameters for flag in one.opts)}
    return set(re.findall(r"`(?:latentood [^`]*)?(--[a-z][a-z-]*)", prose(text))) - known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    assert unknown_flags(page.read_text(encoding="utf-8")) == set()


def test_an_option_that_no_command_has_is_noticed() -> None:
    text = "Use `--json`, `--no-such`, or `latentood fit --other x`."
    assert unknown_flags(text) == {"--no-such", "--other"}


@pytest.mark.parametrize("one", detector_table(), ids=lambda one: one["name"])
def test_every_detector_has_a_line_and_a_card(one: dict[str, Any]) -> None:
    page = rendered("detectors.md")
    assert f"| [`{one['name']}`](#{one['name']}) |" in page
    card = page.partition(f"\n### {one['name']} {{ #{one['name']} }}\n")[2]
    card = re.split(r"^##", card, maxsplit=1, flags=re.MULTILINE)[0]
    for fact in ("works", "fails", "cost", "reads", "layers", "paper"):
        assert re.search(rf"^- \*\*{fact}\*\*: \S", card, re.MULTILINE), fact
    refused = f"\n- **cannot be fitted on**: {', '.join(one['cannot_fit_on'])}\n"
    assert (refused in card) == bool(one["cannot_fit_on"])
    for hyperparameter in one["hyperparameters"]:
        assert f"| `{hyperparameter['name']}` |" in card


SOURCE_MARKS = re.compile(r"\\[|_*<>]|\*\*|`|&#?\w+;|\]\(|:::|\{ #")
HTML_TAGS = {
    "a", "article", "autoref", "b", "blockquote", "br", "button", "code", "dd", "details", "div",
    "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "kbd", "li", "nav", "ol",
    "p", "pre", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "th",
    "thead", "tr", "ul",
}  # fmt: skip


def left_over(article: str) -> set[str]:
    """Find the marks of Markdown that a reader of a built page sees, and tags that are no HTML."""
    tags = {f"<{tag}>" for tag in re.findall(r"<([a-zA-Z][\w-]*)", article)} - {
        f"<{tag}>" for tag in HTML_TAGS
    }
    prose = re.sub(r"<(pre|code)\b.*?</\1>", "", article, flags=re.DOTALL)
    in_code = re.findall(r"<code\b[^>]*>(.*?)</code>", article, re.DOTALL)
    escaped = {code for code in map(visible, in_code) if re.search(r"\\[|<]|&#?\w+;", code)}
    return tags | set(SOURCE_MARKS.findall(visible(prose))) | escaped


def test_no_page_shows_marks_of_its_source_or_loses_words_in_tags(site: Path) -> None:
    for page in site.glob("*.html"):
        source = page.read_text(encoding="utf-8")
        article = source[source.find("<article") : source.find("</article>")]
        assert left_over(article) == set(), page.name


@pytest.mark.parametrize(
    ("article", "seen"),
    [
        ("<p>mc.entropy/<layer> works too</p>", "<layer>"),
        (r"<td>energy \| msp</td>", r"\|"),
        (r"<td><code>energy \| msp</code></td>", r"energy \| msp"),
        ("<p>not **bold**</p>", "**"),
        ("<p>&amp;lt;layer></p>", "&lt;"),
    ],
)
def test_a_mark_that_is_left_over_is_noticed(article: str, seen: str) -> None:
    assert seen in left_over(article)


def test_signs_that_markdown_knows_are_shown_as_they_are(site: Path) -> None:
    page = sections(site / "detectors.html")
    assert "layer whose features are read; mc.entropy/<layer> works too" in page["knn"]
    assert "energy | msp | max_logit | entropy | gen" in page["react"]
    assert "ID val rows predicted as k" in page["kl_matching"]
    assert not any("\\|" in text or "**" in text for text in page.values())


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
    for name, cls in REDUCTIONS.known().items():
        assert cls.__doc__
        assert f"| `{name}` | {cls.__doc__.splitlines()[0]} |" in page


def test_the_python_page_describes_every_public_name_once() -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    described = [name.removeprefix("latentood.") for name in directives(text)]
    assert sorted(described) == sorted(set(latentood.__all__) - NOT_DESCRIBED)
    assert "`lo.build_cache` is another name for `lo.extract`" in text
    assert all(re.search(rf"\b{name}\b.{{20}}", text, re.DOTALL) for name in NOT_DESCRIBED)


@pytest.mark.parametrize("name", sorted(set(latentood.__all__) - NOT_DESCRIBED))
def test_every_public_name_is_on_the_built_page_with_all_that_it_has(name: str, site: Path) -> None:
    page = sections(site / "python.html")
    public = getattr(latentood, name)
    for path, one in ((name, public), *((f"{name}.{of}", one) for of, one in members(public))):
        section = page[f"latentood.{path}"]
        assert len(section) > len(path) + 10, path
        for parameter in parameters(one):
            assert f"{parameter}: " in section, f"{path}({parameter})"


VERBS = sorted(
    name
    for name in set(latentood.__all__) - {"hyper", "plugin"}  # shown on "Add a detector"
    if name.islower() and callable(getattr(latentood, name))
)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_called_on_the_python_page(verb: str) -> None:
    code = "".join(block.text for block in blocks(DOCS / "python.md", "python"))
    assert f"lo.{verb}(" in code or verb == "build_cache"


@pytest.mark.parametrize("name", data.__all__)
def test_every_data_set_and_transform_is_on_its_page_with_its_arguments(
    name: str, site: Path
) -> None:
    section = sections(site / "data.html")[f"latentood.data.{name}"]
    for argument in inspect.signature(getattr(data, name)).parameters:
        assert re.search(rf"\b{argument}: ", section), argument


def members(public: Any) -> Iterator[tuple[str, Any]]:
    """List what a class defines itself, or what users take from a public module."""
    kinds = (types.FunctionType, classmethod, property, cached_property)
    if inspect.isclass(public) and not issubclass(public, BaseModel):
        own = {name: one for name, one in vars(public).items() if isinstance(one, kinds)}
    elif public is latentood.metrics:
        metrics = inspect.getmembers(public, inspect.isfunction)
        own = {name: one for name, one in metrics if one.__annotations__["return"] == "float"}
    elif public is latentood.errors:
        classes = inspect.getmembers(public, inspect.isclass)
        own = {name: one for name, one in classes if issubclass(one, public.LatentOODError)}
    elif public in (latentood.statistics, latentood.stats):
        own = {name: getattr(public, name) for name in {*public.__all__} - {*latentood.__all__}}
    else:
        own = {}
    yield from ((name, one) for name, one in own.items() if not name.startswith("_"))


def parameters(described: Any) -> list[str]:
    """Name the parameters of what can be called as it is."""
    if inspect.isclass(described):
        made = not issubclass(described, BaseModel | Exception) and not hasattr(described, "kind")
        callable_as_it_is = made and not getattr(described, "_is_protocol", False)
    else:
        described = getattr(described, "__func__", described)
        callable_as_it_is = inspect.isfunction(described)
    names = inspect.signature(described).parameters if callable_as_it_is else ()
    return [name for name in names if name not in ("self", "cls")]


def unknown_names(text: str) -> set[str]:
    """Find the names that a page takes from the library although they are not public."""
    return set(re.findall(r"\blo\.(\w+)", text)) - set(latentood.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_public_name_that_a_page_uses_exists(page: Path) -> None:
    assert unknown_names(page.read_text(encoding="utf-8")) == set()


def test_a_public_name_that_is_missing_is_noticed() -> None:
    assert unknown_names("Call `lo.extract`, then `lo.decide(cache)`.") == {"decide"}


def test_no_reference_of_a_docstring_is_left_as_it_was_written(site: Path) -> None:
    text = "".join(sections(site / "python.html").values())
    assert not re.search(r":\w+:[`\w]|``|<autoref", text)


def test_every_fragment_is_used_and_every_marker_has_one() -> None:
    asked = {
        name for page in PAGES for name in hook().MARKER.findall(page.read_text(encoding="utf-8"))
    }
    assert asked == set(hook().FRAGMENTS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_project_has_a_target(page: Path) -> None:
    for target in links(page.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.is_file(), target
        text = rendered(path.name) if path.parent == DOCS else path.read_text(encoding="utf-8")
        assert not anchor or anchor in anchors(text), target


def anchors(text: str) -> set[str]:
    """List the anchors of the headings of a page, as MkDocs names them."""
    names = set(directives(text))
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        given = re.search(r"\{ #(\S+) \}$", heading)
        names.add(given[1] if given else re.sub(r"[^\w]+", "-", heading.lower()).strip("-"))
    return names


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo has run: the pipelines, and a small cache without training."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "pipelines").symlink_to(ROOT / "pipelines")
    pipeline = load_pipeline(ROOT / "pipelines" / "demo.yaml", ["model.weights=null"])
    store, splits = folder / "latentood-demo" / "cache.zarr", ["train", "val", "id_test", "photos"]
    extract(pipeline, store, splits=splits, limit=60, device="cpu")
    return folder


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_python_code_of_a_page_runs_from_top_to_bottom(
    page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(ROOT / "tests" / "extension" / "tiny")  # shown on a page
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look there
    for block in blocks(page, "python"):
        source = "\n" * (block.line - 1) + block.text  # so that a traceback names the page's line
        exec(compile(source, page, "exec"), vars(module))


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_every_pipeline_shown_is_valid(block: Block) -> None:
    assert parse_pipeline(yaml.safe_load(block.text)).splits


@pytest.mark.parametrize("block", all_blocks("toml"), ids=str)
def test_every_entry_point_shown_is_in_a_group_of_ours(block: Block) -> None:
    shown = tomllib.loads(block.text)["project"]["entry-points"]
    assert shown
    assert set(shown) <= set(GROUPS)
    assert all(re.fullmatch(r"\w+", name) for points in shown.values() for name in points)


def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|link|iframe)[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//")
    pages = list(site.glob("*.html"))
    assert {page.stem for page in pages} == {page.stem for page in DOCS.glob("*.md")} | {"404"}
    for page in pages:
        assert not loaded.search(page.read_text(encoding="utf-8")), page.name
    assert not list(site.rglob("*.py*"))
