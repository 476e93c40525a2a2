"""How much memory a comparison keeps, and that fitting stays within a bound."""

import subprocess
import sys

import pytest

from latentood.device import default_memory, parse_memory
from latentood.errors import ConfigError
from latentood.evaluation import memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("2GiB", 2 << 30), ("1.5 gib", 3 << 29), ("300MB", 300_000_000),
        ("64kib", 65536), ("1TiB", 1 << 40), (" 7 B ", 7),
    ],
)  # fmt: skip
def test_sizes_are_read_with_their_units(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "2GiBs", "2 G i B", "1e9", "nan", "GiB"])
def test_nonsense_is_refused_with_an_example(text):
    with pytest.raises(ConfigError) as caught:
        parse_memory(text)
    assert str(caught.value) == (
        f"memory: must be a number with a unit from B to TiB, got {text!r}; e.g. 512MiB or 2GiB"
    )


def test_by_default_it_is_a_quarter_of_what_is_free_and_at_most_4_gib(monkeypatch):
    monkeypatch.setattr(memory, "_of_system", lambda: 8 << 30)
    monkeypatch.setattr(memory, "_of_container", lambda: None)
    assert default_memory() == 2 << 30
    monkeypatch.setattr(memory, "_of_system", lambda: 512 << 30)
    assert default_memory() == 4 << 30
    monkeypatch.setattr(memory, "_of_container", lambda: 4 << 30)
    assert default_memory() == 1 << 30
    monkeypatch.undo()
    assert 0 < default_memory() <= 4 << 30


def test_fitting_streams_200_000_rows_in_less_memory_than_they_take():
    code = "from tests.benchmarks.memory import grown; print(grown(200_000, 512))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stored = 200_000 * 512 * 2
    # A block of 4,096 rows is 16 MiB in float64, of which a few exist at once; libraries that
    # load on first use, BLAS above all, take the rest.
    assert int(done.stdout) < (170 << 20) < stored
