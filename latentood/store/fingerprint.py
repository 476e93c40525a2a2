"""Fingerprints: short names for values, so that a cache can tell whether it is still theirs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latentood.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


def plain(value: Any) -> Any:
    """Give a value as JSON would give it back: tuples as lists, keys as texts.

    Raises:
        ConfigError: It is not JSON (NaN and infinity are not).
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"what is kept in a cache's metadata must be JSON, got {value!r} ({error}); "
            "give strings, finite numbers, lists and mappings"
        ) from None


def canonical(value: Any) -> str:
    """Write a JSON value in the one way that does not depend on the order of its keys."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """Give the SHA-256 of a JSON value in canonical form, as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Give the SHA-256 of named tensors, as 64 hex digits.

    Args:
        tensors: name → tensor of any dtype, on any device, e.g. a state dict.

    Returns:
        The hash over the sorted names with dtype, shape and bytes; the order of the mapping,
        the device and the strides do not matter.
    """
    import torch

    running = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous().reshape(-1)
        about = [name, str(tensor.dtype), list(tensors[name].shape)]
        running.update(canonical(about).encode())
        # NumPy has no bfloat16, but every dtype can be seen as bytes.
        running.update(tensor.view(torch.uint8).numpy().data)
    return running.hexdigest()
