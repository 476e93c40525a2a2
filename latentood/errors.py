"""Every error latentood raises on purpose, in one tree.

LatentOODError
├── ConfigError          (ValueError)  a pipeline file or a command-line value is wrong
├── UnknownName          (KeyError)    a key, split, layer or detector that does not exist
├── ForbiddenSplit       (PermissionError)  rows that are reported were asked for to choose on
├── ModelError           (ValueError)  weights, layers, head or stochastic modules do not fit
├── DataError            (ValueError)  an image, a label or a computed value is bad
├── DetectorError        (ValueError)  a detector cannot be fitted or scored with what it got
│   ├── MissingInput     (KeyError)    ... because an array it needs is not there
│   └── BadScores                      ... its scores are not finite, or not one for each row
├── StoreError           (OSError)     the cache on disk cannot be used as asked
│   ├── FingerprintMismatch            ... it holds the results of another run
│   ├── DamagedBlock                   ... its bytes are not those that were written
│   ├── IncompleteSplit                ... an extraction has not finished yet
│   ├── StoreLocked                    ... another process is writing
│   └── StoreFull                      ... the disk cannot hold the rest
└── TrackingError        (OSError)     a comparison cannot be tracked, or its UI not shown

Each message is one sentence with four facts (who, what is allowed, what it got, where) and
then the next step. The command line prints it without a traceback and exits with 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

# C0, DEL and C1 steer a terminal; a lone surrogate, from a file name, cannot be written as UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# A password may hold any character: up to the last @ of the word, so that no part of it is left.
_USER_INFO = re.compile(r"(?<=://)[^\s/:@]*(:\S*)?@")


class LatentOODError(Exception):
    """Root of all errors raised on purpose."""

    def __str__(self) -> str:
        """Give the message without passwords (``KeyError`` would show it in quotes)."""
        return masked(str(self.args[0])) if self.args else ""


class ConfigError(LatentOODError, ValueError):
    """A pipeline file or a command-line value is wrong."""


class UnknownName(LatentOODError, KeyError):
    """A key, split, layer or detector was named that does not exist."""


class ForbiddenSplit(LatentOODError, PermissionError):
    """Rows that are reported were asked for to choose settings on."""


class ModelError(LatentOODError, ValueError):
    """Weights, layers, head or stochastic modules do not fit the model."""


class DataError(LatentOODError, ValueError):
    """An image, a label or a value computed from them is bad."""


class DetectorError(LatentOODError, ValueError):
    """A detector cannot be fitted or scored with what it got."""


class MissingInput(DetectorError, KeyError):
    """A detector needs an array that is not there."""


class BadScores(DetectorError):
    """A detector gave scores that are not finite, or not one for each row."""


class StoreError(LatentOODError, OSError):
    """The cache on disk cannot be used as asked."""


class FingerprintMismatch(StoreError):
    """The store holds the results of another run."""


class DamagedBlock(StoreError):
    """The bytes of a block are not those that were written."""


class IncompleteSplit(StoreError):
    """A split has blocks that no extraction has committed yet."""


class StoreLocked(StoreError):
    """Another process is writing to the store."""


class StoreFull(StoreError):
    """The disk cannot hold the rest of the cache."""


class TrackingError(LatentOODError, OSError):
    """A comparison cannot be tracked, or its UI not shown."""


def suggest(name: str, known: Iterable[str]) -> str:
    """List the known names that are near a wrong one, or else all of them, to end a message."""
    options = sorted(set(known))
    near = difflib.get_close_matches(name, options, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    if not options:
        return "there are none"
    shown = ", ".join(repr(option) for option in options[:20])
    return f"known: {shown}{', …' if len(options) > 20 else ''}"


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """Build the error for a name that does not exist, with the nearest ones that do."""
    return UnknownName(f"no {kind} named {name!r}; {suggest(name, known)}")


def one_line(error: BaseException) -> str:
    """Write the message of any error on one line."""
    return " ".join(str(error).split())


def place_of(error: BaseException) -> str:
    """Name the line that raised an error: ``latentood/stats/linalg.py:41 in whitener``."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__", "")
    parts = Path(code.co_filename).parts[-1 - module.count(".") :]
    return f"{'/'.join(parts)}:{trace.tb_lineno} in {code.co_name}"


def printable(text: str) -> str:
    r"""Write control characters as escapes that can be seen, such as ``\x1b`` or ``\n``."""
    return _UNPRINTABLE.sub(lambda one: one[0].encode("unicode_escape").decode(), text)


def masked(text: str) -> str:
    """Hide the user and the password of every URI in a text: ``postgresql://***@host/db``."""
    return _USER_INFO.sub("***@", text)
