"""What all tests share: quiet surroundings, and the real data where it is there."""

import os
import zipfile
from pathlib import Path

# Set before anything is imported that reads them.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other

import pytest
import torch

torch.set_num_threads(2)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real CIFAR-10 and MNIST files; see tests marked ``heavy``."""
    beside = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("LATENTOOD_DATA", beside))
    if not (folder / "cifar10-jpeg.zip").is_file():
        pytest.skip(f"no cifar10-jpeg.zip in {folder}; name its folder with LATENTOOD_DATA")
    return folder


@pytest.fixture(scope="session")
def cifar10(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 as folders ``train`` and ``test``: 50 and 100 images of each class."""
    folder = tmp_path_factory.mktemp("cifar10")
    kept = {"train": 50, "test": 100}
    with zipfile.ZipFile(real_data / "cifar10-jpeg.zip") as archive:
        for member in archive.infolist():
            path = Path(member.filename)
            if path.suffix == ".jpg" and int(path.stem) < kept[path.parts[1]]:
                archive.extract(member, folder)
    return folder / "cifar10"
