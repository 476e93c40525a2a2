"""Where the numbers of a comparison come from."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from latentood.latents.splits import Splits

_RECORDED = ("latentood", "numpy", "scipy", "scikit-learn")


def provenance_of(splits: Splits, device: torch.device) -> dict[str, Any]:
    """Collect, as JSON values, what a reader needs to trace and to repeat a comparison."""
    header = splits.header
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "pipeline": dict(header.pipeline),
        "fingerprint": dict(header.fingerprint),
        "digest": header.digest,
        "weights": header.fingerprint.get("weights"),
        "seed": header.fingerprint.get("seed"),
        "splits": {
            name: {"role": facts.role, "rows": len(splits[name]), "data": dict(facts.data)}
            for name, facts in splits.splits.items()
            if facts.role != "tune"  # only a choice of settings may open it
        },
        "versions": {
            "extract": dict(header.versions),
            "score": {name: version(name) for name in _RECORDED}
            | {"python": platform.python_version(), "torch": torch.__version__},
        },
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }
