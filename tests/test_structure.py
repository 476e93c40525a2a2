"""The structure of the package, read from its source: who imports whom, cycles, sizes of folders.

Imports for typing alone and imports inside functions count like all others.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "latentood"

_VALUES = {"errors", "latents"}
_BELOW_WORKFLOWS = {
    "data", "detectors", "device", "errors", "evaluation", "extraction", "files", "latents",
    "models", "pipeline", "plugins", "report", "sealed", "stats", "store", "training",
}  # fmt: skip
ARROWS = {
    "errors": set(),
    "models": {"errors", "stats"},
    "files": set(),
    "sealed": {"errors", "files"},
    "stats": {"errors"},
    "plugins": {"errors"},
    "device": {"errors"},
    "data": {"errors"},
    "latents": {"errors", "stats"},
    "pipeline": _VALUES,
    "store": _VALUES | {"files", "sealed"},
    "detectors": _VALUES | {"device", "files", "models", "plugins", "sealed", "stats"},
    "evaluation": _VALUES | {"detectors", "device", "plugins", "stats"},
    "report": _VALUES | {"evaluation", "files"},
    "training": {
        "data",
        "device",
        "errors",
        "extraction",
        "files",
        "latents",
        "models",
        "pipeline",
        "plugins",
        "sealed",
        "stats",
        "store",
    },
    "extraction": _VALUES
    | {
        "data",
        "detectors",
        "device",
        "files",
        "models",
        "pipeline",
        "plugins",
        "sealed",
        "stats",
        "store",
    },
    "workflows": _BELOW_WORKFLOWS,
    "testing": _BELOW_WORKFLOWS,
    "cli": _BELOW_WORKFLOWS | {"workflows"},
    "__init__": _BELOW_WORKFLOWS | {"workflows"},
}
"""Folder or module of the package → what else of it may be imported there."""

INNER_ARROWS = {
    "extraction": {
        "heads": {"model", "run"},
        "model": set(),
        "passes": {"model"},
        "scores": {"model", "passes"},
        "members": {"model", "passes"},
        "run": {"members", "model", "passes", "scores"},
    },
    "detectors": {
        "base": set(),
        "checks": {"base"},
        "registry": {"base"},
        "banks": {"base", "statistics"},
        "statistics": {"base", "checks"},
        "advice": {"base", "checks", "registry", "statistics"},
        "feature_heads": set(),
        "fitted": {"base", "checks", "feature_heads", "fitted_file", "registry"},
        "fitted_file": set(),
        "families": {"banks", "base", "checks", "fitted", "registry", "statistics"},
        "__init__": {"families", "registry"},
    },
    "stats": {"__init__": {"entropy"}} | {
        name: {"linalg", "moments", "products", "quantiles", "probabilities", "neighbours"}
        for name in ("activations", "collapse", "combination", "distributions", "entropy", "linalg",
                     "moments", "neighbours", "probabilities", "products", "quantiles",
                     "temperature", "trees")
    },
    "detectors/families": {
        "density": set(),
        "evidential": set(),
        "fusion": set(),
        "gaussian": set(),
        "gram": set(),
        "head": set(),
        "logits": set(),
        "monte_carlo": set(),
        "neighbours": set(),
        "prototypes": set(),
        "subspace": set(),
        "shaping": {"logits"},
        "latent_entropy": {"density", "gaussian", "neighbours"},
        "score_taps": {"gaussian", "logits"},
    },
}  # fmt: skip
"""Folder → its entries → which of its other entries may be imported there."""

CONFINED = {
    "zarr": ("store/*.py",),
    "mlflow": ("report/tracking*.py",),
    "faiss": ("stats/neighbours/*.py", "cli/doctor.py"),  # doctor reports which build is installed
    "optuna": ("evaluation/choice/search.py",),
    "filelock": ("store/*.py", "report/tracking_store.py"),
}
"""Heavy packages and the files that may import them."""

KEPT_OUT = {"detectors": ("zarr", "mlflow", "faiss", "torch.utils.data")}

MOST_ENTRIES = 15
MOST_ENTRIES_AT_THE_ROOT = 22


def sources() -> dict[str, str]:
    """All modules of the package: path inside it → source text."""
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imported(file: str, source: str) -> Iterator[str]:
    """Dotted names of everything a module imports, wherever in it the import stands."""
    package = ["latentood", *PurePosixPath(file).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def first_part(path: PurePosixPath) -> str:
    return path.parts[0].removesuffix(".py")


def wrong_arrows(file: str, source: str) -> list[str]:
    """Imports of a module that the structure forbids."""
    top = first_part(PurePosixPath(file))
    if top not in ARROWS:
        return [f"{file}: {top!r} is not in the structure; say what it may import"]
    wrong = []
    for name in imported(file, source):
        parts = name.split(".")
        if parts[0] == "latentood":
            # a public name of the package itself, e.g. latentood.Latents, hides where it lives
            target = parts[1] if len(parts) > 1 else parts[0]
            if target not in {*ARROWS[top], top, "__version__"}:
                wrong.append(f"{file}: {top} must not import {name}")
            wrong += wrong_inside(file, parts[1:])
            continue
        wrong += [
            f"{file}: only {' and '.join(homes)} may import {package}"
            for package, homes in CONFINED.items()
            if parts[0] == package and not any(PurePosixPath(file).match(home) for home in homes)
        ]
        wrong += [
            f"{file}: {top} must not import {package}"
            for package in KEPT_OUT.get(top, ())
            if name == package or name.startswith(f"{package}.")
        ]
    return wrong


def wrong_inside(file: str, target: list[str]) -> Iterator[str]:
    """An import from one part of a folder to another that the structure forbids."""
    for folder, arrows in INNER_ARROWS.items():
        here, depth = PurePosixPath(file), len(PurePosixPath(folder).parts)
        inside = here.is_relative_to(folder) and "/".join(target[:depth]) == folder
        if not inside or len(target) <= depth:
            continue
        own, other = first_part(here.relative_to(folder)), target[depth]
        if own == "__init__" and folder == "detectors/families":
            continue
        if other != own and other not in arrows.get(own, ()):
            yield f"{file}: {folder}/{own} must not import {'.'.join(target)}"


def functions_across_families(file: str, source: str) -> list[str]:
    """Imports of anything but classes by one family of detectors from another."""
    folder = PurePosixPath("detectors/families")
    here = PurePosixPath(file)
    if not here.is_relative_to(folder) or here == folder / "__init__.py":
        return []
    own = first_part(here.relative_to(folder))
    wrong = []
    for name in imported(file, source):
        parts = name.split(".")
        other = parts[:3] == ["latentood", *folder.parts] and len(parts) > 3 and parts[3] != own
        if other and not parts[-1][0].isupper():
            wrong.append(f"{file}: {own} must not import {name}, which is no class")
    return wrong


def module_of(file: str) -> str:
    return "/".join(PurePosixPath(file).with_suffix("").parts).removesuffix("/__init__")


def edges(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Module → modules of the package that it imports."""
    modules = {module_of(file) for file in files}
    graph = {}
    for file, source in files.items():
        named = ["/".join(name.split(".")[1:]) for name in imported(file, source)
                 if name.startswith("latentood.")]  # fmt: skip
        reached = {one if one in modules else one.rpartition("/")[0] for one in named}
        graph[module_of(file)] = (reached & modules) - {module_of(file)}
    return graph


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """Some modules that import each other in a circle; empty if there are none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        path.append(module)
        for other in sorted(graph.get(module, ())):
            if cycle := visit(other):
                return cycle
        done.add(path.pop())
        return []

    return next((cycle for module in graph if (cycle := visit(module))), [])


def test_imports_follow_the_structure():
    assert [w for file, source in sources().items() for w in wrong_arrows(file, source)] == []


def test_no_modules_import_each_other_in_a_circle():
    assert find_cycle(edges(sources())) == []


def test_families_build_on_the_classes_of_others_alone():
    files = sources().items()
    assert [w for file, source in files for w in functions_across_families(file, source)] == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("errors.py", "from latentood.stats import entropy"),
        ("stats/moments.py", "from latentood.detectors.base import Detector"),
        ("stats/moments.py", "from latentood import detectors"),
        ("stats/moments.py", "from ..detectors.base import Detector"),
        ("stats/moments.py", "from .. import detectors"),
        ("detectors/base.py", "def fit():\n    import latentood.store.cache"),
        ("detectors/base.py", "from torch.utils.data import DataLoader"),
        ("detectors/base.py", "from torch.utils import data"),
        ("detectors/base.py", "import torch.utils.data as data"),
        ("detectors/base.py", "import faiss"),
        ("detectors/base.py", "from latentood import detector"),
        ("detectors/base.py", "from latentood.detectors.families.logits.scores import Energy"),
        ("detectors/registry.py", "def f():\n    from latentood.detectors.families import fusion"),
        ("detectors/statistics/bank.py", "from latentood.detectors.fitted import fit"),
        ("detectors/families/gram.py", "from latentood.detectors.families.fusion import Fusion"),
        ("evaluation/scoring.py", "from latentood.report import tracking"),
        ("report/table.py", "import mlflow.tracking"),
        ("report/results.py", "from latentood.cli import app"),
        ("extraction/run/runner.py", "import zarr"),
        ("extraction/model/taps.py", "from latentood.extraction.passes.noise import Noise"),
        ("extraction/scores/network.py", "from latentood.extraction.run.job import Job"),
        ("store/cache.py", "from latentood.extraction.run import runner"),
        ("models/cifar.py", "from latentood.latents import Latents"),
        ("models/cifar.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import mlflow"),
        ("data/arrays.py", "import latentood"),
        ("workflows/scoring.py", "from latentood.cli import terminal"),
        ("helpers/misc.py", ""),
    ],
)
def test_a_planted_wrong_import_is_caught(file, source):
    assert len(wrong_arrows(file, source)) >= 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("detectors/families/neighbours/knn.py", "from latentood.stats.neighbours import search"),
        ("detectors/checks.py", "from . import base\nfrom .base import Detector\nimport torch"),
        ("stats/neighbours/search.py", "import faiss"),
        ("store/shards.py", "from zarr.codecs import BloscCodec\nfrom . import schema"),
        ("report/tracking.py", "import mlflow"),
        ("cli/demo.py", "from latentood import workflows\nfrom latentood import __version__"),
        ("detectors/families/shaping/base.py",
         "from latentood.detectors.families.logits.scores import Energy"),
    ],
)  # fmt: skip
def test_a_right_import_passes(file, source):
    assert wrong_arrows(file, source) == []


def test_a_planted_circle_is_caught_wherever_its_imports_stand():
    a, b, c = "latentood.stats.a", "latentood.stats.b", "latentood.stats.c"
    files = {
        "stats/a.py": f"from {b} import x",
        "stats/b.py": f"def f():\n    import {c}",
        "stats/c.py": f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {a} import y",
    }
    assert find_cycle(edges(files)) == ["stats/a", "stats/b", "stats/c"]
    assert find_cycle(edges(files | {"stats/c.py": "import torch"})) == []


def test_a_planted_function_of_another_family_is_caught():
    source = "from latentood.detectors.families.gaussian.distances import {}"
    file = "detectors/families/latent_entropy.py"
    assert functions_across_families(file, source.format("checked_whitener"))
    assert not functions_across_families(file, source.format("Mahalanobis"))


def test_every_part_of_the_structure_exists():
    tops = {first_part(PurePosixPath(file)) for file in sources()}
    assert set(ARROWS) == tops, "a folder was removed or renamed; correct ARROWS"
    for folder, arrows in INNER_ARROWS.items():
        entries = {path.stem for path in (PACKAGE / folder).iterdir()} - {"__pycache__"}
        assert set(arrows) <= entries, f"{folder}: something was renamed; correct INNER_ARROWS"
        named = {one for others in arrows.values() for one in others}
        assert named <= entries


def test_folders_can_be_taken_in_at_a_glance():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        entries = [path for path in folder.iterdir() if path.name != "__pycache__"]
        most = MOST_ENTRIES_AT_THE_ROOT if folder == PACKAGE else MOST_ENTRIES
        assert len(entries) <= most, f"{folder.relative_to(PACKAGE)} has {len(entries)} entries"
