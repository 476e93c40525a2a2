import pytest
import torch
from safetensors.torch import save_file

from latentood.testing.blobs import CLASSES, WIDTH, Blobs, make_blobs


@pytest.fixture(scope="session")
def blobs() -> Blobs:
    """Latents of a classifier that works, with far rows; treat as read-only."""
    return make_blobs()


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> str:
    """A file of embeddings of texts that lie as the blobs do: ID classes, and 400 other words."""
    path = tmp_path_factory.mktemp("texts") / "texts.safetensors"
    axes = torch.eye(WIDTH)
    noise = torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(3))
    words = axes[CLASSES + 1 :].repeat_interleave(40, dim=0)[:400] + 0.2 * noise
    save_file({"id": 2 * axes[:CLASSES] + axes[CLASSES], "negative": words}, path)
    return str(path)
