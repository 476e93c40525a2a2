"""Where to compute, and how much memory there is to keep what was read."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from latentood import device
from latentood.device import default_memory, parse_memory, resolve_device
from latentood.errors import ConfigError


def test_the_device_is_the_one_that_was_named():
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_automatically_it_is_the_first_gpu_or_else_the_cpu(monkeypatch, there, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
def test_a_device_that_is_not_here_is_refused_in_one_line(name):
    with pytest.raises(ConfigError, match=rf"^device '{name}': cannot be used here \(.*\); use cp"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("2GiB", 2 << 30), ("1.5 gib", 3 << 29), ("300MB", 300_000_000),
        ("64kib", 65536), ("1TiB", 1 << 40), (" 7 B ", 7),
    ],
)  # fmt: skip
def test_sizes_are_read_with_their_units(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "2GiBs", "2 G i B", "1e9", "nan", "GiB",
                                  "2GiB or so", "2PiB", "8bit", "2G", ".5GiB"])  # fmt: skip
def test_nonsense_is_refused_with_an_example(text):
    with pytest.raises(ConfigError) as caught:
        parse_memory(text)
    assert str(caught.value) == (
        f"memory: must be a number with a unit from B to TiB, got {text!r}; e.g. 512MiB or 2GiB"
    )


def test_by_default_it_is_a_quarter_of_what_is_free_and_at_most_4_gib(monkeypatch):
    def free(size):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size))

    free(8 << 30)
    monkeypatch.setattr(device, "_of_container", lambda: None)
    assert default_memory() == 2 << 30
    free(512 << 30)
    assert default_memory() == 4 << 30
    monkeypatch.setattr(device, "_of_container", lambda: 4 << 30)
    assert default_memory() == 1 << 30
    monkeypatch.undo()
    assert 0 < default_memory() <= 4 << 30


@pytest.mark.parametrize(
    ("limit", "used", "left"),
    [("5000\n", "2000\n", 3000), ("5000\n", "6000\n", 0), ("max\n", "2000\n", None)],
)
def test_a_container_leaves_what_its_limit_leaves(monkeypatch, tmp_path, limit, used, left):
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(used)
    monkeypatch.setattr(device, "Path", lambda folder: tmp_path)
    assert device._of_container() == left


def test_without_a_container_there_is_no_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "Path", lambda folder: tmp_path / "none")
    assert device._of_container() is None
