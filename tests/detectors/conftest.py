import pytest

from latentood.testing.blobs import Blobs, make_blobs


@pytest.fixture(scope="session")
def blobs() -> Blobs:
    """Latents of a classifier that works, with far rows; treat as read-only."""
    return make_blobs()
