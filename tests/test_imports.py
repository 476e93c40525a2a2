"""The structure of the package, read from its source: which room imports which, and sizes.

A room is a folder or a top-level module of ``latentood``. Imports for typing alone count too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "latentood"

_FOUNDATION = {"errors", "stats", "latents", "rows"}
_SCORING = _FOUNDATION | {"detectors", "evaluation"}
_FRONT = {"cli", "compare", "console", "demo", "doctor", "options", "show"}
ARROWS = {
    "errors": set(),
    "models": set(),
    "overrides": {"errors"},
    "config": {"errors", "overrides"},
    "data": {"errors"},
    "training": {"errors", "stats"},
    "stats": {"errors"},
    "keys": {"errors"},
    "units": set(),
    "rows": set(),
    "statistic": {"errors"},
    "latents": {"errors", "keys", "rows", "statistic"},
    "detectors": _FOUNDATION,
    "evaluation": _FOUNDATION | {"detectors"},
    "report": _SCORING,
    "store": {"errors", "latents", "units"},
    "extract": _FOUNDATION | {"config", "data", "store"},
}
"""Room → rooms it may import; itself is always allowed."""

EVERYWHERE = {room: set(ARROWS) | _FRONT for room in (*_FRONT, "__init__")}
"""The front of the house may import every room; no room may import the front."""

CONFINED = {
    "zarr": ("store/*.py",),
    "mlflow": ("report/tracking*.py",),
    "faiss": ("stats/neighbours*.py", "doctor.py"),  # doctor tells which build is installed
}
"""Heavy packages and the files that may import them."""

KEPT_OUT = {"detectors": ("zarr", "mlflow", "faiss", "torch.utils.data")}

LONGEST_FILE = 300
LONGEST_FUNCTION = 40


def sources() -> list[tuple[str, str]]:
    """All modules of the package: path inside it, source text."""
    return [
        (path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


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


def room_of(file: str) -> str:
    return PurePosixPath(file).parts[0].removesuffix(".py")


def wrong_arrows(file: str, source: str) -> list[str]:
    """Imports of a module that the structure forbids."""
    room = room_of(file)
    allowed = (ARROWS | EVERYWHERE).get(room)
    if allowed is None:
        return [f"{file}: room {room!r} is not in the structure; say what it may import"]
    wrong = []
    for name in imported(file, source):
        parts = name.split(".")
        # a public name of the package itself, e.g. latentood.Latents, hides where it lives
        target = parts[1] if parts[0] == "latentood" and len(parts) > 1 else parts[0]
        inside = parts[0] == "latentood"
        if inside and target not in {*allowed, room, "__version__"}:
            wrong.append(f"{file}: {room} must not import {name}")
        wrong += [
            f"{file}: only {' and '.join(homes)} may import {package}"
            for package, homes in CONFINED.items()
            if not inside
            and parts[0] == package
            and not any(PurePosixPath(file).match(home) for home in homes)
        ]
        wrong += [
            f"{file}: {room} must not import {package}"
            for package in KEPT_OUT.get(room, ())
            if name == package or name.startswith(f"{package}.")
        ]
    return wrong


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its decorators and docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


def too_long(file: str, source: str) -> list[str]:
    """What of a module is longer than the style allows."""
    lines = len(source.splitlines())
    found = [f"{file}: {lines} lines"] if lines > LONGEST_FILE else []
    for node in ast.walk(ast.parse(source)):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and code_lines(node) > LONGEST_FUNCTION:
            found.append(f"{file}: {node.name} has {code_lines(node)} lines")
    return found


def test_imports_follow_the_structure():
    assert [wrong for file, source in sources() for wrong in wrong_arrows(file, source)] == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("errors.py", "from latentood.stats import entropy"),
        ("stats/moments.py", "from latentood.detectors.base import Detector"),
        ("stats/moments.py", "from latentood import detectors"),
        ("stats/moments.py", "from ..detectors.base import Detector"),
        ("stats/moments.py", "from .. import detectors"),
        ("detectors/knn.py", "def fit():\n    import latentood.store.cache"),
        ("detectors/knn.py", "from torch.utils.data import DataLoader"),
        ("detectors/knn.py", "from torch.utils import data"),
        ("detectors/knn.py", "import torch.utils.data as data"),
        ("detectors/knn.py", "import faiss"),
        ("detectors/knn.py", "from latentood import detector"),
        ("evaluation/scoring.py", "from latentood.report import tracking"),
        ("report/table.py", "import mlflow.tracking"),
        ("report/results.py", "from latentood.cli import app"),
        ("extract/runner.py", "import zarr"),
        ("store/cache.py", "from latentood.extract import runner"),
        ("models/cifar.py", "from latentood.errors import ModelError"),
        ("models/cifar.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import mlflow"),
        ("data/arrays.py", "import latentood"),
        ("helpers/misc.py", ""),
    ],
)
def test_a_planted_wrong_import_is_caught(file, source):
    assert len(wrong_arrows(file, source)) >= 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("detectors/knn.py", "from latentood.stats.neighbours import search"),
        ("detectors/knn.py", "from . import base\nfrom .base import Detector\nimport torch"),
        ("stats/neighbours.py", "import faiss"),
        ("stats/neighbours_faiss.py", "import faiss"),
        (
            "store/shards.py",
            "from zarr.codecs import BloscCodec\nfrom latentood.store import schema",
        ),
        ("report/tracking.py", "import mlflow"),
        ("cli.py", "from latentood.report import tracking\nfrom latentood import __version__"),
    ],
)
def test_a_right_import_passes(file, source):
    assert wrong_arrows(file, source) == []


def test_files_and_functions_stay_short():
    assert [found for file, source in sources() for found in too_long(file, source)] == []


def test_a_planted_long_file_or_function_is_caught():
    body = "    x = 1\n" * LONGEST_FUNCTION
    long_function = f"def f():\n{body}"
    assert too_long("a.py", long_function) == [f"a.py: f has {LONGEST_FUNCTION + 1} lines"]
    shorter = long_function.removesuffix("    x = 1\n")
    assert too_long("a.py", shorter) == []
    assert too_long("a.py", shorter.replace("f():\n", 'f():\n    """A\n\n    B"""\n')) == []
    assert too_long("a.py", "x = 1\n" * LONGEST_FILE) == []
    assert too_long("a.py", "x = 1\n" * (LONGEST_FILE + 1)) == [f"a.py: {LONGEST_FILE + 1} lines"]


def test_every_room_of_the_structure_exists():
    rooms = {room_of(file) for file, _ in sources()}
    assert set(ARROWS) | set(EVERYWHERE) <= rooms, "a room was removed or renamed; correct ARROWS"
