"""How much memory a comparison may use to keep what it has read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from latentood.errors import ConfigError

_SHARE = 0.25
_MOST = 4 << 30
_UNKNOWN = 4 << 30
"""Memory assumed where the system does not tell: a quarter of it is 1 GiB."""

_UNITS = {"": 1, "b": 1} | {
    prefix + unit: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for unit, base in (("b", 1000), ("ib", 1024))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_memory(text: str) -> int:
    """Read a size such as ``2GiB``, ``512 MB`` or ``0``.

    Returns:
        Bytes.

    Raises:
        ConfigError: It is no such size.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ConfigError(
            f"memory: must be a number with a unit from B to TiB, got {text!r}; e.g. 512MiB or 2GiB"
        )
    return int(float(found[1]) * _UNITS[found[2]])


def default_memory() -> int:
    """Give a quarter of the memory that is free now, at most 4 GiB, in bytes."""
    return min(_MOST, int(_SHARE * _available()))


def _available() -> int:
    """Bytes that this process could use; of a container, those of its limit."""
    sizes = [size for size in (_of_system(), _of_container()) if size is not None]
    return min(sizes, default=_UNKNOWN)


def _of_system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None


def _of_container() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # there is none, or it is "max"
        return None
