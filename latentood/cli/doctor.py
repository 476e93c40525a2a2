"""What this installation can do: versions, GPU, FAISS build, disk, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "latentood", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "zarr", "numcodecs",
    "safetensors", "mlflow", "faiss-cpu", "faiss-gpu", "entropy_estimators",
)  # fmt: skip
_LOW_DISK = 5 * 2**30


def diagnose(folder: Path) -> dict[str, Any]:
    """Describe this installation, and the disk of a folder, as JSON values.

    ``packages`` is name → version or None; ``advice`` is sentences, empty if all is well.
    """
    packages = {name: _version(name) for name in _PACKAGES}
    gpu, faiss = _gpu(), _faiss()
    free = shutil.disk_usage(folder).free
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": packages,
        "gpu": gpu,
        "faiss": faiss,
        "disk_free_bytes": free,
        "advice": _advice(packages, gpu, faiss, free),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpu() -> dict[str, Any]:
    import torch

    driver = shutil.which("nvidia-smi") is not None
    if not torch.cuda.is_available():
        return {"available": False, "driver": driver, "built_for": torch.version.cuda}
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"available": True, "driver": driver, "built_for": torch.version.cuda, "names": names}


def _faiss() -> dict[str, Any]:
    try:
        import faiss
        import torch  # noqa: F401  (first: both bring an OpenMP runtime)
    except ImportError:
        return {"available": False}
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return {"available": True, "version": faiss.__version__, "gpus": gpus}


def _advice(
    packages: dict[str, str | None], gpu: dict[str, Any], faiss: dict[str, Any], free: int
) -> list[str]:
    advice = []
    if gpu["driver"] and not gpu["available"]:
        advice.append("nvidia-smi is there but torch sees no GPU; install a CUDA build of torch")
    if packages["faiss-cpu"] and packages["faiss-gpu"]:
        advice.append("faiss-cpu and faiss-gpu share the module faiss; uninstall one of them")
    if not faiss["available"]:
        advice.append(
            'FAISS is missing, exact torch search is used; install "latentood[cpu]" or "[gpu]"'
        )
    if free < _LOW_DISK:
        advice.append(f"only {free / 2**30:.1f} GiB of disk are free; choose another --store")
    return advice
