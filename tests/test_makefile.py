"""The Makefile, with a stand-in for Python that only writes down what it is asked to do."""

import os
import shutil
import stat
import subprocess

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

PYTEST = "python -m pytest --numprocesses auto --dist loadfile"
NO_GPU = "#!/bin/sh\nexit 1\n"
STAND_IN = """#!/bin/sh
echo "$(basename "$0")" "$@" >> {log}
case "$*" in
  *version_info*) exit {too_old} ;;
  --version) echo "Python 3.10.4" ;;
  "-m venv "*)
    mkdir -p "$3/bin"
    for name in python latentood ruff mypy mkdocs; do ln -sf {stand_in} "$3/bin/$name"; done ;;
esac
"""


class Checkout:
    """A folder with the Makefile and pyproject.toml, and a stand-in for every program."""

    def __init__(self, folder, repository, *, too_old=0):
        self.folder, self.log = folder, folder / "log"
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(repository / name, folder)
        self.stand_in = folder / "python3"
        stand_in = STAND_IN.format(log=self.log, stand_in=self.stand_in, too_old=too_old)
        self.program("python3", stand_in)
        self.program("nvidia-smi", NO_GPU)

    def program(self, name, script):
        path = self.folder / name
        path.write_text(script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def make(self, *targets):
        """Run make; gives it and the commands that the stand-ins were asked for."""
        self.log.write_text("")
        command = ["make", f"PYTHON={self.stand_in}", *targets]
        # Nothing else of the environment: these tests may run under make, with its variables.
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}"}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        return done, self.log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path, repository):
    return Checkout(tmp_path, repository)


def installs(commands):
    return [command.split()[-1] for command in commands if " install " in command]


def later(path):
    """Make a file look newer than everything that was made before."""
    newest = max(entry.stat().st_mtime for entry in path.parent.rglob("*"))
    os.utime(path, (newest + 5, newest + 5))


def test_bare_make_lists_the_targets_and_does_nothing_else(checkout):
    done, commands = checkout.make()
    listed = [line.split()[1] for line in done.stdout.splitlines()]
    assert {
        "demo",
        "test",
        "test-damage",
        "lint",
        "types",
        "docs",
        "check",
        "bench",
        "clean",
    } <= set(listed)
    assert commands == []


def test_make_demo_installs_and_runs_the_demo(checkout):
    done, commands = checkout.make("demo")
    assert done.returncode == 0, done.stderr
    assert installs(commands) == [".[cpu]"]
    assert commands[-1] == "latentood demo --out latentood-demo"


def test_a_second_call_installs_nothing(checkout):
    assert installs(checkout.make("test")[1]) == [".[cpu]", ".[cpu,test]", "facenet-pytorch==2.6.0"]
    done, commands = checkout.make("test")
    assert (done.returncode, installs(commands)) == (0, [])
    assert commands == [PYTEST]


def test_a_changed_pyproject_installs_anew(checkout):
    checkout.make("test")
    later(checkout.folder / "pyproject.toml")
    assert installs(checkout.make("test")[1]) == [".[cpu]", ".[cpu,test]"]


def test_check_runs_what_ci_runs(checkout, repository):
    _, commands = checkout.make("check")
    assert installs(commands) == [".[cpu]", ".[cpu,test]", "facenet-pytorch==2.6.0", ".[cpu,docs]"]
    ran = [command for command in commands if " pip " not in command]
    damage = "python -m pytest tests/store/test_damage.py"
    checks = ["ruff check .", "ruff format --check .", "mypy", "mkdocs build --strict"]
    assert ran[-6:] == [PYTEST, damage, *checks]
    script = (repository / ".ci" / "run").read_text()
    called = [line.split()[1:] for line in script.splitlines() if line.startswith("make ")]
    assert called == [["test"], ["test-damage", "lint", "types", "docs"]]


def test_with_an_nvidia_gpu_the_gpu_build_of_faiss_takes_the_place_of_the_other(checkout):
    checkout.make("demo")
    checkout.program("nvidia-smi", "#!/bin/sh\n")
    _, commands = checkout.make("demo")
    assert installs(commands) == [".[gpu]"]
    assert any(command.endswith("uninstall -qq --yes faiss-cpu") for command in commands)


def test_an_old_python_is_refused_with_what_to_do(tmp_path, repository):
    done, commands = Checkout(tmp_path, repository, too_old=1).make("test")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "is Python 3.10.4; name another: make PYTHON=" in done.stderr
    assert installs(commands) == []


def test_an_interrupted_install_is_tried_again(checkout):
    checkout.make("demo")
    (checkout.folder / ".venv" / ".installed-cpu").unlink()
    assert installs(checkout.make("demo")[1]) == [".[cpu]"]


def test_clean_keeps_the_environment_and_the_users_results(checkout):
    checkout.make("demo")
    for name in ("site", "latentood-demo", "caches", "src/__pycache__", ".venv/lib/__pycache__"):
        (checkout.folder / name).mkdir(parents=True)
    checkout.make("clean")
    left = {path.name for path in checkout.folder.iterdir()}
    assert left.isdisjoint({"site", "latentood-demo"})
    assert {"caches", ".venv"} <= left
    assert not (checkout.folder / "src" / "__pycache__").exists()
    assert (checkout.folder / ".venv" / "lib" / "__pycache__").exists()
