"""The device to compute on, and the memory for data that was read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from pydantic import ByteSize, TypeAdapter

from latentood.errors import ConfigError

_SHARE = 0.25
_MOST = 4 << 30
_SIZE = re.compile(r"\d+(?:\.\d+)?\s*(?:[kmgt]i?b|b)?", re.IGNORECASE | re.ASCII)
"""Sizes as they may be written; pydantic alone also reads ``2 G of it`` and bits."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread of the CPU, so that no bit depends on the number of cores.

    Steps of small networks are faster so, too: threads would wait for each other most of the time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def resolve_device(name: str) -> torch.device:
    """Give the device to run on; ``auto`` is the first GPU, else the CPU.

    Raises:
        ConfigError: No such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {name!r}: cannot be used here ({reason}); use cpu or auto"
        ) from None
    return device


def parse_memory(text: str) -> int:
    """Read a size such as ``2GiB``, ``512 MB`` or ``0`` in bytes; ConfigError for anything else."""
    if _SIZE.fullmatch(text.strip()) is None:
        raise ConfigError(
            f"memory: must be a number with a unit from B to TiB, got {text!r}; e.g. 512MiB or 2GiB"
        )
    return TypeAdapter(ByteSize).validate_python(text.strip())


def default_memory() -> int:
    """Give a quarter of the memory that is free now, at most 4 GiB, in bytes."""
    return min(_MOST, int(_SHARE * free_memory()))


def free_memory(device: torch.device | None = None) -> int:
    """Give the bytes that can still be allocated, on a GPU or else on the CPU."""
    if device is not None and device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    limits = [psutil.virtual_memory().available, _of_container()]
    return min(size for size in limits if size is not None)


def _of_container() -> int | None:
    """Bytes that a control group leaves, which are not in the figure of the system."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # there is none, or it is "max"
        return None
