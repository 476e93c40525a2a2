"""What a user gets: the wheel, imports that cost nothing, and pipeline files that fit the code."""

import importlib
import inspect
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec

import pytest
import yaml
from packaging.requirements import Requirement

from latentood.cli.demo import FILES
from latentood.pipeline.schema import Pipeline, load_pipeline

PAGE = ("page.html", "style.css", "charts.js", "page.js")
HEAVY = ("faiss", "matplotlib", "mlflow", "scipy", "sklearn", "torch", "zarr")
PIPELINES = (
    "bccd_fasterrcnn",
    "camvid_unet",
    "cifar100_resnet18_msp",
    "cifar10_resnet18_larex",
    "cifar10_resnet20",
    "demo",
    "digits_objectives",
    "mnist_evidential",
    "scenes_fasterrcnn",
    "scenes_unet",
    "template",
)


def run(*command, cwd):
    """Run a program away from the checkout, so that only what is installed is found."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-isolation"] if find_spec("hatchling") else []
    build = [sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", folder]
    run(*build, repository, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def project(repository):
    """Table ``project`` of pyproject.toml."""
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_wheel_holds_every_module_the_type_marker_and_the_demo(wheel, repository):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = (repository / "latentood").rglob("*.py")
    assert {path.relative_to(repository).as_posix() for path in modules} <= names
    parts = {f"latentood/report/html/{name}" for name in PAGE}
    of_demos = {f"latentood/cli/{name}" for name in FILES.values()}
    assert {"latentood/py.typed", *of_demos, *parts} <= names
    outside = {name for name in names if not name.startswith(("latentood/", "latentood-"))}
    assert outside == set(), "tests or other files would land beside the package"


def test_what_users_cite_and_read_of_a_version_is_that_version(repository, project):
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    changes = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {project['version']}\n" in changes


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel installed in it."""
    target = tmp_path_factory.mktemp("installed") / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, "--target", target, wheel, cwd=target.parent)
    return target


def test_an_installed_wheel_imports_and_gives_its_version(installed, project, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); import latentood; "
        "print(latentood.__version__, latentood.__file__)"
    )
    version, file = run(sys.executable, "-c", code, cwd=tmp_path).split()
    assert version == project["version"]
    assert file == str(installed / "latentood" / "__init__.py")


def test_an_installed_wheel_finds_the_pipelines_of_its_demos(installed, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); "
        "from latentood.cli.demo import FILES, pipeline_file; "
        "print(*map(pipeline_file, FILES), sep='\\n')"
    )
    files = run(sys.executable, "-c", code, cwd=tmp_path).splitlines()
    assert files == [str(installed / "latentood" / "cli" / name) for name in FILES.values()]


def loaded_after(code, cwd):
    """Heavy packages that a fresh interpreter has loaded after running some code."""
    report = f"import sys; print('loaded:', *sorted(set({HEAVY}) & set(sys.modules)))"
    out = run(sys.executable, "-c", f"{code}\n{report}", cwd=cwd)
    return out.rpartition("loaded:")[2].split()


def test_importing_the_package_loads_nothing_heavy(tmp_path):
    assert loaded_after("import latentood", tmp_path) == []


HELP = """
import sys
from latentood.cli import main
sys.argv = ["latentood", {arguments}]
try:
    main()
except SystemExit as leaving:
    assert not leaving.code, leaving.code
"""


@pytest.mark.parametrize("arguments", ["'--help'", "'score', '--help'"])
def test_asking_for_help_loads_nothing_heavy(tmp_path, arguments):
    assert loaded_after(HELP.format(arguments=arguments), tmp_path) == []


def test_a_heavy_import_would_be_seen(tmp_path):
    assert loaded_after("import scipy", tmp_path) == ["scipy"]


@pytest.mark.parametrize(("package", "broken"), [("torch", "2.13.0"), ("torchvision", "0.28.0")])
def test_the_pair_that_fails_at_import_can_never_be_chosen(project, package, broken):
    needs = {need.name: need.specifier for need in map(Requirement, project["dependencies"])}
    assert broken not in needs[package]
    assert "2.15.0" in needs["torch"]


def test_each_accelerator_extra_brings_exactly_one_faiss(project):
    extras = project["optional-dependencies"]
    for extra in ("cpu", "gpu"):
        assert [Requirement(need).name for need in extras[extra]] == [f"faiss-{extra}"]


ADDED = {"optimiser": {"params": []}, "schedule": {"optimizer": None}}
"""What training adds to the arguments of some targets."""

LENGTHS = {"total_steps": 1, "T_max": 1}
"""What it adds where a schedule has an argument of that name."""


def targets(node, key=""):
    """All mappings with ``target`` in a raw pipeline, at any depth."""
    if isinstance(node, dict):
        if "target" in node:
            yield node["target"], ADDED.get(key, {}) | (node.get("args") or {})
        for name, value in node.items():
            yield from targets(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def unfit(dotted, args):
    """Say what is wrong with a target, if anything: it does not exist or refuses its args."""
    module, _, name = dotted.rpartition(".")
    try:
        signature = inspect.signature(getattr(importlib.import_module(module), name))
        lengths = {key: value for key, value in LENGTHS.items() if key in signature.parameters}
        signature.bind(**lengths | args)
    except (ImportError, AttributeError, TypeError) as problem:
        return f"{dotted}: {problem}"
    return None


@pytest.mark.parametrize("name", PIPELINES)
def test_every_target_of_a_shipped_pipeline_exists_and_takes_its_args(repository, name):
    raw = yaml.safe_load((repository / "pipelines" / f"{name}.yaml").read_text())
    assert [problem for target in targets(raw) if (problem := unfit(*target))] == []


def test_a_target_that_does_not_fit_would_be_seen():
    assert "has no attribute" in unfit("latentood.data.Nothing", {})
    assert "unexpected keyword argument 'size_'" in unfit(
        "latentood.data.Digits", {"classes": [1], "size_": 8}
    )


@pytest.mark.parametrize("name", PIPELINES)
def test_shipped_pipelines_are_valid(repository, name):
    pipeline = load_pipeline(repository / "pipelines" / f"{name}.yaml")
    roles = {split.role for split in pipeline.splits.values()}
    assert "fit" in roles
    assert "mixed" in roles or ("id" in roles and roles & {"near", "far"})


def test_the_tests_know_all_shipped_pipelines(repository):
    assert {path.stem for path in (repository / "pipelines").glob("*.yaml")} == set(PIPELINES)


def keys(schema, node):
    """All keys that the schema of the pipeline file allows, at any depth."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield from keys(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
        yield from node.get("properties", {})
        for part, value in node.items():
            if part not in ("$defs", "default"):
                yield from keys(schema, value)
    elif isinstance(node, list):
        for value in node:
            yield from keys(schema, value)


def test_the_template_shows_every_key_there_is(repository):
    text = (repository / "pipelines" / "template.yaml").read_text(encoding="utf-8")
    schema = Pipeline.model_json_schema()
    known = set(keys(schema, schema))
    assert {"passes", "block_rows", "shared", "output"} <= known, "the search itself is broken"
    # `{layer3: mean}` is how a layer's name and reduction are written
    missing = {key for key in known - {"reduction"} if f"{key}:" not in text}
    assert missing == set()
