import pytest
import torch

from latentood.testing.blobs import Blobs, make_blobs


@pytest.fixture(scope="session")
def single() -> Blobs:
    """Blobs in float32, as a cache stores them; more rows, so that covariances are well off."""
    blobs = make_blobs(rows=1200, scored=200)
    return Blobs(*(split.cast(torch.float32) for split in (blobs.train, blobs.id, blobs.far)))
